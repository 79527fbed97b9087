"""A matched baseline is as large as its target, by the measure asked for, and plainly filled."""

import pytest
import torch
from support.training import small

from pellucid.errors import ConfigError, UserError
from pellucid.experiments import matching, run_config, steps
from pellucid.experiments.matching import COUNTS, match
from pellucid.models import Transformer, account, unwrap
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
    assert found.facts["sizes"]["step_time"] == [theirs, ours]
    assert found.facts["step_time_spread"] == [[t[0], t[2]] for t in found.times]


SMOOTH, JUMPS = (lambda width: 1 + width / 1000), (lambda width: 1.0 + (width > 300))
"""Seconds of a layer of so many units."""


@pytest.mark.parametrize(
    ("layers", "tag", "layer", "wanted", "depths"),
    [
        # Four layers take longer however narrow; three do not.
        (4, "dense", SMOOTH, 3.6, [4, 4, 4, 3, 3, 3]),
        # And so much longer that two and three would, too.
        (4, "dense", SMOOTH, 1.2, [4, 4, 4, 1, 1, 1]),
        # As narrow as that k allows.
        (4, "topk", SMOOTH, 3.6, [4, 4, 3, 3, 3]),
        # One layer is too few, and three are as many as it takes.
        (2, "dense", JUMPS, 3.0, [2] * 5 + [1] * 5 + [3, 3]),
    ],
)
def test_where_no_width_takes_as_long_another_depth_does(layers, tag, layer, wanted, depths):
    timed, words = [], ["tiny", f"n_layers={layers}", "mlp.k=32"]

    def times(target, found):
        timed.append(found.model.n_layers)
        return [wanted], [found.model.n_layers * layer(found.model.mlp.width)]

    found = match(words, tag, "step_time", timed=times)
    assert timed == depths and found.found.model.n_layers == depths[-1]
    assert found.facts["ratio"] == pytest.approx(1, abs=matching.CLOSE_IN_TIME)
    assert run_config(found.words) == found.found


def test_a_time_that_cannot_be_matched_is_refused():
    timed = []
    told = lambda target, found: timed.append(found) or ([1.0], [3.0])
    said = (
        r"no width of dense was found .* at other depths neither: the nearest of 20, .* 3.00 times"
    )
    with pytest.raises(ConfigError, match=said):
        match(["tiny", "n_layers=6"], "dense", "step_time", timed=told)
    assert len(timed) == matching.TIMINGS


def test_words_that_cannot_be_timed_are_told_as_they_are():
    with pytest.raises(ConfigError, match="mlp.k"):
        match(["tiny", "mlp.k=1000", "mlp.width=1024"], "topk", "step_time", timed=None)


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


def test_real_steps_are_timed_in_turns(monkeypatch):
    """The target's model is built once, however many widths are tried beside it."""
    built = []

    class Told:
        def __init__(self, config, least):
            built.append((config, least))
            self.width, self.taken = config.model.mlp.width, 0

        def __call__(self):
            self.taken += 1
            return 1e3 * self.width + self.taken

    monkeypatch.setattr(steps, "TimedSteps", Told)
    timer, narrow, wide = matching._Timer(), small("mlp.width=64"), small("mlp.width=128")
    times = timer(narrow, wide)
    first, rounds = 1 + matching.WARMUP, matching.ROUNDS
    assert times == tuple([1e3 * w + first + i for i in range(rounds)] for w in (64, 128))
    timer(narrow, small("mlp.width=32"))
    assert [config.model.mlp.width for config, _ in built] == [64, 128, 32]
    assert {least for _, least in built} == {matching.TIMINGS * (matching.WARMUP + rounds)}


@pytest.fixture
def stepped(monkeypatch):
    """What reaches a step that is timed, for words of its configuration."""

    def of(*words):
        seen = {"rows": [], "dtypes": set(), "limits": [], "optimizers": [], "compiled": 0}
        clip = torch.nn.utils.clip_grad_norm_

        def compiled(model):
            seen["compiled"] += 1

        def clipped(parameters, limit, **more):
            seen["limits"].append(limit)
            return clip(parameters, limit, **more)

        monkeypatch.setattr(Transformer, "compile_blocks", compiled)
        monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", clipped)
        timed = steps.TimedSteps(small(*words), least=50)
        model = unwrap(timed.session.model)
        model.register_forward_pre_hook(lambda _, told: seen["rows"].append(len(told[0])))
        layer = model.blocks[0].mlp
        layer.register_forward_hook(lambda _, __, out: seen["dtypes"].add(out[0].dtype))
        for one in timed.session.optimizers.all:
            one.register_step_post_hook(lambda o, *_: seen["optimizers"].append(type(o).__name__))
        before = [p.detach().clone() for p in model.parameters()]
        assert timed() > 0 and timed.session.step == 1
        moved = zip(before, model.parameters(), strict=True)
        assert any(not torch.equal(a, b) for a, b in moved)
        return seen

    return of


PLAIN = {
    "rows": [8],
    "dtypes": {torch.float32},
    "limits": [1.0],
    "optimizers": ["AdamW"],
    "compiled": 0,
}


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        ([], {}),
        (["train.precision=bf16"], {"dtypes": {torch.bfloat16}}),
        (["train.compile=true"], {"compiled": 1}),
        (["train.optimizer=muon"], {"optimizers": ["AdamW", "Muon"]}),
        (["train.micro_batch=2"], {"rows": [2, 2, 2, 2]}),
        (["train.clip=0.25"], {"limits": [0.25]}),
    ],
)
def test_a_timed_step_is_that_of_the_training(stepped, words, seen):
    assert stepped(*words) == PLAIN | seen


def test_a_step_that_is_not_finite_matches_nothing():
    timed = steps.TimedSteps(small("train.lr=1e30", "train.warmup=0.0"), least=50)
    with pytest.raises(ConfigError, match="is not finite, so that nothing can be matched"):
        [timed() for _ in range(9)]
