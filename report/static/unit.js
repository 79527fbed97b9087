// The page of one unit: figures, what it writes, and contexts from every band of its activation.

const MASS_BANDS = [["top", "Strongest"], ["p90", "Strong"], ["p50", "Middle"], ["p10", "Weak"]];
const BANDS = [
  ["top", "Strongest", "the top hundredth of the tokens it fires on"],
  ["p90", "Strong", "around the 90 % quantile of the tokens it fires on"],
  ["p50", "Middle", "around the median"],
  ["p10", "Weak", "around the 10 % quantile"],
  ["silent", "Silent", "random places at which it does not fire"],
  ["near_miss", "Near misses", "a token it fires on elsewhere, here silent"],
];
const reading = { asCode: false };

/** Nodes of a unit's page; `search` looks for units that fire on a text. */
function unitPage({ site, unit }, data, { search, hit }) {
  return [
    el("h3", { class: "unit-title", id: "unit-title" }, el("span", { class: "site" }, `${site.name} / `), String(unit.unit)),
    figures(site, unit),
    el("div", { class: "peaks", role: "group", "aria-label": "Tokens with most activation in the shown contexts" }, ...peakTokens(unit, 8).map((id) => tokenChip(id, data.vocab, search))),
    el("div", { class: "unit-grid" }, ...densityParts(site, unit), ...massParts(unit)),
    directions(unit, data.vocab, search),
    ...contextParts(site, unit, data, hit),
  ];
}

function figures(site, unit) {
  const figure = (label, value) => el("span", {}, `${label} `, el("b", {}, value));
  return el("div", { class: "unit-line" },
    figure("fires on", `${share(unit.density)} of tokens`), figure("mean when active", number(unit.mean, 3)), figure("max", number(unit.max, 3)),
    figure("kurtosis", number(unit.kurtosis, 3)), figure("exactness", site.exactness ?? "none"));
}

function densityParts(site, unit) {
  const histogram = site.stats?.density_histogram;
  if (!histogram?.counts?.length) return [];
  return [el("div", {}, el("h3", {}, "Firing density among the units of this site"), densityHistogram(histogram, unit.density))];
}

function massParts(unit) {
  if (!unit.mass) return [];
  return [el("div", {}, el("h3", {}, "Activation mass that each band covers"), ...massBar(unit.mass, MASS_BANDS))];
}

function directions(unit, vocab, search) {
  const every = [...(unit.promotes ?? []), ...(unit.suppresses ?? [])];
  if (!every.length) return el("p", { class: "note" }, "This kind of unit has no single direction that it writes.");
  const largest = Math.max(...every.map(([, logit]) => Math.abs(logit)), 1e-9);
  return el("div", { class: "unit-grid" },
    logitBars("Promotes", "bars", unit.promotes ?? [], largest, vocab, search),
    logitBars("Suppresses", "bars down", unit.suppresses ?? [], largest, vocab, search));
}

function logitBars(title, names, pairs, largest, vocab, search) {
  const bars = el("div", { class: names });
  for (const [id, logit] of pairs) {
    const bar = el("span", { class: "bar-fill" });
    bar.style.width = `${(100 * Math.abs(logit)) / largest}%`;
    bars.append(tokenChip(id, vocab, search), el("span", { class: "bar-track" }, bar), el("span", { class: "num" }, number(logit, 3)));
  }
  return el("div", {}, el("h3", {}, title, el("span", { class: "muted" }, " as next token, in logits")), bars);
}

function contextParts(site, unit, data, hit, title = "Contexts") {
  const scale = unitScale(unit);
  const body = el("div", { class: "contexts" });
  const draw = () => body.replaceChildren(...BANDS.map((band) => bandNode(band, unit, data.vocab, scale, hit)).filter(Boolean));
  const code = el("button", { type: "button", "aria-pressed": String(reading.asCode) }, "Break lines");
  toggle(code, (pressed) => { reading.asCode = pressed; draw(); });
  draw();
  const ends = site.signed ? [number(-scale, 3), number(scale, 3)] : ["0", number(scale, 3)];
  const legend = el("span", { class: site.signed ? "scale signed" : "scale", "aria-label": `Color scale from ${ends[0]} to ${ends[1]}` }, ends[0], el("span", { class: "scale-bar" }), ends[1]);
  return [el("div", { class: "contexts-head" }, el("h3", {}, title), legend, code), body];
}

function bandNode([name, title, about], unit, vocab, scale, hit) {
  const contexts = (unit.contexts ?? []).filter((context) => context.band === name);
  if (!contexts.length) return null;
  const covered = unit.mass?.[name];
  const note = typeof covered === "number" ? `${about}; the band holds ${share(covered)} of its activation mass` : about;
  return el("div", { class: "band" }, el("h3", {}, title, el("span", {}, note)), ...contexts.map((context) => quote(context, vocab, scale, hit)));
}

function quote(context, vocab, scale, hit) {
  const line = contextNode(context, vocab, { scale, hit });
  if (reading.asCode) line.classList.add("as-code");
  const value = context.values[context.center];
  return el("div", { class: "quote" },
    el("div", { class: "source" }, el("span", { title: context.document }, context.document), el("span", {}, number(value ?? 0, 3))), line);
}
