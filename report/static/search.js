// Which units a query finds, why, and in which order.

/** Ways to find a unit, best first: a unit found by the first matching way says so on its card. */
const WAYS = [
  ["id", "unit number"],
  ["fires", "fires on"],
  ["promotes", "promotes"],
  ["text", "in context"],
];

const SORTS = {
  density: ["firing density", (unit) => unit.density],
  max: ["largest activation", (unit) => unit.max],
  mean: ["mean activation", (unit) => unit.mean],
  kurtosis: ["kurtosis", (unit) => unit.kurtosis],
  top: ["mass in strongest band", (unit) => unit.mass?.top],
  unit: ["unit number", (unit) => unit.unit],
};

/** Every shown unit of every site: [{id, site, unit, order, words}]; `words` is filled on first use. */
function allUnits(data) {
  return data.sites.flatMap((site) => (site.units ?? []).map((unit) => ({ id: `${site.name}/${unit.unit}`, site, unit, words: null })));
}

/** [{entry, why}] in order: by how well the query fits, then by the chosen figure. */
function findUnits(entries, vocab, { query, scope, site, sort, descending }) {
  const wanted = query.toLowerCase().replaceAll("↵", "\n").replaceAll("→", "\t").replaceAll("·", " ");
  const ways = WAYS.map(([way]) => way).filter((way) => scope === "any" || scope === way);
  const found = [];
  for (const entry of entries) {
    if (site !== "all" && entry.site.name !== site) continue;
    const rank = wanted ? ways.findIndex((way) => matches(entry, way, wanted, vocab)) : 0;
    if (rank >= 0) found.push({ entry, rank, why: wanted ? ways[rank] : null });
  }
  const figure = SORTS[sort][1];
  const sign = descending ? -1 : 1;
  return found.sort((a, b) => a.rank - b.rank || sign * compare(figure(a.entry.unit), figure(b.entry.unit)) || a.entry.unit.unit - b.entry.unit.unit);
}

function compare(a, b) {
  return (a ?? -Infinity) < (b ?? -Infinity) ? -1 : Number((a ?? -Infinity) > (b ?? -Infinity));
}

function matches(entry, way, wanted, vocab) {
  if (way === "id") {
    const id = wanted.trim();
    return String(entry.unit.unit) === id || (id.includes("/") && entry.id.endsWith(id));
  }
  entry.words ??= wordsOf(entry.unit, vocab);
  return entry.words[way].includes(wanted);
}

/** Lower-case texts to search in; a character no query holds keeps tokens apart. */
function wordsOf(unit, vocab) {
  const join = (ids, between) => ids.map((id) => vocab[id]).join(between).toLowerCase();
  const contexts = unit.contexts ?? [];
  return {
    fires: join(contexts.flatMap((c) => c.tokens.filter((_, i) => c.values[i])), "\u0000"),
    promotes: join((unit.promotes ?? []).map(([id]) => id), "\u0000"),
    text: contexts.map((c) => join(c.tokens, "")).join("\u0000"),
  };
}

/** The tokens with the largest summed activation over the shown contexts, at most n. */
function peakTokens(unit, n) {
  const sums = new Map();
  for (const context of unit.contexts ?? []) {
    context.tokens.forEach((id, i) => { if (context.values[i]) sums.set(id, (sums.get(id) ?? 0) + Math.abs(context.values[i])); });
  }
  return [...sums].sort((a, b) => b[1] - a[1]).slice(0, n).map(([id]) => id);
}
