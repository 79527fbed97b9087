"""Norms whose scales are those of the unedited pass."""

import pytest
import torch
from support.small import small_model

from pellucid.eval.circuits.frozen import held_at, scales_of
from pellucid.models import ablate, intervene, record
from pellucid.models.norm import NORMS
from pellucid.models.stream import STREAMS


@pytest.fixture(params=["rms", "layer"])
def model(request):
    """A small model whose gains and biases are not 1 and 0."""
    made = small_model("dense", norm=NORMS[request.param].Config())
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "norm" in name:
                parameter.add_(torch.randn(parameter.shape, generator=generator) / 4)
    return made


def logits(model, tokens):
    with torch.no_grad():
        return model(tokens).logits


def test_an_unedited_pass_is_what_it_was(model, tokens):
    before = logits(model, tokens)
    with held_at(model, scales_of(model, tokens)):
        torch.testing.assert_close(logits(model, tokens), before, atol=1e-12, rtol=1e-12)
        copied = logits(model, tokens.repeat(2, 1))
        torch.testing.assert_close(copied, before.repeat(2, 1, 1), atol=1e-12, rtol=1e-12)
    assert torch.equal(logits(model, tokens), before)
    assert not any("forward" in vars(module) for module in model.modules())


def test_a_held_norm_is_linear_in_what_is_edited(model, tokens):
    """The last norm's output moves by as much for each equal step, as it does not unheld."""
    steps = []
    for held in (True, False):
        moved = []
        for value in (0.0, 1.0, 2.0):
            with intervene(model, {"blocks.1.mlp_out": ablate([0, 3], value=value)}):
                if held:
                    with held_at(model, scales_of(model, tokens)):
                        moved.append(logits(model, tokens))
                else:
                    moved.append(logits(model, tokens))
        steps.append((moved[2] - moved[1]) - (moved[1] - moved[0]))
    assert steps[0].abs().max() < 1e-12 and steps[1].abs().max() > 1e-4


def test_edits_in_force_do_not_reach_the_scales(model, tokens):
    edit = {"embed": ablate([1, 2, 3])}
    with held_at(model, scales_of(model, tokens)), intervene(model, edit):
        inside = logits(model, tokens)
    with (
        intervene(model, edit),
        record(model, ["blocks.0.mlp"]) as trace,
        held_at(model, scales_of(model, tokens)),
    ):
        assert "blocks.0.mlp" not in trace
        outside = logits(model, tokens)
    assert torch.equal(inside, outside)
    with intervene(model, edit):
        assert not torch.allclose(logits(model, tokens), inside, atol=1e-6)


def test_gradients_see_constants(model, tokens):
    """Held, the gradient of a norm's output is its gain times its scale, by hand."""
    norm = model.norm
    with (
        record(model, ["blocks.1.stream"], grad=True) as trace,
        held_at(model, scales_of(model, tokens)),
    ):
        model(tokens)
        stream = trace["blocks.1.stream"].values
        (found,) = torch.autograd.grad(norm(stream)[0, 5, 2], stream)
    x = stream[0, 5].detach()
    centred = x - x.mean() if hasattr(norm, "bias") and norm.bias is not None else x
    wanted = (centred.square().mean() + norm.eps).rsqrt() * norm.weight[2]
    if centred is x:
        assert found[0, 5, 2].item() == pytest.approx(wanted.item())
        assert found.count_nonzero() == 1
    else:
        assert found[0, 5, 2].item() == pytest.approx(wanted.item() * (1 - 1 / len(x)))


@pytest.mark.parametrize("stream", STREAMS)
def test_every_stream_can_be_held(stream, tokens):
    fields = {"topk_stream": {"k": 5}, "crate": {"n_heads": 4, "width": 48}}.get(stream, {})
    attention = "headwise" if stream == "dual_stream" else "softmax"
    made = small_model("topk", attention=attention, stream=STREAMS[stream].Config(**fields))
    before = logits(made, tokens)
    with held_at(made, scales_of(made, tokens)):
        torch.testing.assert_close(logits(made, tokens), before, atol=1e-10, rtol=1e-10)


def test_compiled_blocks_are_left_aside(model, tokens):
    for block in model.blocks:
        block.fast = lambda *args: pytest.fail("a compiled block does not know of held norms")
    with held_at(model, scales_of(model, tokens)):
        logits(model, tokens)
    assert all(block.fast is not None for block in model.blocks)


def test_other_rows_are_refused(model, tokens):
    with (
        held_at(model, scales_of(model, tokens)),
        pytest.raises(ValueError, match=r"\(3, 24\) rows and tokens"),
    ):
        model(tokens[:2])
    with (
        held_at(model, scales_of(model, tokens)),
        pytest.raises(ValueError, match=r"got \(3, 20\)"),
    ):
        model(tokens[:, :20])
