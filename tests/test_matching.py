"""A matched baseline is as large as its target, by the measure asked for, and plainly filled."""

import pytest

from pellucid.errors import ConfigError, UserError
from pellucid.experiments import matching, run_config
from pellucid.experiments.matching import COUNTS, match
from pellucid.models import Transformer, account
from pellucid.models.mlp.dense import DenseMLP

TARGETS = {
    "topk": ("tiny", "mlp.k=16", "train.steps=500"),
    "monet": ("tiny", "mlp=monet"),
    "crate": ("small", "stream=crate"),
    "sparse": ("tiny", "constraint=weight_topk", "constraint.density=0.2"),
    "layered": ("tiny", "mlp@1=bilinear", "attention=bilinear", "seed=3"),
}


@pytest.mark.parametrize("by", COUNTS)
@pytest.mark.parametrize("name", TARGETS)
def test_counts_agree_within_one_percent(name, by):
    words = TARGETS[name]
    found = match(words, "dense", by)
    target, baseline = run_config(words), run_config(found.words)
    sizes = [account(c.model, vocab_size=c.data.vocab_size) for c in (target, baseline)]
    assert COUNTS[by](sizes[1]) == pytest.approx(COUNTS[by](sizes[0]), rel=0.01)
    assert isinstance(baseline.model.mlp, DenseMLP.Config) and not baseline.model.per_layer
    for slot in ("attention", "stream", "constraint"):
        assert getattr(baseline.model, slot) == getattr(run_config(["tiny"]).model, slot) or (
            slot == "attention" and name == "crate"
        )
    assert (baseline.seed, baseline.train.steps) == (target.seed, target.train.steps)


def test_the_recipe_of_a_slot_goes_with_it():
    found = match(TARGETS["sparse"], "dense", "params")
    assert found.target.train.eps == 0.1
    assert found.found.train.eps == run_config(["tiny"]).train.eps


def test_non_zero_parameters_are_those_a_constraint_leaves():
    config = run_config(TARGETS["sparse"]).model
    planned = account(config, vocab_size=1024)
    model = Transformer(config, vocab_size=1024, seed=0)
    model.constraint.project(model, 1.0)
    vectors = sum(int((p == 0).sum()) for p in model.parameters() if p.ndim == 1)
    assert planned.nonzero == account(model).nonzero + vectors
    assert planned.nonzero < 0.25 * planned.total


def test_any_filling_can_be_matched_to_any_other():
    found = match(["tiny", "mlp=dense"], "topk", "active")
    assert found.found.model.mlp.k == 32 and found.found.model.mlp.width == 988
    kept = match(["tiny", "mlp.k=8", "attention=bilinear"], "topk", "params")
    assert kept.found.model == kept.target.model


def timed_by_flops(target, found):
    """As if a step took as long as its operations, and each third of it were overhead."""
    sizes = [account(c.model, vocab_size=1024).flops_executed + 4e5 for c in (target, found)]
    return tuple([size * wobble for wobble in (0.9, 1.0, 1.2)] for size in sizes)


def test_times_agree_within_five_percent():
    found = match(["tiny", "mlp.width=4096"], "dense", "step_time", timed=timed_by_flops)
    ours, theirs = found.times[1][1], found.times[0][1]
    assert ours == pytest.approx(theirs, rel=0.05)
    assert found.found.model.mlp.width > 512


def test_a_time_that_cannot_be_matched_is_refused():
    with pytest.raises(ConfigError, match="no width of dense was found whose step takes as long"):
        match(["tiny"], "dense", "step_time", timed=lambda a, b: ([1.0], [3.0]))


def test_both_accounts_stand_side_by_side():
    lines = match(TARGETS["topk"], "dense", "active").lines
    assert lines[0].startswith("matched by active: pellucid train tiny train.steps=500 mlp=dense")
    assert any(line.split() == ["tokens", "1,024,000", "1,024,000", "+0.00%"] for line in lines)
    row = next(line for line in lines if line.startswith("active"))
    assert abs(float(row.split()[-1].rstrip("%"))) < 1


@pytest.mark.parametrize(
    ("words", "tag", "by", "said"),
    [
        (["tiny"], "foo", "params", "match = 'foo' is not a feed-forward filling"),
        (["tiny"], "dense", "foo", "by = 'foo' is not accepted"),
        (["tiny"], "memory", "params", "has no width to solve for"),
        (
            ["tiny", "data.vocab_size=8192", "constraint=weight_topk", "constraint.density=0.01"],
            "dense",
            "nonzero",
            "1 % is accepted",
        ),
    ],
)
def test_what_cannot_be_matched_is_refused(words, tag, by, said):
    with pytest.raises(ConfigError, match=said):
        match(words, tag, by)


def test_the_command_line_matches_before_it_trains(capsys):
    from pellucid import cli

    words, facts = cli._matched(["tiny", "mlp.k=16", "match=dense", "by=active"])
    assert words == ["tiny", "mlp=dense", "mlp.width=522"] == facts["words"]
    assert "matched by active" in capsys.readouterr().out
    with pytest.raises(UserError, match="by= needs match="):
        cli._matched(["tiny", "by=params"])


def test_real_steps_are_timed_in_turns():
    config = run_config(["tiny", "n_layers=1", "d_model=16", "context=8", "mlp.width=64"])
    times = matching._times(config, config)
    assert [len(t) for t in times] == [matching.ROUNDS] * 2
    assert all(seconds > 0 for taken in times for seconds in taken)
