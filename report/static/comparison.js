// The comparison page: curves of several runs over each other.

const PALETTE = 8;
const runs = pageData("runs");
const hidden = new Set();
const runColor = (index) => `--run-${index % PALETTE}`;

/** One panel per quantity; a validation curve is bold over its faint training curve. */
function overlaid() {
  const panels = new Map();
  for (const run of runs.filter((r) => !hidden.has(r.index))) {
    for (const panel of run.panels) {
      if (!panels.has(panel.key)) panels.set(panel.key, { ...panel, lines: [] });
      panels.get(panel.key).lines.push(...panel.series.map((series) => lineOf(run, panel, series)));
    }
  }
  return [...panels.values()];
}

function lineOf(run, panel, series) {
  const both = panel.series.length > 1;
  return {
    ...series,
    label: both ? `${run.name} ${series.label}` : run.name,
    color: runColor(run.index),
    faint: both && series.label === "train",
    dash: run.group === runs[0].group ? undefined : [6, 4],
  };
}

for (const swatch of document.querySelectorAll("[data-run]")) {
  swatch.style.background = `var(${runColor(Number(swatch.dataset.run))})`;
}
const series = runs.flatMap((run) => run.panels.flatMap((panel) => panel.series));
const redraw = drawCurves(document.getElementById("curves"), overlaid);
const groups = new Set(runs.map((run) => run.group));
document.getElementById("curves-note").textContent =
  curvesNote(series, []) + (groups.size > 1 ? ` Dashed: trained on other data than ${runs[0].name}.` : "");
for (const run of runs) {
  const swatch = el("span", { class: "swatch" });
  swatch.style.background = `var(${runColor(run.index)})`;
  const button = el("button", { type: "button", "aria-pressed": "true" }, swatch, run.name);
  toggle(button, (shown) => { hidden[shown ? "delete" : "add"](run.index); redraw(); });
  document.getElementById("legend").append(button);
}
