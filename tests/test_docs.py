"""The pages of `docs/` run: what they show is what happens."""

import re
from pathlib import Path

import pytest

from pellucid.experiments import run_config
from pellucid.train import train

DOCS = Path(__file__).parents[1] / "docs"


def blocks(page: str) -> list[str]:
    """The Python blocks of a page, in order."""
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), flags=re.DOTALL)


@pytest.fixture(scope="module")
def small_run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "run"
    words = "data=generated data.n_documents=120 data.vocab_size=300 d_model=16 context=32"
    words += " attention.n_heads=2 mlp.width=64 mlp.k=4 train.steps=8 train.eval_tokens=512"
    assert train(run_config(["tiny", *words.split(), "train.device=cpu"]), folder) == 0
    return folder


def test_the_notebook_page_runs_from_top_to_bottom(small_run, capsys):
    names: dict = {"RUN": small_run}
    for code in blocks("notebook.md"):
        exec(compile(code, "docs/notebook.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "blocks.0.mlp: 64 mlp units, linear-given-active-set" in printed
    assert "(4, 32, 4) (4, 32, 16)" in printed
    # Patching each active unit moved the logits.
    moved = re.findall(r"^\d+ ([\d.e-]+)$", printed, flags=re.MULTILINE)
    assert moved and max(map(float, moved)) > 0
