"""Codebooks against the authors' own, codes copied across: outputs and gradients."""

import pytest
import torch
from support.originals import recorded, same

from pellucid.models.codebook import Codebook, Codes


def codebook(name: str, *, groups: int, **fields) -> Codebook:
    """A codebook that has the recording's codes."""
    layer = Codebook(Codes(codes=10, k=3, **fields), 8, kind="mlp", groups=groups).double().eval()
    with torch.no_grad():
        layer.w_dec.copy_(torch.cat(list(recorded(name).weights.values())))
    return layer


def test_of_every_group_the_same_codes_pass_on():
    original = recorded("codebook_groups")
    layer = codebook("codebook_groups", groups=2)
    for path in (layer, layer.split):
        same("codebook_groups", path(original.inputs["x"])[0], original.output, 1e-13)


@pytest.mark.parametrize("name", ["codebook_base", "codebook_fullaeloss"])
def test_messages_and_both_gradients(name):
    """The task's alone, and with both losses, whose sums over channels the original takes."""
    original = recorded(name)
    # Of 10 tokens with 8 channels; the original's commitment of 0.25 is not a mean over tokens.
    both = name == "codebook_fullaeloss"
    weights = {"reconstruction": 8.0, "commitment": 0.25 * 10 * 8} if both else {}
    layer = codebook(name, groups=1, **weights)
    for path in (layer, layer.split):
        layer.zero_grad()
        x = original.inputs["x"].clone().requires_grad_()
        y, told = path(x)
        same(f"{name}: message", y, original.output, 1e-13)
        losses = told["loss/reconstruction"] + told["loss/commitment"] if both else 0.0
        ((y * original.inputs["probe"]).sum() + losses).backward()
        same(f"{name}: gradient of the input", x.grad, original.gradients["x"], 1e-12)
        codes = original.gradients["codebook"]
        same(f"{name}: gradient of the codes", layer.w_dec.grad, codes, 1e-12)
