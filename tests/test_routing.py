"""Routed gradients: rows of each mode change what they may, to the bit, and nothing else."""

from contextlib import nullcontext
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from support.small import SMALL
from support.training import assert_same_training, digest, finish, launch, small

from pellucid.data import prepare
from pellucid.errors import ConfigError
from pellucid.experiments import run_config
from pellucid.models import Transformer, ablate, intervene
from pellucid.models.gradient_rule import Routed
from pellucid.models.mlp import MLPS
from pellucid.run import RunFolder, load
from pellucid.train import train
from pellucid.training import routing
from pellucid.training.levers import Levers
from pellucid.training.optimizers import Optimizers
from pellucid.training.step import before_step

WORDS = (
    "gradient_rule=routed",
    "gradient_rule.label=in_class",
    "gradient_rule.mlp_units=6",
    "gradient_rule.heads=1",
    "data.labels=loop",
    "dropout=0",
    "train.precision=fp64",
    "train.revive_budget=0",
)
ROUTABLE = (
    *("dense", "topk", "abs_topk", "batch_topk", "jumprelu", "solu", "bilinear", "relu_l1"),
    *(
        "skip_topk",
        "skip_batch_topk",
        "sae",
        "sae_batch_topk",
        "spark",
        "q_sparse",
        "linear_experts",
        "moe",
        "peer",
    ),
)
"""Fillings of the mlp slot whose units have rows of their own; the others are refused."""

OWN_ROWS = "w_enc b_enc w_dec w_in b_in w_out w_up b_up gain shift log_threshold".split()


def stepper(*words: str) -> routing.RoutedStepper:
    config = small(*WORDS, *words)
    data = prepare(config.data, progress=False)
    model = Transformer(config.model, vocab_size=data.vocab_size, seed=3).double()
    optimizers = Optimizers(model, config.train)
    levers = Levers(config, RunFolder("nowhere"), data)
    return routing.stepper(config, model, optimizers, data, Accelerator(cpu=True), levers)


def own_mask(name: str, parameter: torch.Tensor) -> torch.Tensor:
    """Entries of the last 6 of each MLP's units and of the last of two heads of width 8, by name.

    The dense MLP inside an sae has neurons that are no units: all of it is everybody's.
    """
    mask, last = torch.zeros_like(parameter, dtype=torch.bool), name.rpartition(".")[2]
    if ".mlp." in name and ".dense." not in name and last in OWN_ROWS:
        mask[-6:] = True
    elif last in ("w_q", "w_k", "w_v", "b_q", "b_k", "b_v"):
        mask[8:] = True
    elif last == "w_o":
        mask[:, 8:] = True
    elif last == "sink":
        mask[1:] = True
    return mask


def step_of(routed: routing.RoutedStepper, *modes: str) -> int:
    return next(step for step in range(4000) if set(routed.modes(step)) == set(modes))


def row_gradient(
    model: Transformer, row: torch.Tensor, labels: torch.Tensor, n_rows: int
) -> dict[str, torch.Tensor]:
    model.zero_grad()
    side = {"labels": labels[None, :-1]} if model.head.needs else None
    logits, told = model(row[None, :-1], side=side)
    extra = [value for name, value in told.items() if "loss/" in name]
    ((F.cross_entropy(logits[0], row[1:]) + sum(extra)) / n_rows).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def each_row_alone(tag: str) -> tuple[str, ...]:
    """Words for a filling of the mlp slot in both layers, whatever its losses say of a batch."""
    settings = [f"mlp@0,1.{name}={value}".lower() for name, value in SMALL[tag].items()]
    return ("train.micro_batch=1", f"mlp@0,1={tag}", *settings)


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("train.micro_batch=1",),
        ("train.checkpoint_activations=true", "train.micro_batch=2"),
        ("mlp@0,1=dense", "mlp@0,1.activation=swiglu", "attention.sink=true"),
        ("train.micro_batch=1", "head=concept", "attention.qk_norm=true", "attention.bias=true"),
        *map(each_row_alone, ROUTABLE),
    ],
    ids=" ".join,
)
def test_a_mixed_step_is_the_sum_of_masked_rows(words):
    routed = stepper(*words)
    routed.model.checkpointing = routed.config.train.checkpoint_activations
    step = step_of(routed, "forget", "retain", "default")
    batch, modes = routed.rows(step), routed.modes(step)
    plain = deepcopy(routed.model)
    own = {name: own_mask(name, p) for name, p in plain.named_parameters()}
    without = deepcopy(plain)
    with torch.no_grad():
        for name, parameter in without.named_parameters():
            parameter[own[name]] = 0
    expected = {name: torch.zeros_like(p) for name, p in plain.named_parameters()}
    for row, labels, mode in zip(batch.tokens, batch.side["labels"], modes, strict=True):
        grads = row_gradient(without if mode == "retain" else plain, row, labels, n_rows=8)
        for name, grad in grads.items():
            kept = {"forget": own[name], "retain": ~own[name], "default": own[name] | True}[mode]
            expected[name] += grad * kept
    before = {name: p.detach().clone() for name, p in routed.named.items()}
    routed.gradient(step)
    for name, parameter in routed.named.items():
        assert torch.equal(parameter, before[name]), name
        assert torch.allclose(parameter.grad, expected[name], atol=1e-12, rtol=1e-9), name
    reached = [n for n, p in routed.named.items() if (own[n] & (p.grad != 0)).any()]
    assert len(reached) >= 10 and reached == [n for n in reached if n in routed.lines]


def parts_and_moments(routed: routing.RoutedStepper) -> dict[str, tuple]:
    """{parameter or moment: (forget entries, the others)}."""
    found = {}
    for name, parameter in routed.named.items():
        mask = own_mask(name, parameter)
        state = routed.optimizers.all[0].state[parameter]
        for key, value in {"value": parameter.detach(), **state}.items():
            if key != "step":
                found[f"{name}/{key}"] = (value[mask].clone(), value[~mask].clone())
    return found


def taught(*modes: str, hold: bool = True) -> tuple[dict, dict]:
    """Parameters and moments before and after a step of these modes, in the midst of training."""
    routed = stepper("train.batch=2", "train.weight_decay=0.3", "train.steps=4000")
    for step in range(40):
        routed(step)
    before = parts_and_moments(routed)
    with pytest.MonkeyPatch.context() as patch:
        if not hold:
            patch.setattr(routing, "held", lambda *_: nullcontext())
        routed(next(s for s in range(40, 4000) if set(routed.modes(s)) == set(modes)))
    return before, parts_and_moments(routed)


def test_forget_rows_leave_every_bit_of_what_is_retained():
    before, after = taught("forget")
    assert {name for name in before if not torch.equal(before[name][1], after[name][1])} == set()
    changed = {name for name, (own, _) in before.items() if not torch.equal(own, after[name][0])}
    assert changed == {name for name, (own, _) in before.items() if own.numel()}


def test_retain_rows_leave_every_bit_of_the_forget_units():
    before, after = taught("retain")
    assert {name for name in before if not torch.equal(before[name][0], after[name][0])} == set()
    changed = {n for n, (_, rest) in before.items() if not torch.equal(rest, after[n][1])}
    assert changed == {name for name, (_, rest) in before.items() if rest.numel()}


def test_decay_and_momentum_would_move_them_without_a_gradient():
    before, after = taught("forget", hold=False)
    moved = {name for name in before if not torch.equal(before[name][1], after[name][1])}
    assert {f"blocks.0.mlp.w_dec/{key}" for key in ("value", "exp_avg", "exp_avg_sq")} <= moved
    assert not any(name.startswith(("embedding", "head", "norm")) for name in moved)


def test_rows_pass_a_retain_micro_batch_as_they_pass_the_ablated_model():
    routed = stepper()
    model, tokens = routed.model.eval(), routed.rows(0).tokens[:, :-1]
    before = model(tokens).logits
    with routing.silenced(routed.lines):
        inside = model(tokens).logits
    assert torch.equal(model(tokens).logits, before) and not torch.allclose(inside, before)
    model.gradient_rule.ablate(model)
    assert torch.equal(model(tokens).logits, inside)
    for name, parameter in model.named_parameters():
        mask = own_mask(name, parameter)
        assert (parameter[mask] == 0).all(), name
        assert parameter.ndim == 1 or (parameter[~mask] != 0).any(), name


@pytest.mark.parametrize("words", [(), ("attention.sink=true", "attention.qk_norm=true")])
def test_the_declared_lines_are_those_of_the_declared_units(words):
    """Ablated as units through their sites, dense neurons and heads give the same logits."""
    model = stepper("mlp@0,1=dense", "mlp@0,1.width=64", *words).model.eval()
    tokens = torch.arange(24).view(2, 12)
    declared = model.gradient_rule.declared(model)
    assert declared["blocks.1.mlp"] == [58, 63] and declared["blocks.0.attention"] == [1, 1]
    edits = {site: ablate(range(first, last + 1)) for site, (first, last) in declared.items()}
    with intervene(model, edits):
        expected = model(tokens).logits
    model.gradient_rule.ablate(model)
    assert torch.allclose(model(tokens).logits, expected, atol=1e-12)


def rule(**fields) -> Routed:
    return Routed.Config(label="in_comment", **fields).build()


def test_modes_count_the_label_among_all_tokens():
    tokens = torch.arange(40).view(4, 10)
    labels = torch.zeros(4, 10, dtype=torch.int64)
    labels[0, :5], labels[1, :4], labels[2] = 2, 2 + 8, -1
    labels[3] = ~2 & 0x3FFF
    found = [rule(share=share, retain=0.0).modes(tokens, labels) for share in (0.4, 0.5, 0.6)]
    assert found[0] == ["forget", "forget", "default", "default"]
    assert found[1] == ["forget", "default", "default", "default"]
    assert found[2] == ["default"] * 4


def test_modes_are_a_function_of_the_row_alone():
    tokens = torch.randint(0, 300, (4000, 16), generator=torch.Generator().manual_seed(0))
    labels = torch.zeros_like(tokens)
    modes = rule(retain=0.3).modes(tokens, labels)
    assert abs(modes.count("retain") / 4000 - 0.3) < 0.03
    order = torch.randperm(4000, generator=torch.Generator().manual_seed(1))
    again = rule(retain=0.3).modes(tokens[order].clone(), labels)
    assert again == [modes[row] for row in order]
    wider = rule(retain=0.6).modes(tokens, labels)
    assert all(w == "retain" for m, w in zip(modes, wider, strict=True) if m == "retain")
    assert modes[:8] == rule(retain=0.3).modes(tokens[:8], labels[:8])


def test_a_run_that_begins_with_forget_rows_alone_resumes(tmp_path):
    """The first checkpoint is then of parameters that no step has changed yet."""
    routed = stepper("train.batch=1")
    before_step(routed.model, 0.0)
    routed(step_of(routed, "forget"))
    saved = routed.optimizers.state()
    assert saved["embedding.weight/step"] == 0 and not saved["embedding.weight/exp_avg"].any()
    fresh = stepper("train.batch=1")
    fresh.model.load_state_dict(routed.model.state_dict())
    fresh.optimizers.load(saved, "there")
    step = step_of(routed, "default")
    routed(step), fresh(step)
    for name, parameter in routed.named.items():
        assert torch.equal(parameter, fresh.named[name]), name


RUN = (*WORDS, "dropout=0.1", "train.precision=fp32", "train.steps=20", "train.micro_batch=4")


def test_an_interrupted_routed_run_resumes_bit_for_bit(tmp_path):
    code, out = finish(launch(tmp_path / "whole", "-", 0, *RUN))
    assert code == 0, out
    assert finish(launch(tmp_path / "cut", "kill-save", 9, *RUN))[0] == -9
    assert finish(launch(tmp_path / "cut", "-", 0, *RUN))[0] == 0
    assert digest(tmp_path / "cut", step=20) == digest(tmp_path / "whole", step=20)
    assert load(tmp_path / "whole").folder.read_manifest()["forget_units"] == {
        **{f"blocks.{layer}.mlp": [58, 63] for layer in (0, 1)},
        **{f"blocks.{layer}.attention": [1, 1] for layer in (0, 1)},
    }


@pytest.mark.slow
def test_two_processes_route_like_one(tmp_path):
    words = [*WORDS, "train.steps=50", "train.log_every=1", "head=concept", "head.n_free=64"]
    assert train(small(*words), tmp_path / "one") == 0
    two = launch(tmp_path / "two", "-", 0, *words, "train.world_size=2", processes=2)
    code, out = finish(two)
    assert code == 0, out
    assert_same_training(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["train.optimizer=muon"], "adamw is accepted"),
        (["train.parallel=fsdp2"], "ddp is accepted"),
        (["train.revive_budget=0.1"], "0 is accepted"),
        (["constraint=weight_topk"], "constraint=none alone"),
        (["gradient_rule.label=in_commen"], "did you mean in_comment"),
        (["gradient_rule.heads=0", "gradient_rule.mlp_units=0"], "of one kind are needed"),
        (["data.labels=none"], "add data.labels=loop"),
    ],
)
def test_settings_that_would_mix_the_parts_are_refused(words, says):
    with pytest.raises(ConfigError, match=r"gradient_rule\b.*" + says):
        small(*WORDS, *words)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["gradient_rule.mlp_units=64"], "less than the 64 units of blocks.0.mlp is accepted"),
        (["gradient_rule.heads=2"], "less than the 2 units of blocks.0.attention"),
        (["mlp.width=16", "mlp.k=2"], "as many units as channels, 16"),
        (["attention=headwise"], "heads=0 or attention=softmax is accepted"),
        (["head.tied=true"], "gradient_rule.retained=embedding.weight keeps"),
    ],
)
def test_models_whose_parts_cannot_be_told_apart_are_refused(words, says):
    config = run_config([*small_words(), *words])
    with pytest.raises(ConfigError, match=says):
        Transformer(config.model, vocab_size=50)


@pytest.mark.parametrize("tag", sorted(set(MLPS) - set(ROUTABLE)))
def test_fillings_whose_units_have_no_rows_of_their_own_are_refused(tag):
    words = [*small_words(), *each_row_alone(tag), "gradient_rule.retained=shared"]
    with pytest.raises(ConfigError, match=r"blocks\.0\.mlp .* has no parameter with one row"):
        Transformer(run_config(words).model, vocab_size=50)


@pytest.mark.parametrize("name", ["w_q", "sink", "own"])
def test_attention_of_another_make_is_refused(name):
    """Two rows for each channel, a logit for each channel, a parameter that nobody knows."""
    model = stepper("attention.sink=true").model
    shape = {"w_q": (32, 16), "sink": (16,), "own": (2,)}[name]
    setattr(model.blocks[1].attention, name, torch.nn.Parameter(torch.zeros(shape)))
    with pytest.raises(
        ConfigError, match=rf"blocks\.1\.attention\.{name} .SoftmaxAttention. does not say which"
    ):
        model.gradient_rule.check(model)


def small_words() -> list[str]:
    size = ["n_layers=2", "d_model=16", "attention.n_heads=2", "mlp.width=64", "mlp.k=4"]
    return ["tiny", *size, *WORDS]


def test_units_that_do_not_say_what_they_write_are_refused():
    model = stepper().model
    model.blocks[1].mlp.site._write = None
    with pytest.raises(ConfigError, match=r"blocks\.1\.mlp \(TopKMLP\) has no parameter"):
        model.gradient_rule.check(model)


def test_a_parameter_of_several_places_may_be_declared_retained():
    words = [*small_words(), "head.tied=true", "gradient_rule.retained=head"]
    model = Transformer(run_config(words).model, vocab_size=50)
    assert "embedding.weight" not in model.gradient_rule.lines(model)


def test_what_was_routed_is_taken_out_and_the_rest_stays(tmp_path):
    sizes = ("d_model=32", "mlp.width=128", "context=64", "gradient_rule.mlp_units=16")
    words = (*WORDS, *sizes, "train.precision=fp32", "train.steps=150", "train.lr=0.01")
    config = small(*words, "data.n_documents=300", "train.batch=16", "train.log_every=150")
    assert train(config, tmp_path / "run") == 0
    model = load(tmp_path / "run").model
    batch = prepare(config.data, progress=False).rows(0, 0, batch=64, context=64, split="val")
    modes = model.gradient_rule.modes(batch.tokens[:, :-1], batch.side["labels"][:, :-1])
    forget = torch.tensor([mode == "forget" for mode in modes])
    before = row_losses(model, batch.tokens)
    model.gradient_rule.ablate(model)
    cost = row_losses(model, batch.tokens) - before
    assert forget.sum() > 10 and cost[forget].mean() > 0.4
    assert abs(float(cost[~forget].mean())) < 0.05


@torch.no_grad()
def row_losses(model: Transformer, tokens: torch.Tensor) -> torch.Tensor:
    """Mean nats per token of each row."""
    logits = model(tokens[:, :-1]).logits.transpose(1, 2)
    return F.cross_entropy(logits, tokens[:, 1:], reduction="none").mean(1)
