// Small tools every page uses. Text from a run is only ever set as text, never parsed as markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes and children; a string child becomes a text node. */
function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") node.addEventListener("click", value);
    else if (value !== null && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** What the page's JSON element of this name holds; null where there is none. */
function pageData(name) {
  const node = document.getElementById(`data-${name}`);
  return node ? JSON.parse(node.textContent) : null;
}

/** The value of a custom property, which follows the color scheme. */
function cssColor(name, alpha = 1) {
  const value = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  return alpha === 1 ? value : `color-mix(in srgb, ${value} ${Math.round(alpha * 100)}%, transparent)`;
}

/** A number with a few significant digits. */
function number(value, digits = 4) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e9)) return value.toExponential(digits - 2).replaceAll("-", "−");
  const options = Number.isInteger(value) ? {} : { maximumSignificantDigits: digits };
  return value.toLocaleString("en-US", options).replace("-", "−");
}

/** 12300000 as 12.3M. */
function count(value) {
  for (const [size, letter] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (Math.abs(value) >= size) return `${Number((value / size).toPrecision(3))}${letter}`;
  }
  return number(value, 3);
}

/** 0.012 as 1.2 %. */
function share(value) {
  if (value === null || value === undefined) return "–";
  return value >= 0.9995 ? "100 %" : `${(100 * value).toLocaleString("en-US", { maximumSignificantDigits: 3 })} %`;
}

/** Calls `then` with the pressed state whenever a toggle button changes. */
function toggle(button, then) {
  button.addEventListener("click", () => {
    const pressed = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(pressed));
    then(pressed);
  });
}
