// The firing-density histogram of a site with one unit marked on it.

const PLOT = { width: 320, height: 62, label: 18 };

/** `histogram` has log10 edges and counts; `density` is the marked unit's share of tokens. */
function densityHistogram(histogram, density) {
  const { edges, counts } = histogram;
  const low = edges[0];
  const high = edges[edges.length - 1];
  const place = (x) => ((x - low) / (high - low)) * PLOT.width;
  const tallest = Math.max(...counts, 1);
  const at = density > 0 ? Math.min(Math.max(Math.log10(density), low), high) : null;
  const bars = counts.map((n, i) => {
    const here = at !== null && at >= edges[i] && at <= edges[i + 1];
    const height = (n / tallest) * PLOT.height;
    return svg("rect", { x: place(edges[i]), width: Math.max(place(edges[i + 1]) - place(edges[i]) - 1, 0.5), y: PLOT.height - height, height, class: here ? "here" : null },
      svg("title", {}, `${n} units fire on ${share(10 ** edges[i])} to ${share(10 ** edges[i + 1])} of tokens`));
  });
  const needle = at === null ? null : svg("line", { class: "needle", x1: place(at), x2: place(at), y1: 2, y2: PLOT.height });
  const base = PLOT.height + PLOT.label - 4;
  return svg("svg", { class: "histogram", viewBox: `0 0 ${PLOT.width} ${PLOT.height + PLOT.label}`, role: "img", "aria-label": `This unit fires on ${share(density)} of tokens` },
    ...bars, needle,
    svg("line", { class: "axis", x1: 0, x2: PLOT.width, y1: PLOT.height + 0.5, y2: PLOT.height + 0.5 }),
    svg("text", { x: 0, y: base }, share(10 ** low)),
    svg("text", { x: PLOT.width, y: base, "text-anchor": "end" }, share(10 ** high)));
}

/** The four parts of a unit's activation mass that the shown quantile bands cover. */
function massBar(mass, bands) {
  const bar = el("div", { class: "mass", role: "img", "aria-label": "Share of activation mass in each band" });
  const key = el("div", { class: "mass-key" });
  let covered = 0;
  for (const [name, label] of bands) {
    if (typeof mass[name] !== "number") continue;
    const part = el("span", { class: `shade-${name}`, title: `${label}: ${share(mass[name])}` });
    part.style.width = `${100 * mass[name]}%`;
    bar.append(part);
    key.append(el("span", { class: `swatch shade-${name}` }), el("span", {}, label), el("b", {}, share(mass[name])));
    covered += mass[name];
  }
  if (covered < 0.995) key.append(el("span", {}), el("span", {}, "elsewhere"), el("b", {}, share(1 - covered)));
  return [bar, key];
}
