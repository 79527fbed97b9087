"""What a run takes from elsewhere: first weights, a teacher, losses on its units."""

import hashlib
import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from support.small import VOCAB, inputs, small_model
from support.training import SMALL, assert_same_training, digest, finish, launch, weights

from pellucid.data import prepare
from pellucid.errors import UserError
from pellucid.eval.refusals import refusal
from pellucid.experiments import run_config
from pellucid.models import ModelConfig, Transformer, record
from pellucid.models.inherit import GATE
from pellucid.models.mlp import MLPS
from pellucid.models.mlp.moe import gate_sum
from pellucid.report import comparison, summary, write_comparison
from pellucid.report.reading import read_run
from pellucid.run import RunFolder, load
from pellucid.train import train
from pellucid.training import devices
from pellucid.training.distill import divergence
from pellucid.training.inherit import inherit
from pellucid.training.levers import Levers
from pellucid.training.seen import seen
from pellucid.training.session import Session
from pellucid.training.state import model_state

PLAIN = [word for word in SMALL if not word.startswith(("mlp.", "dropout", "train.revive"))]
DENSE = ["mlp=dense", "mlp.width=32", "dropout=0.0", "train.revive_budget=0"]
TOPK = ["mlp=topk", "mlp.width=48", "mlp.k=8", "dropout=0.0", "train.revive_budget=0"]
EXACT = ["train.precision=fp64", "train.steps=50", "train.eval_every=50"]
MATRICES = ("w_in", "b_in", "w_out", "b_out")
SPARSE = ("w_enc", "b_enc", "w_dec", "b_dec")

LOSSES = """
def l1(trace, logits, tokens):
    assert tokens.shape == (*logits.shape[:1], logits.shape[1] + 1)
    return sum(acts.values.abs().mean() for acts in trace.values())

l1.sites = ("blocks.*.mlp",)

def heavy(trace, logits, tokens):
    return 20 * l1(trace, logits, tokens)

heavy.sites = "blocks.1.mlp"

def nowhere(trace, logits, tokens): ...
def elsewhere(trace, logits, tokens): ...
elsewhere.sites = ("blocks.7.mlp",)
def number(trace, logits, tokens):
    return 0.5
number.sites = ("blocks.0.mlp",)
def labelled(trace, logits, tokens):
    return l1(trace, logits, tokens)
labelled.sites, labelled.uses = ("blocks.0.mlp",), ("labels:dev", "tasks:loop")
def vague(trace, logits, tokens): ...
vague.sites, vague.uses = ("blocks.0.mlp",), "labels"
"""


def config(*words: str):
    return run_config([*PLAIN, *words])


def trained(folder: Path, *words: str) -> Path:
    assert train(config(*words), folder) == 0
    return folder


def origin(folder: Path):
    return RunFolder(folder).read_manifest()["origin"]


def held_out(folder: Path) -> list[float]:
    return [row["loss"] for row in RunFolder(folder).read_metrics() if row["kind"] == "val"]


@pytest.fixture(scope="module")
def dense(tmp_path_factory) -> Path:
    return trained(tmp_path_factory.mktemp("runs") / "dense", *DENSE, "train.steps=20")


@pytest.fixture
def module(tmp_path, monkeypatch) -> str:
    """A module of losses in the working folder; its name is this test's own."""
    monkeypatch.chdir(tmp_path)
    name = f"losses_{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:12]}"
    (tmp_path / f"{name}.py").write_text(LOSSES)
    return name


def test_a_run_that_starts_from_itself_goes_on_where_it_was(dense, tmp_path):
    again = trained(tmp_path / "again", *DENSE, "train.steps=1", f"train.init_from={dense}")
    facts = origin(again)["init_from"]
    assert facts["held_out"]["gap"] == 0.0
    assert facts["held_out"]["source"] == held_out(dense)[-1] == held_out(again)[0]
    assert (facts["run"], facts["step"], facts["origin"]) == ("dense", 20, "scratch")
    assert facts["converted"] == facts["left"] == facts["unused"] == []
    taken, there = weights(again, 0), weights(dense, 20)
    assert facts["copied"] == sorted(there)
    assert all(torch.equal(taken[name], value) for name, value in there.items())
    file = dense / "checkpoints" / "step-00000020" / "model.safetensors"
    assert facts["weights_sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_sparse_layer_takes_the_rows_of_a_dense_one(dense, tmp_path, capfd):
    words = [*TOPK, "train.steps=4", f"train.init_from={dense}"]
    sparse = trained(tmp_path / "sparse", *words)
    taken, there = weights(sparse, 0), weights(dense, 20)
    fresh = Transformer(config(*words).model, vocab_size=300, seed=0).state_dict()
    for old, new in zip(MATRICES, SPARSE, strict=True):
        for layer in (0, 1):
            name = f"blocks.{layer}.mlp.{new}"
            source = there[f"blocks.{layer}.mlp.{old}"]
            assert torch.equal(taken[name][: len(source)], source)
            rest = torch.zeros_like(fresh[name]) if new == "w_dec" else fresh[name]
            assert torch.equal(taken[name][len(source) :], rest[len(source) :])
    assert torch.equal(taken["embedding.weight"], there["embedding.weight"])
    facts = origin(sparse)["init_from"]
    assert facts["converted"] == sorted(f"blocks.{n}.mlp.{new}" for n in (0, 1) for new in SPARSE)
    assert facts["unused"] == []
    assert set(facts["left"]) == {
        f"blocks.{n}.mlp.{name}" for n in (0, 1) for name in ("silent_for", "firing_rate")
    }
    assert facts["held_out"]["converted"] == held_out(sparse)[0]
    assert facts["held_out"]["gap"] == held_out(sparse)[0] - held_out(dense)[-1] != 0
    said = " ".join(capfd.readouterr().err.split())
    assert "starts from dense at step 20" in said
    assert "8 tensors converted: blocks.*.mlp.b_dec, blocks.*.mlp.b_enc" in said
    assert f"a gap of {facts['held_out']['gap']:+.4f}" in said


def test_a_wider_layer_computes_the_same_and_learns_to_use_its_further_units(dense, tmp_path):
    words = [*DENSE, "mlp.width=40", "train.steps=3", f"train.init_from={dense}"]
    wider = trained(tmp_path / "wider", *words)
    first, later = weights(wider, 0), weights(wider, 3)
    assert abs(origin(wider)["init_from"]["held_out"]["gap"]) < 1e-6
    name = "blocks.1.mlp.w_out"
    assert torch.equal(first[name][:32], weights(dense, 20)[name])
    assert not first[name][32:].any()
    assert (later[name][32:].abs().sum(1) > 0).all()


def test_a_narrower_layer_keeps_its_own_values(dense, tmp_path):
    words = [*DENSE, "mlp.width=16", "train.steps=1", f"train.init_from={dense}"]
    facts = origin(trained(tmp_path / "narrow", *words))["init_from"]
    shaped = {f"blocks.{n}.mlp.{name}" for n in (0, 1) for name in ("w_in", "b_in", "w_out")}
    assert set(facts["left"]) == shaped
    assert facts["converted"] == []


def test_a_gated_layer_starts_with_open_gates():
    """silu(x W_in + b_in) · 1: what the units wrote, but for the non-linearity."""
    torch.manual_seed(0)
    layer = MLPS["dense"].Config(activation="swiglu", width=6).build(4).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    given = [torch.randn(shape, dtype=torch.float64) for shape in ((5, 4), (5,), (5, 4), (4,))]
    assert layer.take_dense(*given) == (*MATRICES, "w_up", "b_up")
    x = torch.randn(2, 3, 4, dtype=torch.float64)
    w_in, b_in, w_out, b_out = given
    wanted = F.silu(x @ w_in.T + b_in) @ w_out + b_out
    assert torch.allclose(layer(x)[0], wanted, atol=1e-12, rtol=0)


@pytest.mark.parametrize(("width", "spread"), [(6 * 4, 0.0), (8 * 4, 0.0), (2 * 4, 1.0)])
def test_experts_are_copies_or_stretches_of_a_dense_layer(width, spread):
    """At equal gates, wide experts write what the dense MLP writes, narrow ones on average."""
    torch.manual_seed(0)
    given = [torch.randn(shape, dtype=torch.float64) for shape in ((6, 16), (6,), (6, 16), (16,))]
    config = ModelConfig(d_model=16, mlp=MLPS["moe"].Config(n_experts=4, k=3, width=width))
    layer = Transformer(config, vocab_size=8).double().blocks[0].mlp
    assert layer.take_dense(*given) == MATRICES
    x = inputs(64, 8)
    w_in, b_in, w_out, b_out = given
    dense = F.relu(x @ w_in.T + b_in) @ w_out
    gates = layer.route(x.flatten(0, 1)).softmax(-1).topk(3).values.sum(-1).view(64, 8, 1)
    wrote = (layer(x)[0] - b_out).detach() / gates * gate_sum(4, 3)
    assert ((wrote - dense).abs().max() > 1e-9) == bool(spread)
    # A stretch holds a third of the units and stands for all: right in size and direction.
    assert F.cosine_similarity(wrote.flatten(), dense.flatten(), dim=0) > (
        0.5 if spread else 1 - 1e-9
    )
    assert 0.5 < wrote.norm() / dense.norm() < 2
    stretch = layer.w_in.detach().view(4, -1, 16)[1][: min(6, width // 4)]
    assert torch.equal(stretch, w_in[2:4] if spread else w_in)


def test_experts_that_are_chosen_by_their_weights_are_left_alone():
    config = ModelConfig(d_model=16, mlp=MLPS["moe"].Config(router="moe_x", n_experts=4, width=24))
    layer = Transformer(config, vocab_size=8).blocks[0].mlp
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    given = [torch.randn(shape) for shape in ((6, 16), (6,), (6, 16), (16,))]
    assert layer.take_dense(*given) == ()
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())


@pytest.mark.parametrize("mlp", MLPS)
def test_every_layer_takes_a_dense_one_or_is_left_alone(mlp):
    model, fresh = small_model(mlp), small_model(mlp)
    changed = model.config.replace(mlp=MLPS["dense"].Config(width=20))
    source = Transformer(changed, vocab_size=VOCAB, seed=1).double()
    found = inherit(model, source.state_dict())
    assert sorted(found.copied + found.converted + found.left) == sorted(model_state(model))
    there, own, before = source.state_dict(), model.state_dict(), fresh.state_dict()
    assert all(torch.equal(own[name], there[name]) for name in found.copied)
    assert all(torch.equal(own[name], before[name]) for name in found.left)
    for name in found.converted:
        layer, _, kind = name.rpartition(".")
        if kind not in GATE and mlp != "moe":
            old = dict(zip(SPARSE, MATRICES, strict=True)).get(kind, kind)
            rows = there[f"{layer.removesuffix('.dense')}.{old}"]  # an sae has one inside
            assert torch.equal(own[name][: len(rows)], rows)
    assert model(torch.arange(24)[None]).logits.isfinite().all()


def test_a_started_run_needs_its_source_no_more(tmp_path):
    source = trained(tmp_path / "source", *DENSE, "train.steps=1")
    words = [f"train.init_from={source}", "mlp.width=64"]
    folder, through = tmp_path / "run", tmp_path / "through"
    for run, point, ends in ((through, "-", 0), (folder, "step", 75)):
        code, out = finish(launch(run, point, 7, *words))
        assert code == ends, out
    (source / "config.json").unlink()
    code, out = finish(launch(folder, "-", 0, *words))
    assert code == 0, out
    assert digest(folder) == digest(through)


def test_a_teacher_that_is_the_student_is_at_no_distance(dense, tmp_path):
    words = [*DENSE, f"train.init_from={dense}", f"train.teacher={dense}", "train.log_every=1"]
    words += ["train.steps=2", "train.temperature=2.0"]
    folder = trained(tmp_path / "run", *words)
    rows = [row for row in RunFolder(folder).read_metrics() if row["kind"] == "train"]
    assert rows[0]["teacher_kl"] == 0.0
    assert rows[1]["teacher_kl"] > 0
    assert sorted(origin(folder)) == ["init_from", "teacher"]


def test_the_distance_is_that_of_the_formula():
    torch.manual_seed(0)
    teacher = torch.randn(2, 3, 5, dtype=torch.float64)
    student = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    heat, summed = 1.7, 0.0
    for t, s in zip(teacher.reshape(-1, 5).tolist(), student.reshape(-1, 5).tolist(), strict=True):
        p, q = ([math.exp(v / heat) for v in values] for values in (t, s))
        p, q = ([v / sum(values) for v in values] for values in (p, q))
        summed += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    found = divergence(teacher, student, heat)
    assert found.item() == pytest.approx(summed / 6, abs=1e-12)
    # Its gradient is (q - p) / T for each token.
    (gradient,) = torch.autograd.grad(found, student)
    wanted = ((student / heat).softmax(-1) - (teacher / heat).softmax(-1)) / heat / 6
    assert torch.allclose(gradient, wanted, atol=1e-12, rtol=0)


def opened(folder: Path, *words: str) -> Session:
    chosen, run = config(*words), RunFolder(folder)
    data = prepare(chosen.data)
    levers = Levers(chosen, run, data)
    return Session(chosen, run, devices.start(chosen.train, run), data, levers)


def gradients(session: Session) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in session.model.named_parameters()}


def test_the_objective_of_a_taught_run_is_that_of_the_formula(dense, tmp_path):
    words = [*TOPK, "train.precision=fp64", f"train.teacher={dense}"]
    words += ["train.teacher_weight=0.3", "train.temperature=3.0"]
    session = opened(tmp_path / "run", *words)
    parts, _ = session.stepper.gradient(0)
    rows = session.stepper.rows(0).tokens
    logits = session.model(rows[:, :-1]).logits
    teacher = load(dense).model.double()(rows[:, :-1]).logits.detach()
    p, q = (teacher / 3).softmax(-1), (logits / 3).softmax(-1)
    distance = (p * (p / q).log()).sum(-1).mean()
    loss = F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
    assert float(parts["loss"]) == pytest.approx(loss.item(), abs=1e-12)
    assert float(parts["teacher_kl"]) == pytest.approx(distance.item(), abs=1e-12)
    assert distance.item() > 1e-3
    named = dict(session.model.named_parameters())
    wanted = torch.autograd.grad(0.7 * loss + 0.3 * 9 * distance, list(named.values()))
    for (name, found), value in zip(gradients(session).items(), wanted, strict=True):
        assert torch.allclose(found, value, atol=1e-12, rtol=0), name


@pytest.fixture(scope="module")
def taught(dense, tmp_path_factory) -> tuple[Path, list[str]]:
    words = [*TOPK, *EXACT, f"train.teacher={dense}", "train.temperature=2.0"]
    return trained(tmp_path_factory.mktemp("taught") / "one", *words), words


def assert_same_distances(a: Path, b: Path) -> None:
    rows = [
        [row["teacher_kl"] for row in RunFolder(folder).read_metrics() if row["kind"] == "train"]
        for folder in (a, b)
    ]
    assert rows[0] == pytest.approx(rows[1], abs=1e-9)


def test_accumulated_distillation_equals_one_batch(taught, tmp_path):
    one, words = taught
    split = trained(tmp_path / "split", *words, "train.micro_batch=2")
    assert_same_training(one, split)
    assert_same_distances(one, split)


@pytest.mark.slow
def test_distillation_in_two_processes_equals_one(taught, tmp_path):
    one, words = taught
    words = [*words, "train.revive_every=500", "train.revive_after=10000000", "train.world_size=2"]
    code, out = finish(launch(tmp_path / "two", "-", 0, *words, processes=2))
    assert code == 0, out
    assert_same_training(one, tmp_path / "two")
    assert_same_distances(one, tmp_path / "two")


@pytest.mark.slow
def test_fully_sharded_levers_equal_one_process(dense, module, tmp_path):
    words = [*TOPK, *EXACT, f"train.init_from={dense}", f"train.teacher={dense}"]
    words += [f"train.losses={module}:l1", "train.revive_every=500", "train.revive_after=10000000"]
    code, out = finish(launch(tmp_path / "one", "-", 0, *words, cwd=tmp_path))
    assert code == 0, out
    words += ["train.parallel=fsdp2", "train.world_size=2"]
    code, out = finish(launch(tmp_path / "two", "-", 0, *words, processes=2, cwd=tmp_path))
    assert code == 0, out
    gaps = [origin(tmp_path / n)["init_from"]["held_out"]["gap"] for n in ("one", "two")]
    assert gaps[0] == pytest.approx(gaps[1], abs=1e-9)
    assert_same_training(tmp_path / "one", tmp_path / "two")
    assert_same_distances(tmp_path / "one", tmp_path / "two")


def test_the_gap_to_itself_is_zero_in_bfloat16_too(dense, tmp_path):
    words = [*DENSE, "train.steps=1", "train.precision=bf16", f"train.init_from={dense}"]
    facts = origin(trained(tmp_path / "run", *words))["init_from"]["held_out"]
    assert facts["gap"] == 0.0
    assert facts["source"] != held_out(dense)[-1]


def test_a_run_with_every_lever_resumes_bit_for_bit(dense, module, tmp_path):
    words = ["mlp.width=64", f"train.init_from={dense}", f"train.teacher={dense}"]
    words += [f"train.losses={module}:l1"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    code, out = finish(launch(whole, "-", 0, *words, cwd=tmp_path))
    assert code == 0, out
    code, out = finish(launch(cut, "step", 17, *words, cwd=tmp_path))
    assert code == 75, out
    code, out = finish(launch(cut, "-", 0, *words, cwd=tmp_path))
    assert code == 0, out
    assert digest(cut) == digest(whole)


def test_other_weights_of_the_teacher_are_refused(tmp_path):
    teacher, folder = tmp_path / "teacher", tmp_path / "run"
    trained(teacher, *DENSE, "train.steps=1")
    words = [*DENSE, "train.steps=2", f"train.teacher={teacher}"]
    trained(folder, *words)
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["finished"]
    manifest["origin"]["teacher"]["weights_sha256"] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"train.teacher: step 1 of .* has other weights"):
        train(config(*words), folder)


def mean_activation(folder: Path) -> float:
    run = load(folder)
    tokens = run.data.rows(0, 0, batch=8, context=16, split="val").tokens
    with record(run.model, ["blocks.0.mlp", "blocks.1.mlp"]) as trace, torch.no_grad():
        run.model(tokens[:, :-1])
    return float(sum(acts.values.abs().mean() for acts in trace.values()))


def test_an_l1_on_units_makes_them_quieter(module, tmp_path):
    free = trained(tmp_path / "free", *TOPK)
    held = trained(tmp_path / "held", *TOPK, f"train.losses={module}:l1")
    assert mean_activation(held) < 0.8 * mean_activation(free)
    rows = [row for row in RunFolder(held).read_metrics() if row["kind"] == "train"]
    assert rows[-1][f"loss/{module}:l1"] < rows[0][f"loss/{module}:l1"]
    (facts,) = RunFolder(held).read_manifest()["losses"]
    source = (tmp_path / f"{module}.py").read_bytes()
    assert facts == {
        "function": f"{module}:l1",
        "source_sha256": hashlib.sha256(source).hexdigest(),
        "sites": ["blocks.0.mlp", "blocks.1.mlp"],
    }
    assert origin(held) == origin(free) == "scratch"
    assert RunFolder(free).read_manifest()["losses"] == []


def test_what_a_loss_says_it_uses_does_not_evaluate_its_run(module, tmp_path):
    words = [*TOPK, "train.steps=1", f"train.losses={module}:labelled"]
    folder = RunFolder(trained(tmp_path / "run", *words))
    (facts,) = folder.read_manifest()["losses"]
    assert facts["uses"] == ["labels:dev", "tasks:loop"]
    known = seen(folder)
    reason = f"{module}:labelled entered the loss of run and uses it"
    for family in facts["uses"]:
        assert refusal(known, "f1", "m", (family,)) == f"f1 uses {family}, but {reason}"
    assert refusal(known, "f1", "m", ("labels:test",)) is None
    after = trained(tmp_path / "after", *TOPK, "train.steps=1", f"train.init_from={folder.path}")
    shutil.rmtree(folder.path)
    told = {name: f"{why}; after starts or learns from it" for name, why in known.items()}
    assert seen(RunFolder(after)) == told


@pytest.mark.parametrize("more", ["train.micro_batch=2", "train.checkpoint_activations=true"])
def test_the_gradient_of_unit_losses_is_that_of_their_formula(more, module, tmp_path):
    words = [*TOPK, "train.precision=fp64", more]
    words += [f"train.losses={module}:l1,{module}:heavy"]
    session = opened(tmp_path / "run", *words)
    parts, _ = session.stepper.gradient(0)
    rows = session.stepper.rows(0).tokens
    with record(session.model, ["blocks.0.mlp", "blocks.1.mlp"], grad=True) as trace:
        logits = session.model(rows[:, :-1]).logits
    means = [trace[f"blocks.{layer}.mlp"].values.abs().mean() for layer in (0, 1)]
    loss = F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
    assert float(parts[f"loss/{module}:heavy"]) == pytest.approx(20 * means[1].item(), abs=1e-12)
    named = dict(session.model.named_parameters())
    wanted = torch.autograd.grad(loss + means[0] + 21 * means[1], list(named.values()))
    for (name, found), value in zip(gradients(session).items(), wanted, strict=True):
        assert torch.allclose(found, value, atol=1e-12, rtol=0), name


def test_a_changed_loss_is_refused_when_its_run_resumes(module, tmp_path):
    words = [*TOPK, "train.steps=2", f"train.losses={module}:l1"]
    folder = trained(tmp_path / "run", *words)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["losses"][0]["source_sha256"] = "0" * 64
    del manifest["finished"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"the file of .*:l1 has changed since this run was begun"):
        train(config(*words), folder)


def test_a_loss_that_is_no_tensor_is_named(module, tmp_path):
    with pytest.raises(UserError, match=r":number returned 0.5; one number as a tensor"):
        train(config(*TOPK, f"train.losses={module}:number"), tmp_path / "run")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train.init_from=nowhere"], "train.init_from: nowhere is not a run: there is no such"),
        (["train.teacher=nowhere"], "train.teacher: nowhere is not a run: there is no such"),
        (
            ["train.init_from={dense}", "d_model=32"],
            "whose d_model is 16; that of this run, 32, is",
        ),
        (["train.init_from={dense}", "n_layers=3"], "whose n_layers is 2; that of this run, 3, is"),
        (["train.init_from={dense}", "data.vocab_size=280"], "whose tokenizer .300 tokens"),
        (
            ["train.teacher={dense}", "data.vocab_size=280"],
            "a run on the same tokenizer is accepted",
        ),
        (["train.teacher={dense}", "context=24"], "whose context is 16; at least that of this run"),
        (["train.losses=no_such_module:f"], "no_such_module cannot be imported .ModuleNotFound"),
        (["train.losses={module}:l2"], "has no such function; "),
        (["train.losses={module}:nowhere"], "its attribute `sites` is None; names of sites"),
        (["train.losses={module}:elsewhere"], "no site 'blocks.7.mlp'; did you mean blocks"),
        (["train.losses={module}:vague"], "`uses` is 'labels'; families of labels or tasks such"),
        (["train.losses=l1"], "losses = 'l1' is not accepted; expected different functions"),
        (["train.losses={module}:l1,{module}:l1"], "expected different functions"),
        (["train.teacher_weight=1.5"], "above 0 and at most 1"),
    ],
)
def test_what_is_refused_leaves_no_folder(words, message, dense, module, tmp_path):
    words = [word.format(dense=dense, module=module) for word in words]
    with pytest.raises(UserError, match=message):
        train(config(*TOPK, *words), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_runs_of_other_origins_are_shown_and_never_ranked(dense, taught, tmp_path):
    """The control, dense continued, stands with what was made of the same weights."""
    words = ["train.steps=1", f"train.init_from={dense}"]
    folders = [dense, taught[0], trained(tmp_path / "control", *DENSE, *words)]
    folders.append(trained(tmp_path / "sparse", *TOPK, *words))
    heads = comparison._heads([read_run(SimpleNamespace(path=folder)) for folder in folders])
    assert [head["group"] for head in heads] == ["A", "B", "C", "C"]
    assert [head["origin"] for head in heads] == [
        "from scratch",
        "taught by dense",
        "starts from dense",
        "starts from dense",
    ]
    page = write_comparison([RunFolder(folder) for folder in folders], tmp_path / "page.html")
    assert (
        "Their origins differ (from scratch; starts from dense; taught by dense)"
        in page.read_text()
    )
    (fact,) = [f for f in summary.facts(read_run(RunFolder(folders[3]))) if f["label"] == "Origin"]
    assert fact["value"] == "starts from dense"
    assert fact["note"].startswith("step 20 · gap ")


def test_a_run_with_a_loss_of_its_own_is_not_ranked_with_one_from_scratch(dense, module, tmp_path):
    words = [*DENSE, "train.steps=1"]
    folders = [dense, trained(tmp_path / "plain", *words)]
    own = (f"{module}:l1", f"{module}:l1", f"{module}:heavy")
    for index, loss in enumerate(own):
        folders.append(trained(tmp_path / f"own{index}", *words, f"train.losses={loss}"))
    runs = [read_run(SimpleNamespace(path=folder)) for folder in folders]
    heads = comparison._heads(runs)
    assert [head["group"] for head in heads] == ["A", "A", "B", "B", "C"]
    assert [head["origin"] for head in heads[1:]] == [
        "from scratch",
        *(f"with the loss {name}" for name in own),
    ]
    changed = dict(runs[2].manifest["losses"][0], source_sha256="0" * 64)
    runs[3].manifest["losses"] = [changed]
    assert [head["group"] for head in comparison._heads(runs[2:4])] == ["A", "B"]
