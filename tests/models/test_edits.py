"""Edits at their edges: the future, patches of other shapes, and what is refused."""

import copy
import inspect
from dataclasses import replace

import pytest
import torch
from support.small import small_model

from pellucid.errors import UserError
from pellucid.models import (
    Activations,
    ablate,
    add,
    intervene,
    mix,
    patch,
    record,
    scale,
    set_to,
)
from pellucid.models.cache import Cache

SITE, EDGES = "blocks.0.mlp", "blocks.0.attention"


def recorded(model, tokens, site, *edits) -> Activations:
    with torch.no_grad(), intervene(model, {site: list(edits)}), record(model, [site]) as trace:
        model(tokens)
    return trace[site]


def full_passes(model, prompt, n_new):
    """Greedy text without a cache."""
    for _ in range(n_new):
        prompt = torch.cat([prompt, model(prompt).logits[:, -1:].argmax(-1)], dim=1)
    return prompt


EDGE_EDITS = {
    "add": lambda source: add(0.5),
    "set": lambda source: set_to(torch.tensor([0.25, 0.5]), [1, 2]),
    "ablate": lambda source: ablate([0], value=0.125),
    "patch": lambda source: patch(source),
}


@pytest.mark.parametrize("kind", EDGE_EDITS)
def test_edited_edges_never_reach_the_future(kind, tokens):
    model = small_model("dense")
    # A source whose every edge is 0.3, so that nothing of it is 0 by itself.
    source = Activations(torch.full((3, 4, 24, 24), 0.3).double(), n_units=4)
    edit = EDGE_EDITS[kind](source)
    edges = recorded(model, tokens, EDGES, edit).values
    assert not edges.triu(1).any()
    changed = tokens.clone()
    changed[:, 12:] = (changed[:, 12:] + 7) % 61
    with torch.no_grad(), intervene(model, {EDGES: edit}):
        before, after = model(tokens).logits, model(changed).logits
    assert torch.equal(before[:, :12], after[:, :12])
    assert not torch.equal(before[:, 12:], after[:, 12:])


@pytest.mark.parametrize("positions", [None, [2, 8, 11]])
@pytest.mark.parametrize("kind", EDGE_EDITS)
def test_cached_generation_edits_edges_as_full_passes_do(kind, positions, tokens):
    model = small_model("dense")
    values = torch.rand(3, 4, 24, 24, generator=torch.Generator().manual_seed(1)).double()
    edit = EDGE_EDITS[kind](Activations(values, n_units=4))
    if positions is not None:
        edit = replace(edit, positions=torch.tensor(positions))
    with torch.no_grad(), intervene(model, {EDGES: edit}), record(model, [EDGES]) as trace:
        grown = model.generate(tokens[:, :5], 10, temperature=0)
        cached = trace[EDGES].values
        slow = full_passes(model, tokens[:, :5], 10)
        assert torch.allclose(cached, trace[EDGES].values, atol=1e-12)
    assert torch.equal(grown, slow)


def test_a_patch_of_edges_must_fit_and_is_cut_to_the_pass(tokens):
    model = small_model("dense")
    source = recorded(model, tokens.flip(0), EDGES)
    short = recorded(model, tokens[:, :9], EDGES, patch(source)).values
    assert torch.equal(short, source.values[:, :, :9, :9])
    wrong = [
        (Activations(source.values[:1], n_units=4), r"\(3, 4, 24, 24\).*\(1, 4, 24, 24\)"),
        (Activations(source.values[:, :, :1], n_units=4), r"got \(3, 4, 1, 24\)"),
        (Activations(source.values[..., :1], n_units=4), r"got \(3, 4, 24, 1\)"),
        (Activations(torch.ones(3, 24, 4).double(), n_units=4), r"got \(3, 24, 4\)"),
    ]
    for bad, message in wrong:
        with pytest.raises(ValueError, match="patch needs a source of at least.*" + message):
            recorded(model, tokens, EDGES, patch(bad))
    heads = Activations(source.values[:, :1], n_units=1)
    with pytest.raises(ValueError, match="has 4 units, and the patch comes from a site of 1"):
        recorded(model, tokens, EDGES, patch(heads))


@pytest.mark.parametrize("site", [SITE, EDGES])
@pytest.mark.parametrize("units", [None, [1, 3]])
def test_a_patch_needs_a_source_at_selected_positions_alone(model, site, units, tokens):
    prompt = tokens[:, :5]
    source = recorded(model, tokens.flip(0)[:, :5], site)
    with torch.no_grad(), intervene(model, {site: patch(source, units, positions=[3])}):
        grown = model.generate(prompt, 8, temperature=0)
        with record(model, [site]) as trace:
            assert torch.equal(grown, full_passes(model, prompt, 8))
    plain = recorded(model, grown[:, :12], site)
    chosen = torch.arange(plain.n_units) if units is None else torch.tensor(units)
    if site == EDGES:
        found = trace[site].values[:, chosen]
        assert torch.equal(found[:, :, 3, :5], source.values[:, chosen, 3])
        assert torch.equal(found[:, :, 4:], plain.values[:, chosen, 4:])
    else:
        found = trace[site].select(chosen)
        assert torch.equal(found[:, 3], source.select(chosen)[:, 3])
        assert torch.equal(found[:, 4:], plain.select(chosen)[:, 4:])
    with pytest.raises(ValueError, match=r"at least \(3, (4, 7, )?7\)"):
        recorded(model, tokens, site, patch(source, units, positions=[3, 6]))


def test_a_dense_source_patches_a_sparse_site(tokens):
    model = small_model("topk")
    source = recorded(model, tokens.flip(0), SITE)
    dense = Activations(source.to_dense().float(), n_units=48)
    patched = recorded(model, tokens, SITE, patch(dense, positions=[2, 4]))
    expected = recorded(model, tokens, SITE).to_dense()
    expected[:, [2, 4]] = dense.values[:, [2, 4]].double()
    assert patched.is_sparse
    assert patched.values.dtype == torch.float64
    assert torch.equal(patched.to_dense(), expected)


@pytest.mark.parametrize("selection", ["units", "positions", "examples"])
def test_selections_are_integers(selection):
    mask = torch.tensor([False, True, True])
    for bad in (mask, mask.tolist(), [True, 2]):
        with pytest.raises(ValueError, match=rf"{selection} is a boolean mask.*mask.nonzero\(\)"):
            ablate(**{selection: bad})
    for bad in (torch.tensor([1.0]), [0.9]):
        with pytest.raises(ValueError, match=f"{selection} are integers; got torch.float"):
            ablate(**{selection: bad})
    with pytest.raises(ValueError, match=r"got shape \(2, 2\)"):
        ablate(**{selection: [[0, 1], [2, 3]]})
    for good in (mask.nonzero(), [1, 2], range(1, 3), torch.tensor([1, 2], dtype=torch.int32)):
        assert getattr(ablate(**{selection: good}), selection).tolist() == [1, 2]
    assert getattr(ablate(**{selection: []}), selection).tolist() == []


def test_examples_beyond_the_batch_are_refused(model, tokens):
    for site in (SITE, EDGES):
        with pytest.raises(ValueError, match=r"example 3 does not exist.*examples 0 … 2"):
            recorded(model, tokens, site, ablate(examples=[0, 3]))


def test_a_patch_from_a_site_of_other_units_is_refused(model, tokens):
    stream = recorded(model, tokens, "embed")
    n_units = model.sites()[SITE].n_units
    with pytest.raises(ValueError, match=f"{SITE}: it has {n_units} units, .* from a site of 16"):
        recorded(model, tokens, SITE, patch(stream, [1]))
    for bad in (stream.values, 0.0, {"embed": stream}):
        with pytest.raises(ValueError, match=f"takes the Activations.*got {type(bad).__name__}"):
            patch(bad)


@pytest.mark.parametrize("make", [set_to, scale, add, lambda v, u: ablate(u, value=v)])
@pytest.mark.parametrize("site", [SITE, EDGES, "embed"])
def test_values_are_one_number_or_one_for_each_unit(make, site, tokens):
    model = small_model("topk")
    for shape in [(3,), (1,), (2, 1), (24, 2)]:
        with (
            pytest.raises(ValueError, match=rf"{site}: a number or 2 values.*\({shape[0]},"),
            intervene(model, {site: make(torch.ones(shape), [1, 2])}),
        ):
            pass
    with (
        pytest.raises(ValueError, match="is a number or a tensor; got str"),
        intervene(model, {site: make("one", [1, 2])}),
    ):
        pass
    one, each = (recorded(model, tokens, site, make(v, [1, 2])) for v in (2.0, torch.full((2,), 2)))
    assert torch.equal(one.to_dense(), each.to_dense())


def test_only_edits_by_site_name_are_accepted():
    model = small_model("topk")
    for bad in (0.0, [ablate(), 0.0]):
        with (
            pytest.raises(ValueError, match=f"{SITE}: an edit such as .*got float"),
            intervene(model, {SITE: bad}),
        ):
            pass
    with pytest.raises(ValueError, match="by site name.*got list"), intervene(model, [SITE]):
        pass


def test_generation_takes_rows_of_integers(tokens):
    model = small_model("topk")
    # Without the shape checks that only tests make, which come first.
    generate = inspect.unwrap(type(model).generate)
    with pytest.raises(UserError, match=r"shape \(24,\); \(batch, token\) is accepted"):
        generate(model, tokens[0], 0)
    for bad in (tokens.double(), tokens > 3, tokens.tolist()):
        with pytest.raises(UserError, match="tensor of int64 or int32 is accepted"):
            generate(model, bad, 0)


def test_stream_directions_have_the_dtype_and_device_of_the_weights():
    model = small_model("topk")
    single, empty = copy.deepcopy(model).float(), copy.deepcopy(model).to("meta")
    for site in ("embed", "blocks.1.stream"):
        found = model.sites()[site].write_directions()
        assert torch.equal(found, torch.eye(16, dtype=torch.float64))
        assert single.sites()[site].write_directions().dtype == torch.float32
        assert empty.sites()[site].write_directions().device.type == "meta"


def test_rows_longer_than_the_context_are_refused(model, tokens):
    longer = torch.cat([tokens, tokens[:, :1]], dim=1)
    with pytest.raises(UserError, match="25 long; at most the context, 24"):
        model(longer)
    cache = Cache(2)
    model(tokens, cache=cache)
    with pytest.raises(UserError, match="25 long; at most the context, 24"):
        model(tokens[:, :1], cache=cache)


@pytest.mark.parametrize("mlp", ["dense", "topk"])
def test_a_mixture_is_each_examples_own_and_has_gradients_at_its_ends(mlp, tokens):
    """At a share of 1 too, of units that are silent: their base is what they would get instead."""
    model = small_model(mlp)
    n_units = model.sites()[SITE].n_units
    base = torch.linspace(0.5, 1.5, n_units).double()
    share = torch.ones(3, n_units, dtype=torch.float64)
    share[1], share[2, ::2] = 0.0, 0.0
    share.requires_grad_()
    before = recorded(model, tokens, SITE).to_dense()
    with intervene(model, {SITE: mix(share, base)}), record(model, SITE, grad=True) as trace:
        logits = model(tokens).logits
    after = trace[SITE].to_dense()
    mixed = torch.where(share[:, None].detach() == 1, before, base)
    assert torch.equal(after.detach(), mixed)
    assert torch.equal(logits[0], model(tokens[:1]).logits[0]) or mlp == "topk"
    (gradient,) = torch.autograd.grad(after.sum(), share)
    assert torch.allclose(gradient, (before - base).sum(1))


def test_a_mixture_of_edges_goes_by_heads(tokens):
    model = small_model("dense")
    before = recorded(model, tokens, EDGES).values
    share = torch.tensor([[1.0, 0.25], [0.5, 0.0], [0.0, 1.0]]).double()
    after = recorded(model, tokens, EDGES, mix(share, 0.0, [3, 1])).values
    expected = before.clone()
    expected[:, [3, 1]] *= share[..., None, None]
    assert torch.equal(after, expected)
    with (
        pytest.raises(ValueError, match="last axis of 2"),
        intervene(model, {EDGES: mix(torch.ones(3), 0.0, [0, 1])}),
    ):
        model(tokens)
