"""Circuits as a person looks at them, in a real browser. `visit` fails on any console message."""

import json
from urllib.parse import quote

from pellucid.report import write_report

HOSTILE = "</script><img src=x onerror=\"alert('planted')\">"


def place(slug, node=""):
    return f"#circuit={slug}" + (f"/{quote(node, safe='')}" if node else "")


def circuit(pages, slug):
    return json.loads((pages.circuits.parent / "circuits" / f"{slug}.json").read_text())


def test_a_click_opens_a_node_and_its_edges_lead_on(pages, visit):
    tab = visit(pages.circuits, place("bracket_kind"))
    article = tab.locator("article.circuit:not([hidden])")
    edge = max(circuit(pages, "bracket_kind")["edges"], key=lambda edge: abs(edge["weight"]))
    article.locator(f"[aria-label^='{edge['source']},']").click()
    assert article.locator(".node-title").inner_text() == edge["source"]
    assert tab.url.endswith(place("bracket_kind", edge["source"]))
    outs = [e for e in circuit(pages, "bracket_kind")["edges"] if e["source"] == edge["source"]]
    ins = [e for e in circuit(pages, "bracket_kind")["edges"] if e["target"] == edge["source"]]
    assert article.locator(".edge-row").count() == min(len(outs), 12) + min(len(ins), 12)
    assert article.locator(".drawing-front .edge").count() == len(outs) + len(ins)
    article.locator(".edge-row", has_text=edge["target"].removeprefix("blocks.")).first.click()
    assert article.locator(".node-title").inner_text() == edge["target"]
    article.locator(".drawing-title").click()
    assert article.locator(".node-title").count() == 0
    assert article.locator(".drawing-front .edge").count() == 0


def test_the_slider_shows_the_strongest_edges_first(pages, visit):
    tab = visit(pages.circuits, place("large"))
    article = tab.locator("article.circuit:not([hidden])")
    seen = article.locator(".drawing-edges .edge:not(.off)")
    assert seen.count() == 250
    assert article.locator("output").inner_text() == "250 of 2,000"
    article.get_by_label("Edges drawn, strongest first").fill("7")
    assert seen.count() == 7
    weights = sorted((abs(e["weight"]) for e in circuit(pages, "large")["edges"]), reverse=True)
    says = seen.locator("title").all_text_contents()
    told = [float(text.rpartition("weight ")[2].replace("\u2212", "-")) for text in says]
    assert sorted(map(abs, told), reverse=True) == [float(f"{w:.2f}") for w in weights[:7]]


def test_keys_walk_the_nodes(pages, visit):
    tab = visit(pages.circuits, place("large", "blocks.3.mlp:408"))
    article = tab.locator("article.circuit:not([hidden])")
    start = article.locator(".chip-node.chosen")
    assert start.get_attribute("aria-pressed") == "true"
    before = start.bounding_box()
    start.focus()
    for key, axis, sign in (("ArrowLeft", "x", -1), ("ArrowUp", "y", -1), ("ArrowRight", "x", 1)):
        tab.keyboard.press(key)
        now = article.locator(".chip-node.chosen").bounding_box()
        assert sign * (now[axis] - before[axis]) > 1, key
        before = now
    focused = tab.evaluate("document.activeElement.getAttribute('aria-label')")
    assert focused.startswith(article.locator(".node-title").inner_text() + ",")
    tab.keyboard.press("Escape")
    assert article.locator(".node-title").count() == 0
    assert article.locator("[data-node][tabindex='0']").count() == 1


def test_by_position_nodes_stand_under_their_tokens(pages, visit):
    made = circuit(pages, "large")
    node = max(made["nodes"], key=lambda node: len(node["values"]) and node["effect"])
    tab = visit(pages.circuits, place("large", node["id"]))
    article = tab.locator("article.circuit:not([hidden])")
    article.get_by_label("Edges drawn, strongest first").fill("7")
    article.get_by_role("button", name="By position").click()
    heads = article.locator(".drawing-head.token")
    tokens = made["example"]["tokens"]
    assert heads.count() == len(tokens) and heads.nth(1).text_content() == "for"
    # What was chosen and set stays: the node, its edges, the slider.
    assert article.locator(".chip-node.chosen").get_attribute("aria-label").startswith(node["id"])
    assert article.locator(".drawing-edges .edge:not(.off)").count() == 7
    apart = [abs(value - node["base"]) for value in node["values"]]
    head = heads.nth(apart.index(max(apart))).bounding_box()
    chip = article.locator(".chip-node.chosen").bounding_box()
    assert abs(head["x"] - chip["x"]) < 60 and head["y"] < chip["y"]
    rings = sum(2 * size >= max(apart) for size in apart) - 1
    assert article.locator(".elsewhere").count() == rings
    other = article.locator(".chip-node").last
    other.click()
    told = article.locator(".node-title").inner_text()
    assert other.get_attribute("aria-label").startswith(f"{told},")
    tab.keyboard.press("ArrowDown")
    assert article.locator(".node-title").inner_text() != told
    article.get_by_role("button", name="By position").click()
    assert heads.count() == article.locator(".elsewhere").count() == 0
    assert article.locator(".chip-node.chosen").count() == 1


def test_a_node_shows_where_it_is_active(pages, visit):
    units = json.loads((pages.circuits.parent / "units.json").read_text())["sites"]
    known = {f"{site['name']}:{unit['unit']}" for site in units for unit in site["units"]}
    nodes = circuit(pages, "large")["nodes"]
    node = next(n for n in nodes if n["id"] in known)
    tab = visit(pages.circuits, place("large", node["id"]))
    article = tab.locator("article.circuit:not([hidden])")
    assert article.locator(".band").count() == 6
    warm = article.locator(".circuit-example .tok[data-heat]").count()
    assert warm == sum(value != 0 for value in node["values"])
    article.locator(".circuit-panel .quote .tok.center").first.hover()
    assert "activation" in tab.locator(".tooltip:not([hidden])").inner_text()
    article.get_by_text("Open in the unit browser").click()
    assert tab.locator("#unit-title").inner_text() == node["id"].replace(":", " / ")
    other = next(n for n in nodes if n["id"] not in known)
    tab.evaluate(f"location.hash = {json.dumps(place('large', other['id']))}")
    article.get_by_text("not among the units whose contexts").wait_for()
    assert article.locator(".node-title").inner_text() == other["id"]


def test_a_table_row_opens_its_circuit_and_finding_finds(pages, visit):
    tab = visit(pages.circuits, "#circuits")
    tab.get_by_role("button", name="large").click()
    article = tab.locator("article.circuit:not([hidden])")
    assert article.get_attribute("data-circuit") == "large"
    article.get_by_label("Find a node").fill("3.mlp:408")
    assert article.locator(".node-title").inner_text() == "blocks.3.mlp:408"
    stream = article.get_by_role("button", name="Residual stream")
    assert not article.locator(".drawing-streams .stream").first.is_visible()
    stream.click()
    assert article.locator(".drawing-streams .stream").first.is_visible()


def test_a_node_that_writes_nothing_into_the_stream_says_why(pages, visit):
    nodes = circuit(pages, "large")["nodes"]
    says = {"read": "its own layer reads", "query_key": "where its head looks"}
    for kind, words in says.items():
        name = next(node["id"] for node in nodes if node["kind"] == kind)
        tab = visit(pages.circuits, place("large", name))
        assert tab.locator("article.circuit:not([hidden])").get_by_text(words).is_visible()


def test_controls_with_points_are_drawn_as_curves(pages, visit):
    tab = visit(pages.circuits, place("bracket_kind"))
    article = tab.locator("article.circuit:not([hidden])")
    plot = article.get_by_role("img", name="Loss as the rest acts again")
    line, level = plot.locator(".curve").bounding_box(), plot.locator(".level").bounding_box()
    # What passes lies between the curve's ends: it begins below, and rises above.
    assert line["y"] < level["y"] < line["y"] + line["height"]
    assert plot.locator(".mark title").all_text_contents() == [
        "0.147", "0.152", "0.213", "0.388", "0.534",
    ]  # fmt: skip
    assert plot.get_by_text("up to 0.204 passes").is_visible()
    assert article.locator(".circuit-curve").count() == 3


def test_planted_text_of_a_circuit_stays_text(pages, visit):
    planted = circuit(pages, "planted")["nodes"][0]["id"]
    tab = visit(pages.circuits, place("planted", planted))
    article = tab.locator("article.circuit:not([hidden])")
    assert tab.locator("img").count() == 0
    assert article.locator(".circuit-example .tok").nth(3).inner_text() == HOSTILE
    assert article.locator(".circuit-panel .chip").first.text_content() == HOSTILE
    assert article.locator(".battery").get_by_text(HOSTILE).is_visible()


def test_links_beside_the_page_lead_to_files(pages, visit):
    tab = visit(pages.circuits, place("bracket_kind"))
    links = tab.locator("article.circuit:not([hidden]) .circuit-files a")
    found = [link.get_attribute("href") for link in links.all()]
    endings = (".svg", ".position.svg", ".graph.json")
    assert found == [f"circuits/bracket_kind{ending}" for ending in endings]
    assert all((pages.circuits.parent / path).is_file() for path in found)


def test_circuits_fit_narrow_windows_and_dark_rooms(pages, visit):
    for width in (320, 390, 768):
        tab = visit(pages.circuits, place("large"), width=width, height=800, color_scheme="dark")
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        tab.get_by_role("button", name="By position").and_(tab.locator(":visible")).click()
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
    chip = tab.locator("article.circuit:not([hidden]) .chip-back").first
    assert chip.evaluate("node => getComputedStyle(node).fill") == "rgb(25, 29, 35)"


def test_a_run_without_units_still_shows_its_circuits(sample_run, sample_circuits, visit):
    sample_circuits.write_circuits(sample_run.path, **sample_circuits.sample_circuits())
    (sample_run.path / "units.json").unlink()
    node = sample_circuits.sample_circuits()["bracket_kind"]["nodes"][0]["id"]
    tab = visit(write_report(sample_run), place("bracket_kind", node))
    article = tab.locator("article.circuit:not([hidden])")
    assert article.get_by_text("this run shows no units yet").is_visible()


def test_every_kind_of_node_shows_contexts_where_the_run_has_no_units(
    sample_run, sample_circuits, visit
):
    made = sample_circuits.circuit_file("bracket_kind", nodes=64, edges=180)
    made["nodes"].append(made["nodes"][0] | {"id": "blocks.0.attention:0", "kind": "head"})
    beside = {"own": made, "own.contexts": sample_circuits.contexts_file(made)}
    sample_circuits.write_circuits(sample_run.path, **beside)
    (sample_run.path / "units.json").unlink()
    tab = visit(write_report(sample_run), place("own"))
    panel = tab.locator("article.circuit:not([hidden]) .circuit-panel")
    for kind, node in {node["kind"]: node["id"] for node in made["nodes"]}.items():
        tab.evaluate(f"location.hash = {json.dumps(place('own', node))}")
        panel.locator(".node-title", has_text=node).wait_for()
        values = {"query_key": 2, "head": 0}.get(kind, 1)
        assert panel.locator(".band").count() == 5 * values, kind
        text = panel.inner_text()
        assert ("From 16,119 tokens of val at step 2,000." in text) == (values > 0)
        assert ("it acts on pairs of tokens" in text) == (kind == "head")
        assert ("Contexts of its key" in text) == (kind == "query_key")
    tab.evaluate(f"location.hash = {json.dumps(place('own', made['nodes'][-2]['id']))}")
    center = panel.locator(".quote .tok.center").first
    center.scroll_into_view_if_needed()
    # What scrolls hides the tooltip, and is told of a frame later.
    tab.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    center.hover()
    assert "activation 2 · token 2" in tab.locator(".tooltip:not([hidden])").inner_text()
    assert center.text_content() == HOSTILE
    assert tab.locator("img").count() == 0


def parts_file(sample_circuits):
    """Heads and neurons at distance 32, with edges from the embedding and to the logits."""
    made = sample_circuits.circuit_file("var_if", nodes=40, edges=0, layers=3)
    made["nodes"] = [n for n in made["nodes"] if n["kind"] == "neuron"]
    ids = [node["id"] for node in made["nodes"]]
    ends = [("embed", name) for name in ids] + [(name, "logits") for name in ids]
    made["edges"] = [
        {"source": s, "target": t, "weight": None, "effect": round((-1) ** i * 0.4 / (i + 1), 4)}
        for i, (s, t) in enumerate(ends)
    ]
    losses = [(0, 0.021, 0.142), (8, 0.03, 0.2), (32, 0.083, 0.654)]
    made["strata"] = [
        {"distance": d, "model": m, "circuit": c, "reason": None} for d, m, c in losses
    ]
    reason = "task 'var_if' at distance 128: prompts have up to 212 tokens; at most 128 fit"
    made["strata"] += [{"distance": 128, "model": None, "circuit": None, "reason": reason}]
    return made | {"distance": 32}


def test_the_embedding_leads_to_what_reads_it(sample_run, sample_circuits, visit):
    made = parts_file(sample_circuits)
    sample_circuits.write_circuits(sample_run.path, **{"var_if@32.step500": made})
    tab = visit(write_report(sample_run), place("var_if%4032.step500"))
    article = tab.locator("article.circuit:not([hidden])")
    assert article.get_by_text("Faithful size of var if · distance 32 · step 500").is_visible()
    assert f"{len(made['nodes'])} nodes and" in article.locator(".circuit-panel").inner_text()
    article.locator("[aria-label='embed']").click()
    assert article.locator(".node-title").inner_text() == "embed"
    assert article.locator(".drawing-front .edge").count() == len(made["nodes"])
    assert article.get_by_text("before the blocks").is_visible()
    article.locator(".edge-row").first.click()
    assert article.locator(".node-title").inner_text() == made["nodes"][0]["id"]
    article.locator(".edge-row", has_text="logits").click()
    assert article.get_by_text("after the blocks").is_visible()
    rows = article.locator(".circuit-strata tbody tr")
    assert rows.count() == 4 and "at most 128 fit" in rows.nth(3).inner_text()
    for width in (320, 768):
        tab.set_viewport_size({"width": width, "height": 800})
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
