"""The configuration of a run: what it accepts, what it is called, and the presets."""

import json

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pellucid.config import RunConfig, TrainConfig, default_run_name, identity_hash
from pellucid.errors import ConfigError
from pellucid.experiments import PRESETS, preset, run_config
from pellucid.models import Transformer, account
from pellucid.settings import fields
from pellucid.settings.summary import measured_rate, summary
from pellucid.settings.words import changes, describe, fillings, override

ROWS = describe(RunConfig())
EVERY_FILLING = sorted(
    {row.short for _, by_tag in fillings(RunConfig()) for rows in by_tag.values() for row in rows}
)
odd_values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=6),
    st.lists(st.text(max_size=3), max_size=2),
    st.sampled_from([10**400, 2**63, "", "none", "nan", {}, {"type": "topk"}, {"type": "x"}]),
)


def outcome(build):
    """What `build` gives and "", or None and what it refuses with."""
    try:
        return build(), ""
    except ConfigError as error:
        return None, str(error)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([row.path for row in ROWS]), odd_values)
def test_any_value_of_any_field_is_a_run_or_refused_by_name(path, value):
    # Every layer is checked one by one.
    assume(path != "model.n_layers" or not isinstance(value, int) or value < 1000)
    tree = fields.to_json(RunConfig())
    *groups, last = path.split(".")
    node = tree
    for name in groups:
        node = node[name]
    node[last] = value
    config, said = outcome(lambda: fields.from_json(RunConfig, tree))
    if config is None:
        # A contradiction names either of the fields that contradict each other.
        assert path.split(".")[0] in said
        assert "\n" not in said
    else:
        again = json.loads(json.dumps(fields.to_json(config), allow_nan=False))
        assert fields.from_json(RunConfig, again) == config


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(EVERY_FILLING + [row.short for row in ROWS]),
    st.sampled_from(
        ["nan", "inf", "-1", "0", "1e999", "x", "", "none", "true", "1e3", "7", "[", "[1"]
    ),
    st.sampled_from(["dense", "topk", "abs_topk", "batch_topk", "jumprelu"]),
)
def test_any_word_is_a_run_or_refused(path, text, mlp):
    config, said = outcome(lambda: override(RunConfig(), [f"{path}={text}", f"mlp={mlp}"]))
    if config is None:
        assert path.rpartition(".")[2] in said
        assert "\n" not in said
    else:
        assert fields.from_json(RunConfig, fields.to_json(config)) == config


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_comes_back_from_json_and_names_itself(name):
    config = preset(name)
    assert fields.from_json(RunConfig, json.loads(json.dumps(fields.to_json(config)))) == config
    assert config.preset == name and default_run_name(config, config) == f"{name}-seed0"


def test_presets_have_the_sizes_they_speak_of():
    sizes = {n: account(preset(n).model, preset(n).data.vocab_size).total for n in PRESETS}
    assert sizes == {"tiny": 920_448, "small": 9_978_624, "base": 123_633_408}
    dense = run_config(["base", "mlp=dense"])
    assert account(dense.model, dense.data.vocab_size).total == sizes["base"]


def test_words_without_a_preset_change_tiny():
    assert run_config(["seed=3"]) == preset("tiny").replace(seed=3)
    assert run_config(["seed=3", "preset=small"]) == preset("small").replace(seed=3)
    with pytest.raises(ConfigError, match="preset = 'tini' is not accepted; did you mean tiny"):
        run_config(["tini"])
    with pytest.raises(ConfigError, match="'small' is a second preset"):
        run_config(["seed=3", "tiny", "small"])


def test_layers_may_differ():
    config = run_config(["mlp=dense", "mlp@1=topk", "mlp@1.k=8", "data=generated", "data.seed=5"])
    model = Transformer(config.model, vocab_size=300)
    assert [type(block.mlp).__name__ for block in model.blocks] == ["DenseMLP", "TopKMLP"]
    assert model.blocks[1].mlp.config.k == 8 and config.data.corpus.seed == 5
    with pytest.raises(ConfigError, match=r"^model.mlp@2: layers 0 … 1 are accepted"):
        run_config(["mlp@2=dense"])


@pytest.mark.parametrize(
    "words, name",
    [
        ([], "tiny-seed0"),
        (["mlp.k=16", "train.steps=500", "seed=1"], "tiny-mlp.k=16-steps=500-seed1"),
        (["mlp=dense", "train.device=cpu", "train.log_every=3"], "tiny-mlp=dense-seed0"),
        (["mlp@1=dense"], "tiny-mlp@1=dense-seed0"),
        (["mlp.k=32"], "tiny-seed0"),
    ],
)
def test_a_run_is_named_by_what_changed(words, name):
    assert default_run_name(run_config(words), preset("tiny")) == name


def test_names_stay_short_and_apart():
    def name(path: str) -> str:
        return default_run_name(run_config(["data=files", f"data.path={path}"]), preset("tiny"))

    names = [name(path) for path in ("a/b", "a_b", "a b", "é" * 50, "../" * 99, "../" * 98)]
    assert len(set(names)) == len(names)
    for one in names:
        assert len(one) <= 80 and "/" not in one and one.isascii() and one.endswith("-seed0")


def test_a_run_of_no_preset_is_named_by_its_hash():
    config = RunConfig(seed=4)
    assert default_run_name(config) == f"custom-{identity_hash(config)[:8]}-seed4"


def test_the_identity_is_what_a_resumed_run_shares():
    base = preset("tiny")
    for words in (["train.device=cpu"], ["train.keep=9"], ["train.trackers=wandb"]):
        assert identity_hash(override(base, words)) == identity_hash(base)
        assert fields.differences(override(base, words), base, operational=False) == []
    for words in (["train.lr=0.1"], ["seed=1"], ["mlp.k=3"], ["mlp@0=dense"], ["data=generated"]):
        assert identity_hash(override(base, words)) != identity_hash(base)
        assert fields.differences(override(base, words), base, operational=False)


def test_every_preset_is_reached_from_every_other_by_words():
    for name in PRESETS:
        words = [f"{path}={text}" for path, text in changes(preset("tiny"), preset(name))]
        assert override(preset("tiny"), words) == preset(name)


def test_every_field_is_documented():
    nested = [
        row for _, by_tag in fillings(RunConfig()) for rows in by_tag.values() for row in rows
    ]
    assert [row.path for row in [*ROWS, *nested] if not row.doc] == []


def test_contradictions_are_refused_with_both_values():
    with pytest.raises(ConfigError, match=r"^train.micro_batch = 5 .* a divisor of the batch, 8$"):
        run_config(["train.micro_batch=5"])
    with pytest.raises(ConfigError, match=r"^world_size = 3 .* a divisor of the batch, 16$"):
        TrainConfig(world_size=3)
    with pytest.raises(ConfigError, match=r"^format = 2 is not accepted; expected 1$"):
        fields.from_json(RunConfig, fields.to_json(RunConfig()) | {"format": 2})


def test_the_summary_derives_tokens_epochs_and_work():
    config = run_config(["train.steps=100", "train.device=cpu"])
    text = "\n".join(summary(config, vocab_size=1024, train_tokens=204_800))
    flops = account(config.model, 1024).flops_executed
    for expected in (
        "920,448",
        "204,800 in 100 steps of 2,048",
        "1.00 of 204,800",
        f"{204_800 * flops * 3:.2e} FLOPs",
    ):
        assert expected in text


def test_the_measured_rate_is_that_of_a_product(monkeypatch):
    ticks = iter(range(100))
    monkeypatch.setattr("pellucid.settings.summary._clock", lambda device: float(next(ticks)))
    config = run_config(
        ["d_model=16", "mlp.k=4", "context=8", "train.batch=2", "attention.n_heads=2"]
    )
    calls_per_second = measured_rate(config, "cpu", 2.5) / (2 * 16 * 16 * 64)
    assert 0.2 < calls_per_second < 1.5
