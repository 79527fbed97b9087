"""The recordings themselves: where each comes from, that it is small, and that the page names it."""

import re

import numpy as np
import pytest
import torch
from support.originals import FOLDER, recorded
from support.tree import ROOT

NAMES = sorted(path.stem for path in FOLDER.glob("*.npz"))
MAX_BYTES = 450_000


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_says_where_it_comes_from(name):
    header = recorded(name).header
    assert header["repository"].startswith("https://")
    assert re.fullmatch("[0-9a-f]{40}", header["commit"])
    for key in ("file", "function", "adapted", "licence", "settings", "weights", "dtype"):
        assert header[key], key


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_those_of_the_formula(name):
    """On a grid that float32 keeps exactly, so that both sides compute with the same numbers."""
    for weight in recorded(name).weights.values():
        assert torch.equal((weight * 1024).round(), weight * 1024)


def test_recordings_are_small_and_hold_numbers_alone():
    assert sum(path.stat().st_size for path in FOLDER.glob("*.npz")) < MAX_BYTES
    for name in NAMES:
        with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as arrays:
            kinds = {arrays[key].dtype.kind for key in arrays.files if key != "header"}
        assert kinds <= {"f", "i"}


def test_the_page_and_the_tests_name_every_recording():
    page = (ROOT / "docs" / "parity.md").read_text()
    tests = "".join(path.read_text() for path in FOLDER.glob("test_parity_*.py"))
    assert [name for name in NAMES if f"`{name}`" not in page] == []
    unused = [name for name in NAMES if f'"{name}"' not in tests]
    assert unused == ["monet_horizontal", "monet_vertical"]  # named by their split
    for name in NAMES:
        assert recorded(name).header["commit"][:10] in page
