"""docs/add-a-layer.md: its layer, put in the table, passes every general test of layers."""

import os
import re
import subprocess
import sys

from support import newcomer
from support.tree import ROOT


def test_the_layer_that_is_added_passes_every_general_test():
    """The page's code, put in the table before the tests are collected."""
    tests = ROOT / "tests"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p"]
    command += ["support.newcomer", "-k", "squared_relu and not recorded", str(tests / "models")]
    paths = os.pathsep.join([str(tests), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = os.environ | {"PYTHONPATH": paths}
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = done.stdout.splitlines()[-1]
    assert int(re.search(r"(\d+) passed", summary)[1]) > 20
    assert "skipped" not in summary


def test_the_layer_that_is_added_is_short():
    code, line = newcomer.blocks()
    assert len(code.splitlines()) < 60
    assert len(line.splitlines()) == 1
