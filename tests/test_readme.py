"""The README's commands are accepted, its tables name what exists, and its tree is the tree."""

import re

import pytest
from support.tree import ROOT, shipped_folders

from pellucid.cli import _matched
from pellucid.data import CORPORA
from pellucid.experiments import run_config
from pellucid.models.mlp import MLPS

README = (ROOT / "README.md").read_text()
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
TRAIN = re.findall(r"^pellucid train ([^#\n]+)", README, flags=re.MULTILINE)


@pytest.mark.parametrize("words", TRAIN)
def test_the_commands_are_accepted(words):
    run_config(_matched(words.split())[0])


def test_some_commands_were_found():
    assert len(TRAIN) >= 3


@pytest.mark.parametrize(("dial", "table"), [("mlp", MLPS), ("data", CORPORA)])
def test_the_dials_name_what_fills_the_slot(dial, table):
    (row,) = re.findall(rf"^\| `{dial}` \| (.*) \|$", README, flags=re.MULTILINE)
    named = set(re.findall(r"`([^`]+)`", row))
    assert named == set(table) - {"generated"}  # for tests


def test_the_tree_is_the_tree():
    """Each folder and each module of the root is named, and nothing that is not there."""
    (tree,) = re.findall(r"```\n(train\.py.*?)```", README, flags=re.DOTALL)
    lines = [line.split("   ")[0] for line in tree.splitlines()]
    named = {name.rstrip("/") for line in lines for name in line.split()}
    folders = {folder.name for folder in shipped_folders() if folder.parent == ROOT}
    modules = {path.name for path in ROOT.glob("*.py")} - {"__init__.py", "errors.py"}
    assert named == folders - {ROOT.name} | modules | {"docs", "tests"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"(?<!!)\[[^]]*\]\(([^)#]+)\)", page.read_text())
    there = [page.parent / link for link in links if "://" not in link]
    assert [path for path in there if not path.exists()] == []
