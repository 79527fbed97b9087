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
    this.panel.addEventListener("keydown", (event) => { if (event.key === "Escape") this.key(event); });
    this.draw("kind");
    this.drawTools();
    this.showEdges(this.shown);
    this.showNode();
    explainTokens(this.panel, { ...circuit.vocab, ...units?.vocab }, () => {});
  }

  /** Put the drawing by kind, or by position, into the page. */
  draw(by) {
    this.canvas.replaceChildren(this.article.querySelector(`template[data-by="${by}"]`).content.cloneNode(true));
    this.drawing = this.canvas.querySelector("svg");
    // A prompt of many tokens shrinks a little to fit, and is scrolled where that is not enough.
    if (by === "position") this.drawing.style.minWidth = `${0.8 * this.drawing.viewBox.baseVal.width}px`;
    this.chips = [...this.drawing.querySelectorAll("[data-node]")];
    this.places = this.chips.map((chip) => chip.transform.baseVal[0].matrix).map(({ e, f }) => ({ x: e, y: f }));
    this.lines = [...this.drawing.querySelectorAll(".edge[data-rank], .stream")];
    // The edges of the chosen node lie over all others, and over the nodes they pass.
    this.front = svg("g", { class: "drawing-front", fill: "none" });
    this.drawing.querySelector(".drawing-nodes").before(this.front);
    if (this.chips.length) this.chips[0].setAttribute("tabindex", "0");
    this.wire();
  }

  wire() {
    this.drawing.addEventListener("click", (event) => {
      const chip = event.target.closest("[data-node]");
      this.choose(chip ? Number(chip.dataset.node) : -1, { link: true });
    });
    this.drawing.addEventListener("keydown", (event) => this.key(event));
  }

  key(event) {
    const at = Number(event.target.closest("[data-node]")?.dataset.node ?? this.chosen);
    if (event.key === "Escape") { this.choose(-1); this.chips[Math.max(at, 0)]?.focus(); }
    else if (event.key === "Enter" || event.key === " ") this.choose(at, { link: true });
    else if (event.key in STEPS) this.choose(neighbour(this.places, at, STEPS[event.key]), { link: true, focus: true });
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
    if (this.article.querySelector('template[data-by="position"]')) parts.push(this.byPosition());
    if (this.circuit.stream.length) {
      const stream = this.streamButton = el("button", { type: "button", "aria-pressed": "false", title: "Channels of the residual stream that one layer writes and a later one reads" }, "Residual stream");
      toggle(stream, (pressed) => this.drawing.classList.toggle("with-stream", pressed));
      parts.push(stream);
    }
    this.article.querySelector(".circuit-tools").append(...parts, find);
  }

  byPosition() {
    const button = el("button", { type: "button", "aria-pressed": "false", title: "Columns are the tokens of the prompt; a node stands where it departs most from its base" }, "By position");
    toggle(button, (pressed) => {
      this.draw(pressed ? "position" : "kind");
      this.drawing.classList.toggle("with-stream", this.streamButton?.getAttribute("aria-pressed") === "true");
      this.showEdges(this.shown);
      this.choose(this.chosen);
    });
    return button;
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
    this.front.replaceChildren(...mine, ...this.elsewhere(index));
    this.drawing.classList.toggle("focused", index >= 0);
    this.chips.forEach((chip, i) => {
      chip.classList.toggle("chosen", i === index);
      chip.classList.toggle("near", near.has(i));
      chip.setAttribute("aria-pressed", String(i === index));
      chip.setAttribute("tabindex", i === Math.max(index, 0) ? "0" : "-1");
    });
    if (focus) this.chips[index]?.focus();
    if (index >= 0) this.reveal(this.chips[index]);
    if (link) history.replaceState(null, "", circuitHash(this.circuit.slug, this.circuit.nodes[index]?.id));
    this.showNode();
  }

  /** Marks at the other tokens where a node departs from its base by half as much or more. */
  elsewhere(index) {
    const heads = [...this.drawing.querySelectorAll("[data-token]")];
    const node = this.circuit.nodes[index];
    if (!heads.length || !node?.values.length) return [];
    const apart = node.values.map((value) => Math.abs(value - (node.base ?? 0)));
    const most = Math.max(...apart);
    const column = (token) => heads.findLast((head) => Number(head.dataset.token) <= token);
    const own = column(apart.indexOf(most));
    const marked = new Set(apart.flatMap((size, token) => (size >= most / 2 ? [column(token)] : [])));
    marked.delete(own);
    return [...marked].map((head) => svg("circle", { class: "elsewhere", cx: head.dataset.x, cy: this.places[index].y, r: 5 }));
  }

  /** Scroll a wide drawing, and not the page, to a chip. */
  reveal(chip) {
    const [box, view] = [chip, this.canvas].map((node) => node.getBoundingClientRect());
    if (box.left < view.left || box.right > view.right) this.canvas.scrollLeft += box.left - view.left - view.width / 2;
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
function neighbour(places, from, [dx, dy]) {
  const start = places[from];
  let best = from;
  let least = Infinity;
  places.forEach(({ x, y }, i) => {
    const ahead = (x - start.x) * dx + (y - start.y) * dy;
    const aside = Math.abs((x - start.x) * dy) + Math.abs((y - start.y) * dx);
    if (ahead > 0.5 && ahead + 3 * aside < least) { least = ahead + 3 * aside; best = i; }
  });
  return best;
}
