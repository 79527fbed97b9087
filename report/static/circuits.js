// Circuits: which one is open, its drawing, and the node that is looked at.

const FIRST_EDGES = 250;

function startCircuits(section, circuits, units) {
  const views = new Map();
  const articles = new Map([...section.querySelectorAll("article")].map((node) => [node.dataset.circuit, node]));
  const buttons = [...section.querySelectorAll(".circuit-open")];

  function view(slug) {
    const index = circuits.findIndex((circuit) => circuit.slug === slug);
    if (index < 0) return null;
    if (!views.has(slug)) views.set(slug, new CircuitView(articles.get(slug), circuits[index], units));
    return views.get(slug);
  }

  function open(slug) {
    const found = view(slug);
    if (!found) return null;
    articles.forEach((node, key) => { node.hidden = key !== slug; });
    buttons.forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.circuit === slug)));
    return found;
  }

  function followHash() {
    const wanted = hashCircuit(location.hash);
    if (!wanted) return;
    const found = open(wanted.slug);
    if (found && wanted.node) found.choose(found.circuit.nodes.findIndex((node) => node.id === wanted.node));
    (found ? articles.get(wanted.slug) : section).scrollIntoView({ behavior: "instant" });
  }

  buttons.forEach((button) => button.addEventListener("click", () => {
    open(button.dataset.circuit);
    history.replaceState(null, "", circuitHash(button.dataset.circuit));
  }));
  addEventListener("hashchange", followHash);
  open(circuits[0].slug);
  followHash();
}

function circuitHash(slug, node) {
  return `#circuit=${encodeURIComponent(slug)}${node ? `/${encodeURIComponent(node)}` : ""}`;
}

/** {slug, node} of a link, or null where the link names no circuit. */
function hashCircuit(hash) {
  if (!hash.startsWith("#circuit=")) return null;
  try {
    const [slug, node] = hash.slice(9).split("/").map(decodeURIComponent);
    return { slug, node };
  } catch {
    return null;
  }
}

class CircuitView {
  constructor(article, circuit, units) {
    Object.assign(this, { article, circuit, units, chosen: -1, shown: Math.min(FIRST_EDGES, circuit.edges.length) });
    this.canvas = article.querySelector(".circuit-canvas");
    this.panel = article.querySelector(".circuit-panel");
    this.canvas.append(article.querySelector("template").content.cloneNode(true));
    this.drawing = this.canvas.querySelector("svg");
    this.chips = [...this.drawing.querySelectorAll("[data-node]")];
    this.lines = [...this.drawing.querySelectorAll(".edge[data-rank], .stream")];
    // The edges of the chosen node lie over all others, and over the nodes they pass.
    this.front = svg("g", { class: "drawing-front", fill: "none" });
    this.drawing.querySelector(".drawing-nodes").before(this.front);
    this.wire();
    this.drawTools();
    this.showEdges(this.shown);
    this.showNode();
    if (this.chips.length) this.chips[0].setAttribute("tabindex", "0");
    explainTokens(this.panel, { ...circuit.vocab, ...units?.vocab }, () => {});
  }

  wire() {
    this.drawing.addEventListener("click", (event) => {
      const chip = event.target.closest("[data-node]");
      this.choose(chip ? Number(chip.dataset.node) : -1, { link: true });
    });
    this.drawing.addEventListener("keydown", (event) => this.key(event));
    this.panel.addEventListener("keydown", (event) => { if (event.key === "Escape") this.key(event); });
  }

  key(event) {
    const at = Number(event.target.closest("[data-node]")?.dataset.node ?? this.chosen);
    if (event.key === "Escape") { this.choose(-1); this.chips[Math.max(at, 0)]?.focus(); }
    else if (event.key === "Enter" || event.key === " ") this.choose(at, { link: true });
    else if (event.key in STEPS) this.choose(neighbour(this.circuit.nodes, at, STEPS[event.key]), { link: true, focus: true });
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  drawTools() {
    const total = this.circuit.edges.length;
    this.slider = el("input", { type: "range", min: 0, max: total, value: this.shown, "aria-label": "Edges drawn, strongest first" });
    this.count = el("output", {});
    this.slider.addEventListener("input", () => this.showEdges(Number(this.slider.value)));
    const find = el("input", { type: "search", class: "find", placeholder: "Node, mlp:17", "aria-label": "Find a node", autocomplete: "off", spellcheck: "false" });
    find.addEventListener("input", () => this.find(find.value));
    const parts = [total ? el("label", {}, "Edges", this.slider, this.count) : el("span", {}, "This file lists no edges.")];
    if (this.circuit.stream.length) {
      const stream = el("button", { type: "button", "aria-pressed": "false", title: "Channels of the residual stream that one layer writes and a later one reads" }, "Residual stream");
      toggle(stream, (pressed) => this.drawing.classList.toggle("with-stream", pressed));
      parts.push(stream);
    }
    this.article.querySelector(".circuit-tools").append(...parts, find);
  }

  showEdges(n) {
    this.shown = n;
    this.count.textContent = `${number(n)} of ${number(this.circuit.edges.length)}`;
    for (const line of this.lines) if (line.dataset.rank !== undefined) line.classList.toggle("off", Number(line.dataset.rank) >= n);
  }

  find(text) {
    const wanted = text.trim().toLowerCase();
    if (!wanted) return;
    const names = this.circuit.nodes.map((node) => node.id.toLowerCase());
    const exact = names.findIndex((name) => name === wanted || name.endsWith(`.${wanted}`));
    this.choose(exact >= 0 ? exact : names.findIndex((name) => name.includes(wanted)), { link: true });
  }

  /** Look at a node, or at none: its edges come forward and its panel opens. */
  choose(index, { link = false, focus = false } = {}) {
    this.chosen = index;
    const near = new Set();
    const mine = [];
    for (const line of this.lines) {
      const ends = [Number(line.dataset.source), Number(line.dataset.target)];
      if (index < 0 || !ends.includes(index)) continue;
      ends.forEach((end) => near.add(end));
      mine.push(line.cloneNode(false));
    }
    widen(mine, this.circuit.edges);
    this.front.replaceChildren(...mine);
    this.drawing.classList.toggle("focused", index >= 0);
    this.chips.forEach((chip, i) => {
      chip.classList.toggle("chosen", i === index);
      chip.classList.toggle("near", near.has(i));
      chip.setAttribute("aria-pressed", String(i === index));
      chip.setAttribute("tabindex", i === Math.max(index, 0) ? "0" : "-1");
    });
    if (focus) this.chips[index]?.focus();
    if (link) history.replaceState(null, "", circuitHash(this.circuit.slug, this.circuit.nodes[index]?.id));
    this.showNode();
  }

  showNode() {
    const go = (index) => this.choose(index, { link: true });
    this.article.querySelector(".circuit-example").replaceChildren(...exampleParts(this.circuit, this.circuit.nodes[this.chosen]));
    this.panel.replaceChildren(...nodePanel(this.circuit, this.chosen, this.units, go));
    this.panel.scrollTop = 0;
    // The panel scrolls by itself rather than stretch the page far below the drawing.
    this.panel.style.setProperty("--drawn", `${contentHeight(this.article.querySelector(".circuit-view"))}px`);
  }
}

/** How high the parts of a box are together; the box itself may be stretched. */
function contentHeight(box) {
  return [...box.children].reduce((sum, child) => sum + child.offsetHeight, 0);
}

/** Widths of the edges of one node, relative to the strongest of them. */
function widen(lines, edges) {
  const strength = (line) => Math.abs(edges[line.dataset.rank]?.[2] ?? edges[line.dataset.rank]?.[3] ?? 0);
  const largest = Math.max(...lines.map(strength), 1e-12);
  for (const line of lines) if (line.dataset.rank !== undefined) line.setAttribute("stroke-width", (0.9 + (2.6 * strength(line)) / largest).toFixed(2));
}

const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** The nearest node in a direction: far to the side counts more than far ahead. */
function neighbour(nodes, from, [dx, dy]) {
  const start = nodes[from];
  let best = from;
  let least = Infinity;
  nodes.forEach((node, i) => {
    const ahead = (node.x - start.x) * dx + (node.y - start.y) * dy;
    const aside = Math.abs((node.x - start.x) * dy) + Math.abs((node.y - start.y) * dx);
    if (ahead > 0.5 && ahead + 3 * aside < least) { least = ahead + 3 * aside; best = i; }
  });
  return best;
}
