"""The figure of the speed is one line, and the garbage collector is as it was."""

import gc
import re

from pellucid.eval.labels.collecting import paused
from pellucid.eval.labels.speed import speed


def test_a_line_says_how_fast():
    said = speed(200)
    assert re.fullmatch(r"\d+ files, [\d.]+ MB in [\d.]+ CPU s: [\d.]+ MB/s", said)
    assert float(said.split()[-2]) > 0.05


def test_collection_is_off_only_within():
    on_within = []
    with paused():
        on_within.append(gc.isenabled())
    assert on_within == [False]
    assert gc.isenabled()
    gc.disable()
    try:
        with paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
