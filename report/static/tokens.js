// Token text: white space made visible without changing what is copied, and heat by activation.

const GLYPHS = { " ": "·", "\t": "→", "\u00a0": "⍽" };
// Control, zero-width and direction-changing characters would hide or reorder what stands beside them.
const ODD = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/;

/** Token text as nodes. The true characters stay in the page, so selecting and copying gives them. */
function tokenNodes(text) {
  const nodes = [];
  let plain = "";
  const flush = () => { if (plain) nodes.push(plain); plain = ""; };
  for (const char of text) {
    const marked = markedCharacter(char);
    if (!marked) { plain += char; continue; }
    flush();
    nodes.push(marked);
  }
  flush();
  return nodes;
}

function markedCharacter(char) {
  if (char === "\n") return el("span", { class: "nl", "data-glyph": "↵" }, el("span", {}, "\n"));
  if (char in GLYPHS) return el("span", { class: "ws", "data-glyph": GLYPHS[char] }, char);
  if (!ODD.test(char)) return null;
  const code = char.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
  return el("span", { class: "odd", "data-glyph": `U+${code}` }, char);
}

/** One line that shows a token in a label or tooltip, quotes included. */
function tokenLabel(text) {
  const visible = [...text].map((char) => (ODD.test(char) ? `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}` : char));
  return `“${visible.join("").replaceAll("\n", "↵").replaceAll("\t", "→").replaceAll(" ", "·")}”`;
}

/** A context as a line of tokens, colored by activation relative to `scale`. */
function contextNode(context, vocab, { scale, from = 0, to = context.tokens.length, hit = "" }) {
  const line = el("div", { class: "context" });
  for (let i = from; i < to; i++) {
    const text = vocab[context.tokens[i]];
    const value = context.values[i] ?? 0;
    const found = hit && text.toLowerCase().includes(hit);
    const names = ["tok", i === context.center && "center", found && "hit", context.holds?.[i] && "holds"].filter(Boolean).join(" ");
    const token = el("span", { class: names, "data-id": context.tokens[i], "data-value": value }, ...tokenNodes(text));
    warm(token, value, scale);
    line.append(token);
  }
  return line;
}

function warm(token, value, scale) {
  if (!value || !scale) return;
  token.dataset.heat = value > 0 ? "up" : "down";
  const strength = Math.min(1, Math.abs(value) / scale);
  token.style.setProperty("--warmth", (0.1 + 0.9 * strength).toFixed(3));
}

/** A button that shows a token and looks for the units that fire on it. */
function tokenChip(id, vocab, search) {
  const text = vocab[id];
  const title = `${tokenLabel(text)}, token ${id}: find units that fire on it`;
  return el("button", { type: "button", class: "chip", title, "aria-label": title, onclick: () => search(text) }, ...tokenNodes(text));
}

/** The page's tooltip for all tokens beneath `root`; a click on a token calls `search` with its text. */
function explainTokens(root, vocab, search) {
  const tip = document.querySelector(".tooltip") ?? el("div", { class: "tooltip", role: "status", hidden: "" });
  document.body.append(tip);
  root.addEventListener("pointerover", (event) => {
    const token = event.target.closest(".tok");
    tip.hidden = !token;
    if (token) showTip(tip, token, vocab);
  });
  root.addEventListener("pointerleave", () => { tip.hidden = true; });
  root.addEventListener("scroll", () => { tip.hidden = true; }, { capture: true, passive: true });
  root.addEventListener("click", (event) => {
    const token = event.target.closest(".pane-unit .tok");
    if (!token || !getSelection().isCollapsed) return;
    tip.hidden = true;
    search(vocab[token.dataset.id]);
  });
  root.addEventListener("copy", copyTrueText);
}

function showTip(tip, token, vocab) {
  const id = token.dataset.id;
  tip.replaceChildren(el("b", {}, tokenLabel(vocab[id])), el("span", {}, `activation ${number(Number(token.dataset.value))} · token ${id}`));
  const place = token.getBoundingClientRect();
  const left = Math.min(place.left, innerWidth - tip.offsetWidth - 8);
  const above = place.top - tip.offsetHeight - 6;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${above > 8 ? above : place.bottom + 6}px`;
}

/** A browser copies what it displays; a context's newlines may be displayed as glyphs only. */
function copyTrueText(event) {
  const selection = getSelection();
  if (selection.isCollapsed) return;
  const range = selection.getRangeAt(0);
  const around = range.commonAncestorContainer;
  if (!(around.nodeType === Node.ELEMENT_NODE ? around : around.parentElement).closest(".context")) return;
  event.clipboardData.setData("text/plain", range.cloneContents().textContent);
  event.preventDefault();
}
