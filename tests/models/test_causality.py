"""In evaluation every filling of every slot is causal, blind to other rows, and cached exactly."""

import pytest
import torch
from support.small import FILLINGS, VOCAB, filled

from pellucid.models import Transformer
from pellucid.models.cache import Cache


@pytest.fixture(params=FILLINGS)
def model(request) -> Transformer:
    return Transformer(filled(request.param), vocab_size=VOCAB, seed=4).double().eval()


def test_logits_ignore_later_tokens(model, tokens):
    changed = tokens.clone()
    changed[:, 12:] = (changed[:, 12:] + 7) % VOCAB
    with torch.no_grad():
        before, after = model(tokens).logits, model(changed).logits
    assert torch.equal(before[:, :12], after[:, :12])
    assert not torch.equal(before[:, 12:], after[:, 12:])


def first_row_stays(model: Transformer, tokens: torch.Tensor) -> bool:
    changed = tokens.clone()
    changed[1:] = (changed[1:].roll(3, dims=1) + 3) % VOCAB
    with torch.no_grad():
        before, after = model(tokens).logits, model(changed).logits
    assert not torch.equal(before[1:], after[1:])
    return torch.equal(before[0], after[0])


def test_logits_ignore_other_rows(model, tokens):
    assert first_row_stays(model, tokens)


def test_a_dependence_on_other_rows_is_found(tokens):
    """While it is trained, batch_topk divides its budget among all rows."""
    model = Transformer(filled("mlp=batch_topk"), vocab_size=VOCAB).double()
    assert first_row_stays(model.eval(), tokens)
    assert not first_row_stays(model.train(), tokens)


def test_cached_generation_equals_full_passes(model, tokens):
    """The likeliest tokens one by one; and their logits, which would show a small difference."""
    made = model.generate(tokens[:, :5], 8, temperature=0)
    with torch.no_grad():
        whole = model(made).logits
    assert torch.equal(whole[:, 4:-1].argmax(-1), made[:, 5:])
    cache = Cache(len(model.blocks))
    with torch.no_grad():
        grown = [model(part, cache=cache).logits for part in made.split([5, 1, 1, 3, 3], dim=1)]
    assert torch.allclose(torch.cat(grown, dim=1), whole, atol=1e-11, rtol=0)
