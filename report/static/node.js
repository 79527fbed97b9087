// What is known of one node of a circuit: its edges, what it writes, where it is active.

const MOST_EDGES = 12;

function nodePanel(circuit, index, units, go) {
  const node = circuit.nodes[index];
  if (!node) return [circuitHint(circuit), ...strongestNodes(circuit, go)];
  const into = circuit.edges.filter((edge) => edge[1] === index);
  const out = circuit.edges.filter((edge) => edge[0] === index);
  const stream = circuit.stream.filter((ends) => ends.includes(index)).map(([from, to]) => (from === index ? to : from));
  return [
    el("h3", { class: "node-title" }, node.id),
    isEnd(node) ? endNote(node) : nodeFigures(node),
    ...edgeParts("Edges in", into.map(([from, , weight, effect, through]) => [from, weight, effect, through]), circuit, go),
    ...edgeParts("Edges out", out.map(([, to, weight, effect, through]) => [to, weight, effect, through]), circuit, go),
    ...streamParts(node, stream, circuit, go),
    ...writeParts(node),
    ...(isEnd(node) ? [] : nodeContexts(node, circuit, units)),
  ];
}

/** The embedding and the logits: ends of edges, and no nodes of the circuit. */
function isEnd(node) {
  return node.kind === "embed" || node.kind === "logits";
}

function circuitHint(circuit) {
  const counted = (n, what) => `${number(n)} ${what}${n === 1 ? "" : "s"}`;
  const drawn = `${counted(circuit.nodes.filter((node) => !isEnd(node)).length, "node")} and ${counted(circuit.edges.length, "edge")}`;
  return el("p", { class: "note" }, `${drawn}. Click a node, or walk with the arrow keys, to see what feeds it, what it writes and where it is active.`);
}

function strongestNodes(circuit, go) {
  const ranked = circuit.nodes.map((node, i) => [i, node.effect]).filter(([, effect]) => effect !== null);
  ranked.sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]));
  if (!ranked.length) return [];
  return [el("h3", {}, "Largest effects, ablated alone"), edgeList(ranked.slice(0, MOST_EDGES), circuit, go)];
}

function endNote(node) {
  const told = node.kind === "embed" ? "What the tokens put into the stream, before the blocks." : "What is read from the stream, after the blocks.";
  return el("p", { class: "note" }, `${told} It is part of every circuit.`);
}

function nodeFigures(node) {
  const figure = (label, value) => el("span", {}, `${label} `, el("b", {}, value));
  const where = node.layer < 0 ? "after the blocks" : `layer ${node.layer}`;
  return el("div", { class: "unit-line" },
    el("span", {}, `${node.kind.replaceAll("_", " and ")}, ${where}`),
    figure("ablated alone", node.effect === null ? "–" : `${number(node.effect, 3)} nats`),
    figure("base", number(node.base, 3)));
}

function edgeParts(title, edges, circuit, go) {
  if (!edges.length) return [];
  const head = el("h3", {}, `${title} `, el("span", { class: "muted" }, edges.length > MOST_EDGES ? `${MOST_EDGES} strongest of ${edges.length}` : String(edges.length)));
  return [head, edgeList(edges.slice(0, MOST_EDGES).map(([other, weight, effect, through]) => [other, weight ?? effect, through]), circuit, go)];
}

/** Rows of [node, value, by which matrix or read], each with a bar to one side of zero. */
function edgeList(rows, circuit, go) {
  const largest = Math.max(...rows.map(([, value]) => Math.abs(value ?? 0)), 1e-12);
  return el("div", { class: "edge-list" }, ...rows.map(([other, value, through]) => {
    const name = circuit.nodes[other].id + (through ? ` · ${through}` : "");
    return el("button", { type: "button", class: "edge-row", onclick: () => go(other) },
      el("span", { title: name }, name.replace(/^blocks\./, "")), signedBar(value, largest), el("span", { class: "num" }, number(value, 3)));
  }));
}

function signedBar(value, largest) {
  const length = (40 * Math.abs(value ?? 0)) / largest;
  return svg("svg", { width: 84, height: 9, viewBox: "0 0 84 9", "aria-hidden": "true" },
    svg("line", { x1: 42, x2: 42, y1: 0, y2: 9 }),
    svg("rect", { class: `edge-bar ${value < 0 ? "down" : "up"}`, x: value < 0 ? 42 - length : 42, y: 1, width: length, height: 7, rx: 1.5 }));
}

function streamParts(node, others, circuit, go) {
  if (!others.length) return [];
  const title = node.kind === "write" ? "Read later, through the stream" : "Written before, through the stream";
  const row = (other) => el("button", { type: "button", class: "chip", onclick: () => go(other) }, circuit.nodes[other].id.replace(/^blocks\./, ""));
  return [el("h3", {}, title), el("div", { class: "peaks" }, ...others.slice(0, MOST_EDGES).map(row))];
}

const INSIDE = {
  read: "Nothing: it is a channel that its own layer reads.",
  query_key: "Nothing itself: it decides where its head looks.",
  value: "Nothing itself: its head moves it, and the layer's channels write it.",
};

function writeParts(node) {
  if (isEnd(node)) return [];
  if (!node.writes.length) {
    const why = INSIDE[node.kind] ?? "Not known: it has no direction of its own in the stream.";
    return [el("h3", {}, "Writes"), el("p", { class: "note" }, why)];
  }
  const largest = Math.max(...node.writes.map(([, logit]) => Math.abs(logit)), 1e-9);
  const bars = el("div", { class: "bars" });
  for (const [token, logit] of node.writes) {
    const bar = el("span", { class: "bar-fill" });
    bar.style.width = `${(100 * Math.abs(logit)) / largest}%`;
    bars.append(el("span", { class: "chip", title: tokenLabel(token) }, ...tokenNodes(token)), el("span", { class: "bar-track" }, bar), el("span", { class: "num" }, number(logit, 3)));
  }
  return [el("h3", {}, "Writes", el("span", { class: "muted" }, node.kind === "head" ? ", in logits, at the token of the prompt where it writes most" : ", in logits")), bars];
}

/** The prompt that the file shows, warm where the chosen node is active. */
function exampleParts(circuit, node) {
  if (!circuit.tokens.length) return [];
  const values = node?.values ?? [];
  const scale = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const context = { tokens: circuit.tokens.map((_, i) => i), values, center: -1 };
  const line = contextNode(context, circuit.tokens, { scale });
  [...line.children].forEach((token, i) => { if (i < values.length) token.title = `${tokenLabel(circuit.tokens[i])} ${number(values[i])}`; });
  const about = !node ? "choose a node to see where it is active" : values.length ? `activation of ${node.id}, up to ${number(scale, 3)}` : `no activation of ${node.id} is recorded`;
  return [el("h3", {}, "On a prompt of the task ", el("span", { class: "muted" }, about)), line];
}

/** The unit of the browser that a node is; queries and keys are two, of which the first shown is taken. */
function unitOf(node, units) {
  const [group, number] = [node.id.slice(0, node.id.lastIndexOf(":")), Number(node.id.slice(node.id.lastIndexOf(":") + 1))];
  const names = group.endsWith(".qk") ? [group.replace(/qk$/, "q"), group.replace(/qk$/, "k")] : [group];
  for (const site of units?.sites ?? []) {
    if (!names.includes(site.name)) continue;
    const unit = site.units?.find((candidate) => candidate.unit === number);
    if (unit) return { site, unit };
  }
  return null;
}

/** Contexts of a node: those of the unit browser where it shows the unit, else the circuit's own. */
function nodeContexts(node, circuit, units) {
  const found = unitOf(node, units);
  if (found?.unit.contexts?.length) {
    const link = el("a", { href: unitHash(`${found.site.name}/${found.unit.unit}`) }, "Open in the unit browser");
    return [...contextParts(found.site, found.unit, units, ""), el("p", { class: "note" }, link)];
  }
  const shown = node.quotes.filter((part) => part.contexts.length);
  if (!shown.length) return [el("h3", {}, "Contexts"), el("p", { class: "note" }, `None of this node: ${whyNone(circuit, units)}.`)];
  const lines = shown.flatMap((part) => contextParts(part, part, circuit, "", `Contexts${PARTS[part.part] ?? ""}`));
  return [...lines, el("p", { class: "note" }, `From ${circuit.text}.`)];
}

const PARTS = { q: " of its query", k: " of its key" };

function whyNone(circuit, units) {
  if (circuit.text) return "it acts on pairs of tokens, and not at one";
  return units ? "it is not among the units whose contexts this run shows" : "this run shows no units yet";
}
