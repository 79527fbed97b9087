"""The page of labels lists them as they are."""

from support.tree import ROOT

from pellucid.eval.labels.listing import listing


def test_the_page_holds_the_table():
    assert (ROOT / "docs" / "metrics" / "labels.md").read_text().endswith("\n\n" + listing())
