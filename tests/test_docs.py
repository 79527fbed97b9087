"""The pages of `docs/` run: what they show is what happens."""

import re
from pathlib import Path

import pytest
import torch

from pellucid import kernels
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


def test_the_page_of_the_kernels_runs_from_top_to_bottom(capsys):
    torch.manual_seed(0)
    names: dict = {}
    for code in blocks("kernels.md"):
        exec(compile(code, "docs/kernels.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "cpu: library calls" in printed
    assert "torch.Size([64, 32]) torch.Size([64, 8]) torch.int32 torch.Size([256, 32])" in printed
    # The pieces are the gradients of a loss whose gradient of the output is `grad`.
    decode = names["sparse_decode"]
    latents, w_dec = (names[n].detach().requires_grad_() for n in ("latents", "w_dec"))
    wanted = torch.autograd.grad(
        decode(latents, names["units"], w_dec), (latents, w_dec), names["grad"]
    )
    torch.testing.assert_close(names["decoder"].d_values, wanted[0])
    torch.testing.assert_close(names["decoder"].d_w_dec, wanted[1])
    torch.testing.assert_close(names["effect"], wanted[0])


def test_the_page_of_the_kernels_names_every_operation():
    page = (DOCS / "kernels.md").read_text()
    assert [name for name in kernels.__all__ if f"`{name}(" not in page and name != "path"] == []
