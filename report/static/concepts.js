// Labels: the units that tell each best and worst, with places where they are right and wrong.

const PLACES = [["hit", "Right", "it fires, and the label holds"], ["false_alarm", "False alarm", "it fires without the label"], ["miss", "Missed", "the label holds, and it is silent"]];

/** Fills a label's details when they are first opened. */
function startConcepts(root, data) {
  for (const details of root.querySelectorAll("[data-label-place]")) {
    details.addEventListener("toggle", () => {
      const body = details.querySelector(".concept-body");
      if (details.open && !body.hasChildNodes()) body.append(...conceptNodes(data.labels[Number(details.dataset.labelPlace)], data));
    });
  }
  explainTokens(root, data.vocab, () => {});
}

function conceptNodes(label, data) {
  const part = (title, note, units) => el("div", { class: "concept-part" },
    el("h3", {}, title, el("span", {}, note)),
    ...(units.length ? units.map((unit) => conceptUnit(unit, data)) : [el("p", { class: "note" }, "No unit of the sites is active often enough.")]));
  return [
    part("Told best", "by these units, chosen on half A of the files", label.best),
    part("Told worst", "of the tenth of units that fire most often", label.worst),
  ];
}

function conceptUnit(unit, data) {
  const name = `${unit.site} / ${unit.unit}`;
  const shown = data.sites.some((site) => site.name === unit.site && site.units.some((other) => other.unit === unit.unit));
  const head = shown ? el("a", { href: `#unit=${unit.site}/${unit.unit}` }, name) : el("b", {}, name);
  const figure = (what, value) => el("span", {}, `${what} `, el("b", {}, number(value, 3)));
  const scale = unit.contexts.flatMap((context) => context.values).reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return el("div", { class: "concept-unit" },
    el("div", { class: "concept-head" }, head, figure("F1", unit.f1), figure("precision", unit.precision), figure("recall", unit.recall),
      el("span", {}, unit.sign < 0 ? `fires below ${number(-unit.threshold, 3)}` : `fires above ${number(unit.threshold, 3)}`)),
    ...PLACES.flatMap(([kind, title, about]) => unit.contexts.filter((context) => context.kind === kind).map((context) => conceptPlace(context, title, about, data.vocab, scale))));
}

function conceptPlace(context, title, about, vocab, scale) {
  return el("div", { class: "quote" },
    el("div", { class: "source" }, el("span", { title: context.document }, el("b", { title: about }, title), ` · ${context.document}`), el("span", {}, number(context.values[context.center] ?? 0, 3))),
    contextNode(context, vocab, { scale }));
}
