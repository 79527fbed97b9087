"""A made-up run, its pages, and a browser."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from pellucid.report import chromium, write_comparison, write_report

HERE = Path(__file__).parent
write_sample_run = runpy.run_path(str(HERE / "sample_run.py"))["write_sample_run"]
circuits = SimpleNamespace(**runpy.run_path(str(HERE / "sample_circuits.py")))


@pytest.fixture
def sample_run(tmp_path):
    """A run folder of this test's own."""
    return SimpleNamespace(path=write_sample_run(tmp_path / "sample", units=6))


@pytest.fixture
def sample_circuits():
    """Maker of circuit files: `circuit_file`, `write_circuits`, `sample_circuits`."""
    return circuits


@pytest.fixture(scope="session")
def pages(tmp_path_factory):
    """Written once: `report`, `compare` of two runs on the same data and one on other data, and
    `circuits`, the report of a run that has some."""
    base = tmp_path_factory.mktemp("runs")
    first = write_sample_run(base / "first", units=100)
    second = write_sample_run(base / "second", units=4, seed=1)
    other = write_sample_run(base / "other", units=4, seed=2, data="text")
    folders = [SimpleNamespace(path=path) for path in (first, second, other)]
    large = circuits.circuit_file("large", nodes=500, edges=2000, layers=6)
    drawn = SimpleNamespace(path=write_sample_run(base / "drawn", units=100))
    circuits.write_circuits(drawn.path, **circuits.sample_circuits(), large=large)
    report = write_report(folders[0])
    compare = write_comparison(folders, base / "compare.html")
    return SimpleNamespace(report=report, compare=compare, circuits=write_report(drawn))


@pytest.fixture(scope="session")
def browser():
    reason = chromium.missing()
    if reason:
        pytest.skip(f"page tests need a browser: {reason}")
    with chromium.headless() as found:
        yield found


@pytest.fixture
def visit(browser):
    """visit(path, place="", **how) opens a page; at the end nothing may have gone wrong on it."""
    tabs, wrong = [], []

    def open_tab(path, place="", *, width=1280, height=900, **how):
        context = browser.new_context(viewport={"width": width, "height": height}, **how)
        context.set_default_timeout(8000)
        tab = context.new_page()
        tab.on("console", lambda message: wrong.append(f"console: {message.text}"))
        tab.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        tab.on("dialog", lambda box: (wrong.append(f"dialog: {box.message}"), box.dismiss()))
        tab.on("request", lambda asked: _foreign(asked.url) and wrong.append(f"asked {asked.url}"))
        tab.goto(Path(path).as_uri() + place)
        tabs.append(context)
        return tab

    yield open_tab
    for context in tabs:
        context.close()
    assert wrong == []


def _foreign(url):
    return not url.startswith(("file:", "data:"))
