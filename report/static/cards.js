// A unit's card in the list or grid: its number, one figure, and a glimpse of its strongest context.

const LIST_ROW = { columns: 1, height: 62, gap: 0 };
const GRID_CARD = { width: 250, height: 108, gap: 12 };
const GLIMPSE = { letters: 14, after: 12 };

function cardLayout(mode, width) {
  if (mode === "list") return LIST_ROW;
  const { width: least, height, gap } = GRID_CARD;
  return { columns: Math.max(1, Math.floor((width - gap) / (least + gap))), height, gap };
}

function unitCard({ entry, why }, vocab, { sort, hit }) {
  const { site, unit } = entry;
  const head = el("div", { class: "card-head" }, el("b", {}, String(unit.unit)), el("span", { class: "layer" }, site.name));
  if (why && why !== "id") head.append(el("span", { class: "why" }, Object.fromEntries(WAYS)[why]));
  head.append(el("span", { class: "figure" }, figureText(unit, sort)));
  const peaks = el("div", { class: "peaks" }, ...peakTokens(unit, 4).map((id) => el("span", { class: "chip" }, ...tokenNodes(vocab[id]))));
  return el("div", { class: "card" }, head, peaks, glimpse(unit, vocab, hit));
}

function figureText(unit, sort) {
  const value = SORTS[sort][1](unit);
  if (sort === "unit") return share(unit.density);
  return sort === "density" || sort === "top" ? share(value) : number(value, 3);
}

/** Some tokens around the center of the context that shows best why the unit is here. */
function glimpse(unit, vocab, hit) {
  const contexts = unit.contexts ?? [];
  const holds = (c) => hit && c.tokens.some((id, i) => c.values[i] && vocab[id].toLowerCase().includes(hit));
  const context = contexts.find(holds) ?? contexts[0];
  if (!context) return null;
  const from = glimpseStart(context, vocab);
  const to = Math.min(context.tokens.length, context.center + GLIMPSE.after);
  return contextNode(context, vocab, { scale: unitScale(unit), from, to, hit });
}

/** Few enough letters before the center that the center is in sight. */
function glimpseStart(context, vocab) {
  let from = context.center;
  let letters = 0;
  while (from > 0 && letters + vocab[context.tokens[from - 1]].length <= GLIMPSE.letters) {
    from--;
    letters += vocab[context.tokens[from]].length;
  }
  return from;
}

/** The largest magnitude a unit's heat is relative to. */
function unitScale(unit) {
  const shown = (unit.contexts ?? []).flatMap((c) => c.values).reduce((m, v) => Math.max(m, Math.abs(v)), 0);
  return Math.max(unit.max ?? 0, shown);
}
