// The unit browser: tools above, a list or grid of units, and the page of the open one.

const NARROW = matchMedia("(max-width: 860px)");
const state = { query: "", scope: "any", site: "all", sort: "density", descending: true, mode: "list", open: null, found: [] };

function startBrowser(place, data) {
  const entries = allUnits(data);
  const parts = layOut(place, data);
  const search = (text) => { state.query = parts.query.value = text; state.scope = parts.scope.value = "fires"; showList(); refresh(); parts.query.focus({ preventScroll: true }); };
  const hit = () => state.query.toLowerCase();
  const cards = new CardWindow(parts.window, {
    card: (item) => unitCard(item, data.vocab, { sort: state.sort, hit: hit() }),
    layout: (width) => cardLayout(state.mode, width),
    choose: (index) => open(index, { push: true }),
  });

  function refresh() {
    state.found = findUnits(entries, data.vocab, state);
    const n = state.found.length;
    parts.found.textContent = n === entries.length ? `${n} units` : `${n} of ${entries.length} units`;
    parts.none.hidden = n > 0;
    parts.window.hidden = n === 0;
    cards.show(state.found);
    markOpen({ reveal: false });
  }

  function markOpen(how) {
    const index = state.found.findIndex((item) => item.entry === state.open);
    cards.choose(index, how);
    parts.previous.disabled = index <= 0;
    parts.next.disabled = index < 0 || index >= state.found.length - 1;
  }

  function open(index, { push = false, leave = false } = {}) {
    const item = state.found[index];
    if (!item) return;
    show(item.entry);
    if (!leave) parts.root.dataset.open = "true";
    const hash = unitHash(item.entry.id);
    if (location.hash !== hash) history[push ? "pushState" : "replaceState"](null, "", hash);
  }

  function show(entry) {
    state.open = entry;
    parts.page.replaceChildren(...unitPage(entry, data, { search, hit: hit() }));
    parts.unit.scrollTop = 0;
    parts.nav.hidden = false;
    markOpen();
  }

  function showList() {
    parts.root.dataset.open = "false";
    cards.reset();
    markOpen();
  }

  function step(by, leave = false) {
    const at = state.found.findIndex((item) => item.entry === state.open);
    const target = at < 0 ? 0 : Math.min(Math.max(at + by, 0), state.found.length - 1);
    open(target, { leave });
  }

  function followHash() {
    const id = hashUnit(location.hash);
    if (id === null) return;
    const entry = entries.find((candidate) => candidate.id === id);
    parts.root.dataset.open = "true";
    if (entry) {
      if (!state.found.some((item) => item.entry === entry)) { resetTools(parts); refresh(); }
      show(entry);
    } else parts.page.replaceChildren(el("p", { class: "none" }, `${id} is not among the ${entries.length} units shown here.`));
    document.getElementById("units").scrollIntoView({ behavior: "instant" });
  }

  wireTools(parts, refresh, { showList, step, cards });
  wireKeys(parts, { cards, step, showList, open, random: () => open(Math.floor(Math.random() * state.found.length), { push: true }) });
  explainTokens(parts.root, data.vocab, search);
  addEventListener("hashchange", followHash);
  addEventListener("popstate", followHash);
  refresh();
  if (hashUnit(location.hash) !== null) followHash();
  else if (!NARROW.matches && state.found.length) show(state.found[0].entry), markOpen();
}

function unitHash(id) {
  return `#unit=${id.split("/").map(encodeURIComponent).join("/")}`;
}

/** The unit id of a link, or null where the link names no unit. */
function hashUnit(hash) {
  if (!hash.startsWith("#unit=")) return null;
  try {
    return decodeURIComponent(hash.slice(6));
  } catch {
    return hash.slice(6);
  }
}

function select(label, choices) {
  return el("select", { "aria-label": label }, ...choices.map(([value, text]) => el("option", { value }, text)));
}

function layOut(place, data) {
  const sites = data.sites.filter((site) => site.units?.length).map((site) => [site.name, site.name]);
  const parts = {
    query: el("input", { type: "search", class: "search", placeholder: "Unit number, token or text", "aria-label": "Search units", autocomplete: "off", spellcheck: "false" }),
    scope: select("Search in", [["any", "Anywhere"], ...WAYS.map(([way, text]) => [way, text[0].toUpperCase() + text.slice(1)])]),
    site: select("Layer", [["all", "All layers"], ...sites]),
    sort: select("Sort by", Object.entries(SORTS).map(([key, [text]]) => [key, `By ${text}`])),
    order: el("button", { type: "button", "aria-label": "Descending", "aria-pressed": "false" }, "↓"),
    grid: el("button", { type: "button", "aria-pressed": "false" }, "Grid"),
    random: el("button", { type: "button" }, "Random"),
    found: el("div", { class: "found", role: "status" }),
    none: el("p", { class: "none", hidden: "" }, "No unit matches. Try fewer letters, another layer, or search anywhere."),
    window: el("div", { class: "window", role: "listbox", tabindex: "0", "aria-label": "Units" }),
    previous: el("button", { type: "button", "aria-label": "Previous unit" }, "←"),
    next: el("button", { type: "button", "aria-label": "Next unit" }, "→"),
    back: el("button", { type: "button", class: "back" }, "All units"),
    page: el("div", { class: "unit-page" }),
  };
  parts.nav = el("div", { class: "unit-nav", hidden: "" }, parts.back, parts.previous, parts.next);
  parts.unit = el("div", { class: "pane-unit", tabindex: "0", role: "region", "aria-label": "Unit" }, parts.nav, parts.page);
  parts.root = el("div", { class: "browser", "data-mode": "list", "data-open": "false" },
    el("div", { class: "browser-tools" }, parts.query, parts.scope, parts.site, el("span", { class: "joined" }, parts.sort, parts.order), parts.grid, parts.random),
    el("div", { class: "panes" }, el("div", { class: "pane-list" }, parts.found, parts.none, parts.window), parts.unit));
  place.append(parts.root);
  return parts;
}

function wireTools(parts, refresh, { showList, step }) {
  parts.query.addEventListener("input", () => { state.query = parts.query.value; refresh(); });
  for (const name of ["scope", "site", "sort"]) parts[name].addEventListener("change", () => { state[name] = parts[name].value; refresh(); });
  parts.order.addEventListener("click", () => {
    state.descending = !state.descending;
    parts.order.textContent = state.descending ? "↓" : "↑";
    parts.order.setAttribute("aria-label", state.descending ? "Descending" : "Ascending");
    refresh();
  });
  parts.order.removeAttribute("aria-pressed");
  toggle(parts.grid, (pressed) => { state.mode = parts.root.dataset.mode = pressed ? "grid" : "list"; showList(); });
  parts.back.addEventListener("click", () => { showList(); parts.window.focus({ preventScroll: true }); });
  parts.previous.addEventListener("click", () => step(-1));
  parts.next.addEventListener("click", () => step(1));
}

function resetTools(parts) {
  Object.assign(state, { query: "", scope: "any", site: "all" });
  parts.query.value = "";
  parts.scope.value = "any";
  parts.site.value = "all";
}

function wireKeys(parts, { cards, step, showList, open, random }) {
  parts.random.addEventListener("click", random);
  parts.window.addEventListener("keydown", (event) => {
    const stride = cards.stride(event.key);
    if (stride !== null) step(stride, true);
    else if (event.key === "Enter") { open(cards.chosen, { push: true }); parts.unit.focus(); }
    else return;
    event.preventDefault();
  });
  parts.query.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") parts.window.focus();
    else if (event.key === "Enter") { open(0, { push: true }); parts.window.focus({ preventScroll: true }); }
    else return;
    event.preventDefault();
  });
  parts.unit.addEventListener("keydown", (event) => {
    if (event.target !== parts.unit || !["ArrowLeft", "ArrowRight"].includes(event.key)) return;
    step(event.key === "ArrowRight" ? 1 : -1);
    event.preventDefault();
  });
  addEventListener("keydown", (event) => globalKey(event, parts, showList, random));
}

function globalKey(event, parts, showList, random) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches?.("input, select, textarea");
  if (event.key === "Escape" && parts.root.contains(event.target)) {
    if (typing && state.query) { resetTools(parts); parts.query.dispatchEvent(new Event("input")); }
    else { showList(); parts.window.focus({ preventScroll: true }); }
  } else if (event.key === "/" && !typing) {
    document.getElementById("units").scrollIntoView();
    parts.query.focus({ preventScroll: true });
    parts.query.select();
    event.preventDefault();
  } else if (event.key === "r" && !typing) random();
}
