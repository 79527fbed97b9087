"""The five calls: record, every kind of edit, directions, under every wrapper."""

import pytest
import torch
from support.small import FILLINGS, VOCAB, filled, small_model

from pellucid.models import (
    Activations,
    Transformer,
    UnknownSite,
    ablate,
    add,
    intervene,
    mix,
    patch,
    record,
    scale,
    set_to,
)

SITE = "blocks.0.mlp"


def run(model, tokens):
    with torch.no_grad():
        return model(tokens).logits


def recorded(model, tokens, *edits, site: str = SITE) -> Activations:
    with torch.no_grad(), intervene(model, {site: list(edits)}), record(model, [site]) as trace:
        model(tokens)
    return trace[site]


def test_recording_changes_nothing_and_shows_what_was_written(model, tokens):
    plain = run(model, tokens)
    with torch.no_grad(), record(model, model.sites()) as trace:
        seen = model(tokens).logits
    assert torch.allclose(plain, seen, atol=1e-12)
    assert set(trace) == set(model.sites())
    sites = model.sites()
    after_attention = trace["embed"].values + attention_write(model, trace)
    directions = sites[SITE].write_directions()
    if directions is not None:
        written = trace[SITE].to_dense() @ directions + bias(model)
        after = trace["blocks.0.stream"].values
        assert torch.allclose(after_attention + written, after, atol=1e-12)


def attention_write(model, trace):
    block = model.blocks[0]
    attention = block.attention
    x = block.attention_norm(trace["embed"].values)
    rotation = model.position.rotation(torch.arange(x.shape[1]))
    _, _, v = attention._read(x, rotation, None)
    return attention._write(trace["blocks.0.attention"].values @ v)


def bias(model):
    named = dict(model.blocks[0].mlp.named_parameters(recurse=False))
    return named.get("b_out", named.get("b_dec", 0.0))


def test_recording_one_site_leaves_the_bits_of_the_others(model, tokens):
    plain = run(model, tokens)
    with torch.no_grad(), record(model, [SITE]):
        assert torch.equal(model(tokens).logits, plain)


@pytest.mark.parametrize("name", FILLINGS)
def test_a_site_says_whether_its_units_act_on_pairs_of_tokens(name, tokens):
    model = Transformer(filled(name), vocab_size=VOCAB, seed=0).double().eval()
    with torch.no_grad(), record(model, model.sites()) as trace:
        model(tokens)
    assert {n: site.pairs for n, site in model.sites().items()} == {
        n: acts.values.ndim == 4 for n, acts in trace.items()
    }


def test_sparse_activations_are_canonical(tokens):
    model = small_model("topk")
    acts = recorded(model, tokens)
    assert acts.indices.dtype == torch.int32
    filled = acts.indices >= 0
    assert torch.equal(acts.values == 0, ~filled)
    assert torch.equal(acts.count, filled.sum(-1))
    order = torch.where(filled, acts.indices, acts.n_units)
    assert (order.diff(dim=-1) > 0)[filled[..., 1:]].all()
    assert torch.equal(acts.select(torch.tensor([7, 3])), acts.to_dense()[..., [7, 3]])
    with pytest.raises(ValueError, match="stream the sparse form"):
        acts.to_dense(max_bytes=100)


def half_way(values, share):
    """Values on their way to 2."""
    return share * values + (1 - share) * 2.0


@pytest.mark.parametrize("selection", [{}, {"positions": [2, 5]}, {"examples": [1]}])
@pytest.mark.parametrize("units", [None, [0, 17, 40]])
def test_every_edit_does_what_it_says(model, tokens, selection, units):
    before = recorded(model, tokens).to_dense()
    chosen = torch.zeros_like(before, dtype=torch.bool)
    rows = selection.get("examples", [0, 1, 2])
    where = selection.get("positions", list(range(24)))
    columns = units if units is not None else list(range(before.shape[-1]))
    grid = torch.meshgrid(*map(torch.tensor, (rows, where, columns)), indexing="ij")
    chosen[grid] = True
    per_unit = torch.arange(1.0, len(columns) + 1, dtype=torch.float64)
    spread = torch.zeros(before.shape[-1], dtype=torch.float64)
    spread[columns] = per_unit
    source = recorded(model, tokens.flip(0))
    cases = {
        "ablate": (ablate(units, **selection), torch.zeros_like(before)),
        "mean": (ablate(units, value=per_unit, **selection), spread.expand_as(before)),
        "set": (set_to(2.5, units, **selection), torch.full_like(before, 2.5)),
        "scale": (scale(-3.0, units, **selection), -3.0 * before),
        "scale each": (scale(per_unit, units, **selection), before * spread),
        "add": (add(0.5, units, **selection), before + 0.5),
        "mix": (mix(spread[columns] / 64, 2.0, units, **selection), half_way(before, spread / 64)),
        "patch": (patch(source, units, **selection), source.to_dense()),
    }
    for name, (edit, changed) in cases.items():
        after = recorded(model, tokens, edit).to_dense()
        assert torch.equal(after, torch.where(chosen, changed, before)), name


def test_an_edit_changes_the_logits_as_the_write_directions_say(tokens):
    """Adding to a unit of the last layer moves the stream by that much of its direction."""
    model = small_model("topk")
    site = "blocks.1.mlp"
    direction = model.sites()[site].write_directions()[11]
    with torch.no_grad(), record(model, ["blocks.1.stream"]) as before:
        model(tokens)
    with (
        torch.no_grad(),
        intervene(model, {site: add(2.0, [11], positions=[4])}),
        record(model, ["blocks.1.stream"]) as after,
    ):
        model(tokens)
    moved = after["blocks.1.stream"].values - before["blocks.1.stream"].values
    expected = torch.zeros_like(moved)
    expected[:, 4] = 2.0 * direction
    assert torch.allclose(moved, expected, atol=1e-12)


def test_edits_of_attention_edges(tokens):
    model = small_model("dense")
    site = "blocks.0.attention"
    edges = recorded(model, tokens, site=site).values
    assert torch.allclose(edges.sum(-1), torch.ones_like(edges[..., 0]))
    edited = recorded(model, tokens, ablate([1], positions=[3]), site=site).values
    expected = edges.clone()
    expected[:, 1, 3] = 0
    assert torch.equal(edited, expected)
    source = recorded(model, tokens.flip(0), site=site)
    patched = recorded(model, tokens, patch(source, [2]), site=site).values
    assert torch.equal(patched[:, 2], source.values[:, 2])
    assert torch.equal(patched[:, :2], edges[:, :2])


def test_edits_nest_and_end(tokens):
    model = small_model("topk")
    plain = run(model, tokens)
    with intervene(model, {SITE: set_to(1.0, [2])}):
        assert (recorded(model, tokens, scale(3.0, [2])).select(torch.tensor([2])) == 3.0).all()
        assert not torch.equal(run(model, tokens), plain)
    assert torch.equal(run(model, tokens), plain)
    with pytest.raises(RuntimeError), intervene(model, {SITE: ablate()}):
        raise RuntimeError
    assert torch.equal(run(model, tokens), plain)


def test_gradients_reach_recorded_activations(model, tokens):
    """In the last layer: earlier ones may have a later layer's straight-through gradient."""
    site = "blocks.1.mlp"
    with record(model, [site], grad=True) as trace:
        loss = model(tokens).logits.square().mean()
    grad = torch.autograd.grad(loss, trace[site].values)[0]
    eps = 1e-6
    acts = trace[site]
    unit_row = acts.values[0, 3].detach()
    slot = int(unit_row.abs().argmax())
    unit = slot if acts.indices is None else int(acts.indices[0, 3, slot])
    with torch.no_grad(), intervene(model, {site: add(eps, [unit], positions=[3], examples=[0])}):
        moved = model(tokens).logits.square().mean()
    assert float((moved - loss.detach()) / eps) == pytest.approx(float(grad[0, 3, slot]), rel=1e-3)


def test_unknown_names_and_units_raise(tokens):
    model = small_model("topk")
    with (
        pytest.raises(UnknownSite, match="did you mean 'blocks.0.mlp'"),
        record(model, ["block.0.mlp"]),
    ):
        pass
    with pytest.raises(UnknownSite, match="no site"), intervene(model, {"nothing": ablate()}):
        pass
    with (
        pytest.raises(ValueError, match=r"units are 0 … 47"),
        intervene(model, {SITE: ablate([48])}),
    ):
        pass
    with pytest.raises(ValueError, match="twice"), intervene(model, {SITE: ablate([4, 4])}):
        pass
    with pytest.raises(ValueError, match="count from 0"):
        ablate([1], positions=[-1])
    with record(model, [SITE]) as trace, pytest.raises(UnknownSite, match="has not run"):
        trace[SITE]


def test_generation_honors_edits_at_absolute_positions(tokens):
    model = small_model("topk")
    prompt, site = tokens[:, :5], "blocks.1.mlp"
    direction = 50 * torch.randn(48, generator=torch.Generator().manual_seed(1)).double()
    edit = add(direction, positions=[9, 10])
    with intervene(model, {site: edit}), record(model, [site]) as trace:
        grown = model.generate(prompt, 10, temperature=0)
        slow = prompt
        assert trace[site].values.shape[1] == 14
        cached = trace[site].to_dense()
        for _ in range(10):
            slow = torch.cat([slow, model(slow).logits[:, -1:].argmax(-1)], dim=1)
        assert torch.allclose(trace[site].to_dense(), cached, atol=1e-12)
    assert torch.equal(grown, slow)
    assert not torch.equal(grown, model.generate(prompt, 10, temperature=0))


def test_compiled_blocks_are_recorded_and_edited_after_they_have_run(tokens):
    """A hook set after compilation never fires; our sites do."""
    model = small_model("topk")
    reference = run(model, tokens)
    edited = recorded(model, tokens, set_to(2.0, [3])).to_dense()
    with intervene(model, {SITE: set_to(2.0, [3])}):
        changed = run(model, tokens)
    model.compile_blocks()
    assert torch.allclose(run(model, tokens), reference, atol=1e-9)
    assert torch.equal(recorded(model, tokens, set_to(2.0, [3])).to_dense(), edited)
    with intervene(model, {SITE: set_to(2.0, [3])}):
        assert torch.allclose(run(model, tokens), changed, atol=1e-9)
    assert torch.allclose(run(model, tokens), reference, atol=1e-9)


@pytest.mark.slow
def test_a_wholly_compiled_model_is_recorded_and_edited(tokens):
    model = small_model("topk")
    expected = recorded(model, tokens, ablate([3, 8])).to_dense()
    compiled = torch.compile(model, backend="eager")
    plain = run(compiled, tokens)
    assert torch.equal(recorded(compiled, tokens, ablate([3, 8])).to_dense(), expected)
    assert torch.allclose(run(compiled, tokens), plain)


@pytest.mark.parametrize("inside", [True, False])
def test_recomputation_sees_the_edits_of_its_forward_pass(tokens, inside):
    """Also when the context was left before backward, or another one was entered."""
    model = small_model("topk").train()

    def gradients(checkpointing: bool):
        model.zero_grad()
        model.checkpointing = checkpointing
        with intervene(model, {SITE: add(0.3, [5])}), record(model, [SITE], grad=True) as trace:
            loss = model(tokens).logits.square().mean()
            first = trace[SITE]
            if inside:
                loss.backward()
        if not inside:
            with intervene(model, {SITE: ablate()}), record(model, [SITE]) as other:
                loss.backward()
            assert len(other) == 0
        assert trace[SITE] is first
        return [p.grad.clone() for p in model.parameters()]

    for a, b in zip(gradients(False), gradients(True), strict=True):
        assert torch.allclose(a, b, atol=1e-12)


def test_a_pass_without_edits_is_recomputed_without_them(tokens):
    model = small_model("topk").train()
    model.checkpointing = True
    plain = torch.autograd.grad(model(tokens).logits.square().mean(), model.blocks[0].mlp.w_dec)[0]
    loss = model(tokens).logits.square().mean()
    with intervene(model, {SITE: ablate()}):
        later = torch.autograd.grad(loss, model.blocks[0].mlp.w_dec)[0]
    assert torch.equal(plain, later)


def test_bfloat16_autocast_records_what_runs(tokens):
    model = small_model("topk").float()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        plain = model(tokens).logits
        with record(model, [SITE]) as trace:
            seen = model(tokens).logits
    assert torch.equal(plain, seen)
    assert trace[SITE].values.dtype == torch.bfloat16
