// The page of one run: its curves and its unit browser.

const KIND_COLORS = { train: "--run-5", val: "--run-1" };
const logged = pageData("curves");
if (logged.panels.length) {
  const panels = logged.panels.map((panel) => ({
    ...panel,
    wide: panel.series.length > 1,
    lines: panel.series.map((line) => ({ ...line, color: panel.series.length > 1 || line.label === "val" ? KIND_COLORS[line.label] : "--run-0" })),
  }));
  drawCurves(document.getElementById("curves"), () => panels, logged.events);
  document.getElementById("curves-note").textContent = curvesNote(panels.flatMap((p) => p.series), logged.events);
}
const units = pageData("units");
const place = document.getElementById("browser");
if (units && place) startBrowser(place, units);
const concepts = document.getElementById("concepts");
if (units && concepts) startConcepts(concepts, units);
const circuits = pageData("circuits");
if (circuits?.length) startCircuits(document.getElementById("circuits"), circuits, units);
// The browser went to a section before the charts above it had their height.
document.getElementById(location.hash.slice(1))?.scrollIntoView({ behavior: "instant" });
