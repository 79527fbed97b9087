// The comparison page: curves of several runs over each other.

const PALETTE = 8;
const runs = pageData("runs");
const hidden = new Set();
const runColor = (index) => `--run-${index % PALETTE}`;

/** One panel per quantity and kind of row, with a line for each run that is shown. */
function overlaid() {
  const panels = new Map();
  for (const run of runs.filter((r) => !hidden.has(r.index))) {
    for (const panel of run.panels) {
      for (const series of panel.series) {
        const key = `${panel.key} ${series.label}`;
        const title = panel.series.length > 1 ? `${panel.title}, ${series.label}` : panel.title;
        if (!panels.has(key)) panels.set(key, { ...panel, title, lines: [] });
        panels.get(key).lines.push(lineOf(run, series));
      }
    }
  }
  return [...panels.values()];
}

function lineOf(run, series) {
  const dash = run.group === runs[0].group ? undefined : [6, 4];
  return { ...series, label: run.name, quiet: true, color: runColor(run.index), dash };
}

for (const swatch of document.querySelectorAll("[data-run]")) {
  swatch.style.background = `var(${runColor(Number(swatch.dataset.run))})`;
}
const series = runs.flatMap((run) => run.panels.flatMap((panel) => panel.series));
const redraw = drawCurves(document.getElementById("curves"), overlaid);
const groups = new Set(runs.map((run) => run.group));
document.getElementById("curves-note").textContent =
  curvesNote(series, []) + (groups.size > 1 ? ` Dashed: not of the group of ${runs[0].name}.` : "");
for (const run of runs) {
  const swatch = el("span", { class: "swatch" });
  swatch.style.background = `var(${runColor(run.index)})`;
  const button = el("button", { type: "button", "aria-pressed": "true" }, swatch, run.name);
  toggle(button, (shown) => { hidden[shown ? "delete" : "add"](run.index); redraw(); });
  document.getElementById("legend").append(button);
}
