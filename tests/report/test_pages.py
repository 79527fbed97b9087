"""The pages as a person uses them, in a real browser. `visit` fails on any console message."""

import json
from types import SimpleNamespace

import pytest

from pellucid.report import write_report

HOSTILE = "</script><img src=x onerror=\"alert('planted')\">"
PLANTED = "#unit=blocks.0.mlp/21"


def test_typing_finds_a_unit_and_a_click_opens_it(pages, visit):
    tab = visit(pages.report)
    assert tab.locator(".found").inner_text() == "200 units"
    tab.get_by_label("Search units").type("zebra_mark")
    assert tab.locator(".found").inner_text() == "1 of 200 units"
    assert tab.locator(".card .why").inner_text() == "fires on"
    tab.locator(".card").click()
    assert tab.locator("#unit-title").inner_text() == "blocks.0.mlp / 21"
    assert tab.url.endswith(PLANTED)


def test_search_by_number_and_by_promoted_token(pages, visit):
    tab = visit(pages.report)
    tab.get_by_label("Search units").fill("blocks.1.mlp/70")
    assert tab.locator(".card b").all_inner_texts() == ["70"]
    tab.get_by_label("Search in").select_option("promotes")
    tab.get_by_label("Search units").fill("<img src=x")
    assert "21" in tab.locator(".card b").all_inner_texts()
    tab.get_by_label("Search units").fill("no such text anywhere")
    assert tab.get_by_text("No unit matches").is_visible()


def test_hostile_text_stays_text(pages, visit):
    tab = visit(pages.report, PLANTED)
    assert tab.locator("img").count() == 0
    assert tab.locator(".quote .source").first.inner_text().startswith(HOSTILE)
    assert HOSTILE in tab.locator(".quote .context").first.inner_text()
    assert tab.locator(".flags").get_by_text(HOSTILE).is_visible()
    tab.get_by_text("Every setting").click()
    assert tab.get_by_role("cell", name=HOSTILE).is_visible()


def test_a_planted_script_would_not_run(pages, browser, tmp_path):
    """Shows that the policy holds by itself: markup is planted behind the escaping."""
    image = "<img src=http://127.0.0.1:9/x onerror='window.ran = 1'>"
    planted = f"{image}<script>window.ran = 1</script></main>"
    page = tmp_path / "planted.html"
    page.write_text(pages.report.read_text().replace("</main>", planted))
    tab = browser.new_page()
    blocked = []
    tab.on("console", lambda message: blocked.append(message.text))
    tab.goto(page.as_uri())
    assert tab.locator("main img").count() == 1
    assert tab.evaluate("window.ran") is None
    assert len([text for text in blocked if "Content Security Policy" in text]) == 3
    tab.close()


def test_deep_link_opens_its_unit(pages, visit):
    tab = visit(pages.report, "#unit=blocks.1.mlp/70")
    assert tab.locator("#unit-title").inner_text() == "blocks.1.mlp / 70"
    assert tab.locator("#units").bounding_box()["y"] < 200
    assert tab.locator(".card[aria-selected=true] b").inner_text() == "70"
    tab.evaluate("location.hash = '#unit=blocks.0.mlp/9999'")
    assert tab.get_by_text("blocks.0.mlp/9999 is not among the 200 units").is_visible()


def test_a_section_link_lands_on_its_section(pages, visit):
    tab = visit(pages.report, "#units")
    assert 0 <= tab.locator("#units-title").bounding_box()["y"] < 150


def test_keys_walk_the_list(pages, visit):
    tab = visit(pages.report)
    tab.keyboard.press("/")
    assert tab.evaluate("document.activeElement.type") == "search"
    tab.keyboard.press("ArrowDown")
    seen = [tab.locator("#unit-title").inner_text()]
    for key in ("ArrowDown", "j", "End", "Home"):
        tab.keyboard.press(key)
        seen.append(tab.locator("#unit-title").inner_text())
    assert len(set(seen[:4])) == 4
    assert seen[4] == seen[0]
    assert tab.evaluate("document.activeElement.getAttribute('aria-activedescendant')") == "card-0"


def test_back_returns_to_the_unit_before(pages, visit):
    tab = visit(pages.report)
    tab.locator(".card").nth(1).click()
    first = tab.locator("#unit-title").inner_text()
    tab.locator(".card").nth(2).click()
    assert tab.locator("#unit-title").inner_text() != first
    tab.go_back()
    assert tab.locator("#unit-title").inner_text() == first


def test_sorting_and_the_layer_filter(pages, visit):
    tab = visit(pages.report)
    figures = tab.locator(".card .figure")
    densest = [float(text.removesuffix(" %")) for text in figures.all_inner_texts()[:6]]
    assert densest == sorted(densest, reverse=True)
    tab.get_by_label("Sort by").select_option("max")
    tab.get_by_label("Descending").click()
    smallest = [float(text) for text in figures.all_inner_texts()[:6]]
    assert smallest == sorted(smallest)
    tab.get_by_label("Layer", exact=True).select_option("blocks.1.mlp")
    assert tab.locator(".found").inner_text() == "100 of 200 units"
    assert set(tab.locator(".card .layer").all_inner_texts()) == {"blocks.1.mlp"}


def test_only_visible_cards_are_in_the_page(pages, visit):
    tab = visit(pages.report)
    assert tab.locator(".card").count() < 40
    tab.locator(".window").evaluate("box => box.scrollTo(0, box.scrollHeight)")
    tab.locator(".card[aria-posinset='200']").wait_for()
    assert tab.locator(".card").count() < 40
    tab.get_by_role("button", name="Grid").click()
    tab.locator(".card").first.wait_for()
    assert tab.locator(".card").count() < 80


def test_hover_tells_value_and_token(pages, visit):
    tab = visit(pages.report, PLANTED)
    tab.locator(".quote .tok.center").first.hover()
    tip = tab.locator(".tooltip").inner_text()
    value = tab.locator(".quote .source span:last-child").first.inner_text()
    assert "activation " + value in tip.replace("\u2212", "-")[:80]
    assert " · token " in tip


def test_white_space_is_seen_and_copied_as_it_was(pages, visit):
    tab = visit(pages.report, "#unit=blocks.1.mlp/70")
    copied = tab.evaluate(
        """() => {
          const line = document.querySelector(".quote .context .nl").closest(".context");
          getSelection().selectAllChildren(line);
          const clipboardData = new DataTransfer();
          const event = new ClipboardEvent("copy", { clipboardData, bubbles: true });
          line.dispatchEvent(event);
          return [event.clipboardData.getData("text/plain"), line.textContent];
        }"""
    )
    assert copied[0] == copied[1]
    assert "\n" in copied[0]
    assert not set("↵·") & set(copied[0])
    newline = tab.locator(".nl").first
    glyph = newline.evaluate("node => getComputedStyle(node, '::before').content")
    assert glyph == '"↵"'


@pytest.mark.parametrize("width", [320, 390, 768])
def test_narrow_windows_do_not_scroll_sideways(pages, visit, width):
    for page, place in ((pages.report, ""), (pages.report, PLANTED), (pages.compare, "")):
        tab = visit(page, place, width=width, height=800)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_narrow_list_opens_a_unit_and_comes_back(pages, visit):
    tab = visit(pages.report, width=390, height=800)
    assert not tab.locator(".pane-unit").is_visible()
    tab.locator(".card").first.click()
    assert tab.locator("#unit-title").is_visible()
    assert not tab.locator(".pane-list").is_visible()
    tab.get_by_role("button", name="All units").click()
    assert tab.locator(".card").first.is_visible()


def test_curves_follow_their_tools(pages, visit):
    tab = visit(pages.report, color_scheme="dark")
    assert tab.locator(".chart").count() == 7
    tab.get_by_role("button", name="Smooth").click()
    tab.get_by_role("button", name="Log x").click()
    tab.get_by_role("button", name="By tokens").click()
    assert tab.locator(".chart .at").first.inner_text() == "8.19M tokens, last"
    tab.locator(".chart .u-over").first.hover()
    assert not tab.locator(".chart .at").nth(3).inner_text().endswith("last")


def test_comparison_overlays_runs(pages, visit):
    tab = visit(pages.compare)
    validation = tab.locator(".chart", has_text="Bits per byte")
    assert validation.locator(".readout b").count() == 3
    tab.get_by_role("button", name="second").click()
    assert validation.locator(".readout b").count() == 2
    assert "Not ranked together" in tab.locator(".warning").inner_text()
    assert "seed" in tab.locator("#settings th.mono").all_inner_texts()


def test_a_label_opens_its_best_and_worst_units(pages, visit):
    tab = visit(pages.report)
    rows = tab.locator("#concepts details")
    assert "1 is told better" in tab.locator("#concepts .note").inner_text()
    assert rows.locator(".concept-unit").count() == 0
    rows.first.locator("summary").click()
    assert rows.first.locator(".concept-unit").count() == 2
    assert rows.first.locator(".quote b").all_inner_texts()[:3] == [
        "Right",
        "False alarm",
        "Missed",
    ]
    first = rows.first.locator(".context").first
    assert first.locator(".holds").count() == 2
    assert HOSTILE in first.inner_text()
    assert first.locator(".center").get_attribute("data-value") == "2.5"
    assert "fires below −0.5" in rows.first.locator(".concept-head").nth(1).inner_text()
    assert tab.locator("img").count() == 0
    rows.first.locator(".concept-head a").click()
    name = tab.locator("#concepts summary .muted").nth(1).inner_text()
    assert tab.locator("#unit-title").inner_text() == name


def test_layers_have_a_chart_and_a_key(pages, visit):
    tab = visit(pages.report, "#layers")
    assert tab.locator(".profile").count() == 1
    assert tab.locator(".profile circle").count() == 2
    key = tab.locator(".profile-key").inner_text()
    assert all(name in key for name in ("this run", "random twin", "pca", "floors"))


def test_a_run_without_scores_has_a_page(sample_run, visit):
    for name in ("scores.json", "units.json", "metrics.jsonl", "manifest.json"):
        (sample_run.path / name).unlink()
    tab = visit(write_report(sample_run))
    assert tab.locator(".empty").count() == 4


def test_a_site_without_directions_has_a_page(sample_run, visit):
    units = json.loads((sample_run.path / "units.json").read_text())
    for unit in units["sites"][0]["units"]:
        unit |= {"promotes": None, "suppresses": None, "contexts": [], "kurtosis": None}
    units["sites"][1]["units"] = []
    (sample_run.path / "units.json").write_text(json.dumps(units))
    tab = visit(write_report(SimpleNamespace(path=sample_run.path)))
    assert tab.get_by_text("no single direction").is_visible()
