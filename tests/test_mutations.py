"""The tests themselves: breaking one promise in each area must turn the test that guards it red."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

MUTATIONS = {
    "fsync of a file is dropped": (
        "storage/files.py",
        "os.fsync(file.fileno())",
        "pass",
        "tests/test_checkpoint.py",
    ),
    "random state is not restored": (
        "training/state.py",
        "torch.set_rng_state(saved[:size].contiguous())",
        "pass",
        "tests/test_train.py::test_an_interrupted_run_resumes_bit_for_bit[step-17]",
    ),
    "rows come one too late": (
        "data/rows.py",
        "row = np.arange(first, first + batch, dtype=np.int64)",
        "row = np.arange(first + 1, first + 1 + batch, dtype=np.int64)",
        "tests/data/test_rows.py",
    ),
    "compiled code runs in spite of an edit": (
        "models/stream/residual.py",
        "self.body if watched or self.fast is None else self.fast",
        "self.fast or self.body",
        "tests/models/test_units.py::"
        "test_compiled_blocks_are_recorded_and_edited_after_they_have_run",
    ),
    "a recomputation forgets the edits": (
        "models/transformer.py",
        "states = [state.silent() for state in states]",
        "states = [type(state)() for state in states]",
        "tests/models/test_units.py::test_recomputation_sees_the_edits_of_its_forward_pass",
    ),
    "a non-finite gradient reaches the weights": (
        "training/step.py",
        "        if finite:\n            self.optimizers.step(share)",
        "        self.optimizers.step(share)",
        "tests/test_train.py::test_an_infinite_gradient_is_not_applied",
    ),
}


def run_pytest(root: Path, test: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(root.parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", test]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(MUTATIONS))
def test_a_broken_promise_turns_its_test_red(name, tmp_path):
    file, right, wrong, test = MUTATIONS[name]
    copy = tmp_path / "pellucid"
    left_out = shutil.ignore_patterns(
        ".git", ".venv", "runs", "__pycache__", ".typing", "*.egg-info"
    )
    shutil.copytree(ROOT, copy, ignore=left_out)
    source = (copy / file).read_text()
    assert right in source, f"{file} no longer holds {right!r}: name the line that does its work"
    (copy / file).write_text(source.replace(right, wrong))
    done = run_pytest(copy, test)
    assert done.returncode == 1, done.stdout[-2000:]
    assert " failed" in done.stdout and "error" not in done.stdout.splitlines()[-1]
