"""Rows that begin alike, computed once: the same logits as row by row, in every kind of model."""

from dataclasses import replace

import pytest
import torch
from support.small import FILLINGS, filled

from pellucid.models import Transformer, ablate, intervene, mix, record
from pellucid.models.beginnings import beginnings_of

LINES = ([3, 5, 7, 9, 2], [3, 5, 7, 8, 0], [3, 5, 7, 9, 9], [4, 5, 7, 0, 0], [3, 5, 7, 9, 2])
TOKENS, LAST = torch.tensor(LINES), torch.tensor([4, 3, 3, 2, 4])
UNLIKE = 4 + 1 + 1 + 3
"""3 5 7 9, then 2; 8 after 3 5 7; and 4 5 7: what follows a row's end does not count."""


def model_of(*fillings: str) -> Transformer:
    return Transformer(filled(*fillings), vocab_size=61, seed=1).double().eval()


def test_each_beginning_stands_once_and_every_place_finds_its_own():
    found = beginnings_of(TOKENS, LAST)
    assert (found.rows, found.width, len(found.tokens)) == (5, 5, UNLIKE)
    own = {
        tuple(row[: t + 1]) for row, end in zip(LINES, LAST, strict=True) for t in range(end + 1)
    }
    place = found.of.view(5, 5)
    seen = {}
    for row, line in enumerate(LINES):
        for t in range(int(LAST[row]) + 1):
            which = int(place[row, t])
            assert found.tokens[which] == line[t] and found.positions[which] == t
            assert seen.setdefault(tuple(line[: t + 1]), which) == which
    assert seen.keys() == own and len(set(seen.values())) == UNLIKE
    assert found.ends.tolist() == [seen[tuple(line[: end + 1])] for line, end in zip(LINES, LAST)]


@pytest.mark.parametrize("filling", [f for f in FILLINGS if f != "head=backpack"])
def test_logits_are_those_of_the_rows(filling):
    model = model_of(filling)
    found, wanted = model.logits_of(beginnings_of(TOKENS, LAST)), model.logits_at(TOKENS, LAST)
    assert wanted.std() > 1e-3
    assert torch.allclose(found, wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    "filling", ["mlp=topk", "mlp=dense", "position=learned", "stream=dual_stream"]
)
def test_copies_have_shares_and_slopes_of_their_own(filling):
    model, slopes, found = model_of(filling), [], []
    sites = {name: site for name, site in model.sites().items() if not name.startswith("head.")}
    rng = torch.Generator().manual_seed(0)
    draw = lambda n: torch.rand(3, n, generator=rng, dtype=torch.float64).requires_grad_()
    shares = {name: draw(site.n_units) for name, site in sites.items()}
    edits = {name: mix(share, 0.1) for name, share in shares.items()}
    with intervene(model, edits):
        rows = (TOKENS.repeat(3, 1), LAST.repeat(3))
        for logits in (model.logits_at(*rows), model.logits_of(beginnings_of(TOKENS, LAST), 3)):
            found.append(logits)
            slopes.append(torch.autograd.grad(logits[:, :7].square().sum(), shares.values()))
    assert torch.allclose(*found, rtol=1e-9, atol=1e-11)
    assert not torch.allclose(found[0][:5], found[0][5:10])
    for one, other in zip(*slopes, strict=True):
        assert torch.allclose(one, other, rtol=1e-8, atol=1e-10)


def test_layers_are_given_no_more_than_the_beginnings_and_attention_is_as_before_after_it():
    model = model_of("mlp=topk")
    with record(model, ["blocks.0.mlp", "blocks.1.attention"]) as trace:
        model.logits_of(beginnings_of(TOKENS, LAST), 2)
    assert trace["blocks.0.mlp"].values.shape[:2] == (2 * UNLIKE, 1)
    assert trace["blocks.1.attention"].values.shape[0] == 2 * len(TOKENS)
    assert model(TOKENS).logits.shape[:2] == TOKENS.shape
    assert all(block.attention.beginnings is None for block in model.blocks)


def test_heads_that_read_more_than_an_end_are_refused():
    rows = beginnings_of(TOKENS, LAST)
    with pytest.raises(ValueError, match="the head reads more"):
        model_of("head=backpack").logits_of(rows)
    model = model_of("head=concept")
    site = next(name for name in model.sites() if name.startswith("head."))
    with intervene(model, {site: ablate([0])}), pytest.raises(ValueError, match="looked at"):
        model.logits_of(rows)


def test_rows_longer_than_the_context_are_refused_as_ever():
    model = model_of("mlp=dense")
    model.config = replace(model.config, context=4)
    with pytest.raises(ValueError, match="the tokens are 5 long"):
        model.logits_of(beginnings_of(TOKENS, LAST))


def test_slopes_of_what_is_spread_are_summed_in_a_fixed_order_off_a_cpu():
    """torch names the slope of `index_select` among what a GPU sums in any order."""
    rows = beginnings_of(TOKENS, LAST)
    for device, summed in (("cpu", "IndexSelect"), ("meta", "Index")):
        on = replace(rows, of=rows.of.to(device), first=rows.first.to(device))
        x = torch.zeros(UNLIKE, 2, 1, 4, device=device, requires_grad=True)
        read = on.spread(x)
        assert read.shape == (5, 2, 5, 4)
        names, step = [], read.grad_fn
        while step is not None:
            names.append(step.name())
            step = step.next_functions[0][0] if step.next_functions else None
        assert f"{summed}Backward0" in names
