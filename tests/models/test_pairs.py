"""Every two fillings of different slots, and of different layers, train together or are refused."""

import itertools
import random

import pytest
from support.fitting import Fit
from support.small import FILLINGS, SLOTS, VOCAB, filled

from pellucid.errors import ConfigError
from pellucid.models import ModelConfig, Transformer
from pellucid.models.config import PER_LAYER
from pellucid.models.mlp import MLPS
from pellucid.models.sparsity import SPARSITIES
from pellucid.settings.fields import tag_of

ROUTED, WHOSE = "gradient_rule=routed", "gradient_rule = routed: blocks.0."

REFUSED = {
    ("attention=subspace", "stream=dual_stream"): "stream=dual_stream takes attention's values",
    ("attention=subspace", "site_sparsity=abs_topk"): "site_sparsity.places: layer 0 has no q",
    ("stream=crate", "site_sparsity=abs_topk"): "site_sparsity.places: layer 0 has no q",
    ("mlp=mxd", ROUTED): f"{WHOSE}mlp (MixtureOfDecoders) has no parameter with one row per unit",
    ("mlp=monet", ROUTED): f"{WHOSE}mlp (MonetMLP) has no parameter with one row per unit",
    ("mlp=codebook", ROUTED): f"{WHOSE}mlp (CodebookMLP) has no parameter with one row per unit",
    ("mlp=memory", ROUTED): "gradient_rule = routed: shared.memory.values is one parameter of",
    ("stream=crosslayer", ROUTED): f"{WHOSE}mlp (CrossLayerMLP) has no parameter with one row per",
    (
        "stream=crosslayer_batch_topk",
        ROUTED,
    ): f"{WHOSE}mlp (CrossLayerBatchTopKMLP) has no parameter",
    ("attention=headwise", ROUTED): f"{WHOSE}attention.w_q (HeadwiseAttention) does not say",
    ("attention=bilinear", ROUTED): f"{WHOSE}attention.w_q (BilinearAttention) does not say",
    ("attention=codebook", ROUTED): f"{WHOSE}attention.w_q (CodebookAttention) does not say",
    ("attention=gated", ROUTED): f"{WHOSE}attention.w_q (GatedAttention) does not say",
    ("head=backpack", ROUTED): "gradient_rule = routed: embedding.weight and head.weight is one",
    ("constraint=weight_topk", ROUTED): "gradient_rule = routed works with constraint=none alone",
}
"""All pairs that cannot work, with the beginning of the reason."""

STEPS = 20
DEFAULTS = {slot: tag_of(table, getattr(ModelConfig(), slot)) for slot, table in SLOTS.items()}

Pair = tuple[str, str]


def others(slot: str) -> list[str]:
    """The fillings that a slot does not have by default: those are in every single one's model."""
    return [f"{slot}={tag}" for tag in SLOTS[slot] if tag != DEFAULTS[slot]]


PAIRS: dict[str, list[Pair]] = {
    f"{a} {b}": [*itertools.product(others(a), others(b))]
    for a, b in itertools.combinations(SLOTS, 2)
}
MIXES: dict[str, list[Pair]] = {
    f"{slot}@0 {slot}@1": [
        (f"{slot}@0={a}", f"{slot}@1={b}") for a, b in itertools.combinations(table, 2)
    ]
    for slot, table in PER_LAYER.items()
}


def few(pairs: list[Pair]) -> list[Pair]:
    """So many of the pairs, in an order drawn once and for all, that every filling is in one."""
    unseen, chosen = {name for pair in pairs for name in pair}, []
    for pair in random.Random(0).sample(pairs, len(pairs)):
        if unseen.intersection(pair):
            chosen.append(pair)
            unseen -= set(pair)
    return chosen


def failures(names: tuple[str, ...]) -> list[str]:
    """What is wrong with a model of these fillings after some steps on one batch.

    A rule of gradients is only built here: its steps are those of tests/test_routed_training.py.
    """
    run = Fit(Transformer(filled(*names), vocab_size=VOCAB), steps=STEPS)
    first, never = run.gradient(), set(run.silent())
    for _ in range(STEPS):
        run.step()
        never &= set(run.silent())
    last = run.gradient()
    wrong = [f"no gradient for {', '.join(sorted(never))}"] if never else []
    return wrong + ([f"the loss went from {first} to {last}"] if not last < 0.9 * first else [])


def assert_trained(pairs: list[Pair]) -> None:
    wrong = {pair: failures(pair) for pair in pairs if pair not in REFUSED}
    assert {pair: reasons for pair, reasons in wrong.items() if reasons} == {}


@pytest.mark.parametrize("name", FILLINGS)
def test_every_filling_trains(name):
    assert failures((name,)) == []


@pytest.mark.parametrize("slots", PAIRS)
def test_some_pairs_of_all_slots_train(slots):
    assert_trained(few(PAIRS[slots]))


@pytest.mark.slow
@pytest.mark.parametrize("slots", PAIRS)
def test_all_pairs_train(slots):
    assert_trained(PAIRS[slots])


@pytest.mark.parametrize("slots", MIXES)
def test_some_layers_of_different_fillings_train(slots):
    assert_trained(few(MIXES[slots]))


@pytest.mark.slow
@pytest.mark.parametrize("slots", MIXES)
def test_all_layers_of_different_fillings_train(slots):
    assert_trained(MIXES[slots])


def test_the_few_hold_every_filling():
    for pairs in (*PAIRS.values(), *MIXES.values()):
        names = [name for pair in few(pairs) for name in pair]
        assert set(names) == {name for pair in pairs for name in pair}


def test_what_is_refused_is_what_is_listed():
    """Configurations of all pairs, defaults among them, and the models that they build."""
    fillings = [pair for pair in itertools.combinations(FILLINGS, 2) if not one_slot(pair)]
    found = {}
    for pair in [*fillings, *itertools.chain(*MIXES.values())]:
        try:
            Transformer(filled(*pair), vocab_size=VOCAB)
        except ConfigError as error:
            found[pair] = str(error)
    assert set(found) == set(REFUSED)
    for pair, reason in REFUSED.items():
        assert found[pair].startswith(reason)


def one_slot(pair: Pair) -> bool:
    a, b = (name.partition("=")[0] for name in pair)
    return a == b


@pytest.mark.parametrize("tag", MLPS)
def test_hidden_neurons_are_sparse_where_the_filling_has_them(tag):
    """The one place of the eight that some fillings of the mlp slot lack."""
    sparsity = SPARSITIES["abs_topk"].Config(places=("mlp_neuron",))
    try:
        config = filled(f"mlp={tag}").replace(site_sparsity=sparsity)
    except ConfigError as error:
        assert "layer 0 has no mlp_neuron" in str(error)
        assert "mlp_neuron" not in MLPS[tag].places
    else:
        run = Fit(Transformer(config, vocab_size=VOCAB))
        run.gradient()
        assert run.silent() == []
        assert "mlp_neuron" in MLPS[tag].places
