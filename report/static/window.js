// A scrolling list or grid of any length that only keeps the visible cards in the page.

const SPARE = 4; // rows drawn beyond each edge

class CardWindow {
  /** `card(item)` makes a card; `layout(width)` says {columns, height, gap}; `choose(index)` on click. */
  constructor(box, { card, layout, choose }) {
    Object.assign(this, { box, card, layout, items: [], chosen: -1, drawn: new Map() });
    this.inner = el("div", { class: "window-inner" });
    box.append(this.inner);
    box.addEventListener("scroll", () => this.draw(), { passive: true });
    box.addEventListener("click", (event) => {
      const node = event.target.closest("[data-index]");
      if (node) choose(Number(node.dataset.index));
    });
    new ResizeObserver(() => this.reset()).observe(box);
  }

  show(items) {
    this.items = items;
    this.chosen = -1;
    this.box.scrollTop = 0;
    this.reset();
  }

  reset() {
    this.drawn.forEach((node) => node.remove());
    this.drawn.clear();
    this.draw();
  }

  draw() {
    const width = this.box.clientWidth;
    if (!width) return;
    const { columns, height, gap } = (this.grid = this.layout(width));
    const rows = Math.ceil(this.items.length / columns);
    this.inner.style.height = `${rows * (height + gap) + gap}px`;
    const first = Math.max(0, Math.floor(this.box.scrollTop / (height + gap)) - SPARE) * columns;
    const visible = Math.ceil(this.box.clientHeight / (height + gap)) + 2 * SPARE;
    const last = Math.min(this.items.length, first + visible * columns);
    for (const [index, node] of this.drawn) {
      if (index < first || index >= last) { node.remove(); this.drawn.delete(index); }
    }
    const side = (width - gap * (columns + 1)) / columns;
    for (let index = first; index < last; index++) if (!this.drawn.has(index)) this.place(index, side);
  }

  place(index, side) {
    const { columns, height, gap } = this.grid;
    const node = this.card(this.items[index]);
    const marks = { id: `card-${index}`, "data-index": index, role: "option", "aria-selected": index === this.chosen, "aria-setsize": this.items.length, "aria-posinset": index + 1 };
    for (const [name, value] of Object.entries(marks)) node.setAttribute(name, value);
    Object.assign(node.style, { width: `${side}px`, height: `${height}px`, left: `${gap + (index % columns) * (side + gap)}px`, top: `${gap + Math.floor(index / columns) * (height + gap)}px` });
    this.inner.append(node);
    this.drawn.set(index, node);
  }

  /** Marks a card and, unless told not to, scrolls it into view; -1 marks none. */
  choose(index, { reveal = true } = {}) {
    this.drawn.get(this.chosen)?.setAttribute("aria-selected", "false");
    this.chosen = index;
    if (index < 0) return this.box.removeAttribute("aria-activedescendant");
    if (reveal) this.reveal(index);
    this.draw();
    this.drawn.get(index)?.setAttribute("aria-selected", "true");
    this.box.setAttribute("aria-activedescendant", `card-${index}`);
  }

  reveal(index) {
    if (!this.grid) return;
    const { columns, height, gap } = this.grid;
    const top = Math.floor(index / columns) * (height + gap);
    const { scrollTop, clientHeight } = this.box;
    if (top < scrollTop - clientHeight || top > scrollTop + 2 * clientHeight) this.box.scrollTop = top - clientHeight / 2;
    else if (top < scrollTop) this.box.scrollTop = top;
    else if (top + height + 2 * gap > scrollTop + clientHeight) this.box.scrollTop = top + height + 2 * gap - clientHeight;
  }

  /** How many cards a key moves; null for keys that do not move. */
  stride(key) {
    const { columns } = this.grid ?? { columns: 1 };
    const page = Math.max(1, Math.floor(this.box.clientHeight / ((this.grid?.height ?? 64) + 1)) - 1) * columns;
    const far = this.items.length;
    const strides = { ArrowDown: columns, ArrowUp: -columns, j: columns, k: -columns, PageDown: page, PageUp: -page, Home: -far, End: far };
    if (columns > 1) Object.assign(strides, { ArrowRight: 1, ArrowLeft: -1 });
    return strides[key] ?? null;
  }
}
