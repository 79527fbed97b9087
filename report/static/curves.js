// Training curves: one uPlot chart per quantity, one cursor for all of them.

const SMOOTHING = 0.9;
const SMOOTHED_FROM = 20; // points; a shorter series is drawn as it is
const options = { smooth: false, log: false, tokens: false };
let drawn = [];

/**
 * Draws panels [{title, unit, lines: [{label, quiet, color, step, tokens, value, dash}]}] into `host`
 * and again whenever a tool, the width or the color scheme changes. `marks` are {step, event}.
 */
function drawCurves(host, panels, marks = []) {
  const draw = () => {
    drawn.forEach((plot) => plot.destroy());
    host.replaceChildren();
    drawn = panels().map((panel) => drawPanel(host, panel, marks));
  };
  for (const button of document.querySelectorAll("#chart-tools [data-tool]")) {
    const tool = button.dataset.tool;
    if (tool === "tokens" && !panels().some((p) => p.lines.every((line) => line.tokens))) button.hidden = true;
    toggle(button, (pressed) => { options[tool] = pressed; draw(); });
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  draw();
  new ResizeObserver(() => drawn.forEach(fit)).observe(host);
  return draw;
}

function fit(plot) {
  const place = plot.root.parentElement;
  if (place.clientWidth && place.clientWidth !== plot.width) plot.setSize({ width: place.clientWidth, height: place.clientHeight });
}

function drawPanel(host, panel, marks) {
  const readout = el("div", { class: "readout" });
  const at = el("span", { class: "at" });
  const place = el("div", { class: "plot" });
  const label = `${panel.title}: ${panel.lines.map((line) => `${line.label} ${number(line.value.at(-1))}`).join(", ")} at the end`;
  host.append(el("figure", { class: panel.wide ? "chart wide" : "chart" },
    el("figcaption", {}, el("span", { class: "title" }, panel.title, el("small", {}, panel.unit))),
    readout, el("div", { role: "img", "aria-label": label }, place)));
  const lines = panel.lines.filter((line) => line.value.length);
  const tables = lines.map(columns);
  const data = uPlot.join(tables);
  const series = lines.flatMap((line, i) => styles(line, tables[i].length - 1));
  const plot = new uPlot(settings(place, series, marks, (u) => report(u, lines, readout, at)), data, place);
  report(plot, lines, readout, at);
  return plot;
}

/** [x, value] of a line, or [x, smoothed, value] while smoothing. */
function columns(line) {
  const x = options.tokens && line.tokens ? line.tokens : line.step;
  const kept = x.map((_, i) => i).filter((i) => !options.log || x[i] > 0);
  const value = kept.map((i) => line.value[i]);
  const at = kept.map((i) => x[i]);
  return smooths(line) ? [at, smoothed(value), value] : [at, value];
}

function smooths(line) {
  return options.smooth && line.value.length >= SMOOTHED_FROM;
}

/** Exponential moving average, corrected for its start. */
function smoothed(values) {
  let sum = 0;
  let weight = 0;
  return values.map((value) => {
    sum = SMOOTHING * sum + (1 - SMOOTHING) * value;
    weight = SMOOTHING * weight + (1 - SMOOTHING);
    return sum / weight;
  });
}

function styles(line, n) {
  const few = line.value.length <= 40;
  const main = { label: line.label, stroke: () => cssColor(line.color), width: 1.8, dash: line.dash, spanGaps: true,
    points: { show: few, size: 5, fill: () => cssColor(line.color), stroke: () => cssColor("--panel") } };
  const raw = { ...main, stroke: () => cssColor(line.color, 0.25), width: 1, points: { show: false } };
  return n === 2 ? [main, raw] : [main];
}

function settings(place, series, marks, moved) {
  const axis = { stroke: () => cssColor("--muted"), font: "11px system-ui, sans-serif", grid: { stroke: () => cssColor("--line"), width: 1 }, ticks: { show: false } };
  const compact = (u, splits) => splits.map((value) => (value === null ? "" : count(value)));
  return {
    width: place.clientWidth || 360,
    height: place.clientHeight || 190,
    legend: { show: false },
    cursor: { sync: { key: "curves", setSeries: false }, points: { size: 7 }, drag: { x: true, y: false } },
    scales: { x: { time: false, distr: options.log ? 3 : 1 }, y: { range: (u, low, high) => verticalRange(low, high) } },
    axes: [{ ...axis, values: compact, size: 28, gap: 4, space: options.log ? 30 : 55 }, { ...axis, values: compact, size: 48, gap: 4, space: 34 }],
    series: [{}, ...series],
    hooks: { setCursor: [moved], drawClear: [(u) => drawMarks(u, marks)] },
  };
}

/** Room above and below; a constant gets an axis of its own size, zero one that starts there. */
function verticalRange(low, high) {
  if (low === null) return [0, 1];
  if (low === high) return low === 0 ? [0, 0.1] : [low - 0.1 * Math.abs(low), low + 0.1 * Math.abs(low)];
  const room = 0.07 * (high - low);
  return [low >= 0 && low < room ? 0 : low - room, high + room];
}

/** Dotted lines where the run was resumed or its units revived; only known by step. */
function drawMarks(u, marks) {
  if (options.tokens) return;
  const { ctx, bbox } = u;
  ctx.save();
  ctx.strokeStyle = cssColor("--muted");
  ctx.globalAlpha = 0.5;
  ctx.setLineDash([2, 4]);
  for (const { step } of marks) {
    const x = u.valToPos(step, "x", true);
    if (!(x >= bbox.left && x <= bbox.left + bbox.width)) continue;
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
  }
  ctx.restore();
}

/** Values beneath the cursor, or the last ones; each line's nearest point at or before it. */
function report(u, lines, readout, at) {
  const idx = u.cursor.idx ?? null;
  const x = u.data[0];
  if (!x.length) return;
  const shown = idx ?? x.length - 1;
  at.textContent = `${options.tokens ? `${count(x[shown])} tokens` : `step ${number(x[shown])}`}${idx === null ? ", last" : ""}`;
  let column = 1;
  readout.replaceChildren(...lines.map((line) => {
    const value = atOrBefore(u.data[column], shown);
    column += smooths(line) ? 2 : 1;
    const swatch = el("span", { class: "swatch" });
    swatch.style.background = `var(${line.color})`;
    return el("span", { title: line.label }, swatch, line.quiet ? "" : `${line.label} `, el("b", {}, number(value)));
  }), at);
}

function atOrBefore(values, i) {
  while (i > 0 && (values[i] === null || values[i] === undefined)) i--;
  return values[i] ?? null;
}

/** One sentence about thinned series and marks, or nothing. */
function curvesNote(series, marks) {
  const thinned = series.filter((line) => line.logged > line.value.length);
  const events = [...new Set(marks.map((mark) => mark.event.replaceAll("_", " ")))];
  return [
    "Drag across a chart to zoom, double-click to zoom out.",
    thinned.length ? `Of up to ${number(Math.max(...thinned.map((l) => l.logged)))} logged steps, ${number(Math.max(...thinned.map((l) => l.value.length)))} are drawn.` : "",
    events.length ? `Dotted lines: ${events.join(", ")}.` : "",
  ].filter(Boolean).join(" ");
}
