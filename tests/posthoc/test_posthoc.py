"""`pellucid posthoc`: spliced runs open, score and say what they are; mistakes are sentences."""

import json
import re
import shutil

import pytest
import torch
from support.tree import ROOT

from pellucid.cli import main
from pellucid.errors import ConfigError
from pellucid.eval import evaluate
from pellucid.eval.controls import FROZEN
from pellucid.models import account
from pellucid.models.mlp.crosslayer import CrossLayerBatchTopKMLP
from pellucid.models.mlp.sae import BatchTopKSAEMLP
from pellucid.models.mlp.skip_topk import SkipBatchTopKMLP
from pellucid.models.mlp.threshold import BatchTopKMLP
from pellucid.posthoc import fit as fitting
from pellucid.posthoc import make, posthoc
from pellucid.posthoc.arm import Arm, compute
from pellucid.posthoc.config import PosthocConfig, expand
from pellucid.posthoc.fit import held_rows
from pellucid.posthoc.measure import Fidelity, measure
from pellucid.posthoc.splice import splice
from pellucid.report import comparison, origin, write_report
from pellucid.report.reading import read_run
from pellucid.run import RunFolder, load
from pellucid.training.seen import seen

PAGE = ROOT / "docs" / "posthoc.md"
QUICK = ("steps=6", "batch=4", "width=24", "k=3", "eval_tokens=512")
EXACT = {
    "transcoder": "linear-given-active-set",
    "skip_transcoder": "linear-given-active-set",
    "crosslayer_transcoder": "linear-given-active-set",
    "sae": "unit-ablation-exact",
    "matryoshka": "unit-ablation-exact",
}
BATCHED = {
    "transcoder": BatchTopKMLP,
    "skip_transcoder": SkipBatchTopKMLP,
    "crosslayer_transcoder": CrossLayerBatchTopKMLP,
    "sae": BatchTopKSAEMLP,
    "matryoshka": BatchTopKSAEMLP,
}


@pytest.mark.parametrize("kind", EXACT)
def test_a_spliced_run_opens_and_predicts_what_its_manifest_says(dense, tmp_path, capsys, kind):
    path = tmp_path / kind
    words = [str(dense.folder.path), "--kind", kind, *QUICK, f"run={path}"]
    assert main(["posthoc", *words]) == 0
    run = load(path)
    assert run.folder.is_finished
    assert (run.step, run.tokenizer.sha256) == (6, dense.tokenizer.sha256)
    sites = [site for site in run.model.sites().values() if site.kind == "mlp"]
    assert [(site.n_units, site.exactness) for site in sites] == [(24, EXACT[kind])] * 2
    facts = run.folder.read_manifest()["posthoc"]
    config = expand([word for word in QUICK if "=" in word])[0]
    again = measure(dense.model, run.model, held_rows(dense, config, "val", 0))
    assert facts["held_out"] == json.loads(json.dumps(again.facts()))
    assert facts["seconds_of_the_run"] == dense.folder.read_manifest()["finished"]["seconds"] > 0
    spent = facts["compute"]
    assert (spent["tokens"], spent["tokens_of_the_run"]) == (6 * 4 * 32, 8 * 8 * 32)
    told = f"coders fitted to dense, for {spent['ratio']:.2f} times the operations of its training"
    assert origin.in_words(read_run(run.folder)) == told
    assert f"{spent['ratio']:.3g} times the" in capsys.readouterr().out


@pytest.mark.parametrize("kind", EXACT)
def test_every_kind_takes_the_strongest_of_a_batch_and_tells_its_thresholds(
    dense, tmp_path, capsys, kind
):
    (path,) = posthoc(
        dense.folder.path, [f"kind={kind}", "rule=batch_topk", *QUICK], tmp_path / "r"
    )
    run = load(path)
    mlps = [block.mlp for block in run.model.blocks]
    assert {type(mlp) for mlp in mlps} == {BATCHED[kind]}
    facts = run.folder.read_manifest()["posthoc"]
    assert facts["held_out"]["threshold"] == [float(mlp.threshold) for mlp in mlps]
    # What the layer keeps for a token alone is what is above the threshold.
    x = torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(0))
    acts = getattr(mlps[0], "code", mlps[0].encode)(x)
    pre = (x @ mlps[0].w_enc.T + mlps[0].b_enc).relu()
    assert torch.equal(acts[0].to_dense(), pre * (pre >= mlps[0].threshold))
    told = " ".join(f"{float(mlp.threshold):.3g}" for mlp in mlps)
    assert f"units speak above a threshold, by layer {told}" in capsys.readouterr().out


def test_the_cost_of_a_fit_is_that_of_the_dense_pass_and_three_of_the_coders(dense):
    """Multiplications and additions written out, of a token through two layers of d_model 16."""
    forward = account(dense.model).flops_executed
    encode, decode, skip = 2 * 24 * 16, 2 * 3 * 16, 2 * 16 * 16
    whole = 2 * 24 * 16  # a decoder past which all units go, those that are silent too
    wanted = {
        "transcoder": 2 * (encode + decode),
        "skip_transcoder": 2 * (encode + decode + skip),
        "crosslayer_transcoder": 2 * encode + (2 + 1) * decode,
        "sae": 2 * (encode + decode),
        "matryoshka": 2 * (encode + 4 * decode),
        "sae by batch": 2 * (encode + whole),
        "matryoshka by batch": 2 * (encode + 4 * whole),
        "crosslayer_transcoder by batch": 2 * encode + (2 + 1) * whole,
    }
    for kind, flops in wanted.items():
        rule = "batch_topk" if kind.endswith("batch") else "topk"
        fields = {"kind": kind.split()[0], "rule": rule}
        config = PosthocConfig(**fields, k=3, width=24, steps=6, batch=4)
        spent = compute(dense, Arm(config, splice(dense, config)))
        assert spent["flops"] == 6 * 4 * 32 * (forward + 3 * flops), kind
        assert spent["flops_of_the_run"] == 8 * 8 * 32 * 3 * forward
        assert spent["ratio"] == spent["flops"] / spent["flops_of_the_run"]


def test_tuning_costs_passes_of_both_models_and_is_done_at_one_rate_alone(dense):
    config = PosthocConfig(k=3, width=24, steps=6, batch=4, kl_steps=5)
    arm = Arm(config, splice(dense, config))
    without = compute(dense, Arm(config.replace(kl_steps=0), arm.model))["flops"]
    passes = account(dense.model).flops_executed + 3 * account(arm.model).flops_executed
    spent = compute(dense, arm, rates=4)
    assert spent["flops"] == without + 5 * 4 * 32 * passes
    assert spent["flops_with_all_rates"] == 4 * without + 5 * 4 * 32 * passes


def test_a_spliced_run_is_ranked_beside_the_run_it_explains_and_any_other_from_scratch(
    dense, tmp_path
):
    (path,) = posthoc(dense.folder.path, QUICK, tmp_path / "spliced")
    runs = [read_run(folder) for folder in (dense.folder, load(path).folder)]
    assert [head["group"] for head in comparison._heads(runs)] == ["A", "A"]
    # Coders of a run that itself starts from another one stand with what starts from that one.
    runs[0].manifest["origin"] = {"init_from": {"run": "first", "weights_sha256": "ab"}}
    assert [head["group"] for head in comparison._heads(runs)] == ["A", "B"]
    runs[1].manifest["origin"]["posthoc"]["origin"] = runs[0].manifest["origin"]
    assert [head["group"] for head in comparison._heads(runs)] == ["A", "A"]
    assert "coders fitted to dense, for " in write_report(load(path).folder).read_text()


def test_metrics_score_a_spliced_run_beside_its_twin(dense, tmp_path):
    """Which is found in the run's folder, and says what it scores when it is evaluated itself."""
    (path,) = posthoc(dense.folder.path, QUICK, tmp_path / "spliced")
    names = ["bits_per_byte", "mean_kurtosis"]
    scores = evaluate(load(path), metrics=names, dense=dense, progress=False)
    twins = evaluate(load(path / "frozen"), metrics=names, progress=False)
    assert scores[0].value > 0
    for score, own in zip(scores, twins, strict=True):
        assert score.controls[FROZEN] == own.value != score.value
        assert own.controls[FROZEN] == "the run's own dictionary is frozen"
    config = path / "frozen" / "config.json"
    config.write_text(config.read_text().replace('"k": 3', '"k": 2'))
    (score,) = evaluate(load(path), metrics=names[:1], progress=False)
    assert "has coders of another kind or size" in score.controls[FROZEN]
    shutil.rmtree(path / "frozen")
    (score,) = evaluate(load(path), metrics=names[:1], progress=False)
    assert "no twin with a frozen dictionary lies beside" in score.controls[FROZEN]
    (score,) = evaluate(dense, metrics=names[:1], progress=False)
    assert FROZEN not in score.controls


def test_one_command_makes_the_twin_from_the_same_activations(dense, tmp_path, monkeypatch):
    """Neither knows of the other: each is what a command of its own would have made."""
    passes, plain = [], fitting.activations
    monkeypatch.setattr(fitting, "activations", lambda *args: passes.append(1) or plain(*args))
    words = [str(dense.folder.path), *QUICK, "lr=1e-3,2e-3"]
    assert main(["posthoc", *words, f"run={tmp_path / 'both'}"]) == 0
    assert len(passes) == 6
    assert main(["posthoc", *words, "--no-twin", f"run={tmp_path / 'alone'}"]) == 0
    assert main(["posthoc", *words, "frozen=decoder", f"run={tmp_path / 'frozen'}"]) == 0
    both = tmp_path / "both"
    for one, other in ((both, "alone"), (both / "frozen", "frozen")):
        ours, theirs = (load(path).model.state_dict() for path in (one, tmp_path / other))
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        assert not (tmp_path / other / "frozen").exists()
    drawn, fitted = (load(path).model.blocks[0].mlp.w_dec for path in (both / "frozen", both))
    assert not torch.equal(drawn, fitted)
    manifests = [load(path).folder.read_manifest()["posthoc"] for path in (both, both / "frozen")]
    assert [one["config"]["frozen"] for one in manifests] == ["none", "decoder"]
    assert manifests[0]["compute"]["flops"] == manifests[1]["compute"]["flops"]


def test_every_k_gives_a_run_at_the_rate_that_predicts_training_rows_best(dense, tmp_path):
    words = [*QUICK[:-2], "lr=5e-3,1e-2", "k=2,4", "eval_tokens=512"]
    paths = posthoc(dense.folder.path, words, tmp_path / "swept")
    assert [path.name for path in paths] == ["swept-k=2-width=24", "swept-k=4-width=24"]
    for path, k in zip(paths, (2, 4), strict=True):
        facts = load(path).folder.read_manifest()["posthoc"]
        assert (facts["config"]["k"], facts["config"]["lr"]) == (k, 1e-2)
        spent = facts["compute"]
        assert spent["flops_with_all_rates"] == 2 * spent["flops"]
        assert spent["ratio_with_all_rates"] == 2 * spent["ratio"]
        alone = posthoc(dense.folder.path, [*words[:3], f"k={k}", "lr=1e-2", words[-1]], path / "x")
        ours, theirs = load(path).model.state_dict(), load(alone[0]).model.state_dict()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_rate_is_chosen_by_the_predictions_of_the_whole_and_not_by_variance(
    dense, tmp_path, monkeypatch
):
    """The second rate explains less of what each layer writes, and keeps more of the predictions."""
    loss, variance = {1e-3: 3.0, 2e-3: 2.5, 4e-3: 2.75}, {1e-3: 0.9, 2e-3: 0.5, 4e-3: 0.6}
    configs = expand([*QUICK, "lr=1e-3,2e-3,4e-3"])
    arms = [Arm(config, splice(dense, config)) for config in configs]
    lr = {id(arm.model): arm.config.lr for arm in arms}

    def planted(_, model, rows):
        rate = lr[id(model)]
        return Fidelity(2.0, loss[rate], 0.1, [variance[rate]] * 2, [3.0] * 2, [0.0] * 2, 512)

    monkeypatch.setattr(make, "measure", planted)
    assert make._best(dense, arms).config.lr == 2e-3
    assert [arm.chosen_by.ce_spliced for arm in arms] == [3.0, 2.5, 2.75]


def test_a_tuned_run_names_its_teacher_and_what_the_dense_run_has_seen(dense, tmp_path):
    (path,) = posthoc(dense.folder.path, [*QUICK, "kl_steps=3"], tmp_path / "tuned")
    config = load(path).config.train
    assert config.init_from == config.teacher == str(dense.folder.path)
    assert config.steps == 9
    shutil.copytree(dense.folder.path, source := tmp_path / "source")
    RunFolder(source).update_manifest(selected_by=["bits_per_byte"])
    (path,) = posthoc(source, QUICK, tmp_path / "fitted")
    RunFolder(source).update_manifest(selected_by=["regret"])
    known = seen(RunFolder(path))
    assert all("; fitted starts or learns from it" in known[n] for n in ("bits_per_byte", "regret"))
    shutil.rmtree(source)  # what it had seen when the coders were fitted is still known
    assert seen(RunFolder(path)) == {"bits_per_byte": known["bits_per_byte"]}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["k=33", "width=32"], "mlp.k is 33; at most the width, 32, is accepted"),
        (["k=33", "width=32", "kind=crosslayer_transcoder"], "at most the width, 32"),
        (["kind=sae", "rule=jumprelu"], "rule = 'jumprelu' is not accepted"),
        (["kind=autoencoder"], "kind = 'autoencoder' is not accepted"),
        (["lr=1e-3,3e-3"], "lr = 0.001,0.003 is not accepted; expected rates each twice the one"),
        (["lr=2e-3,1e-3"], "expected rates each twice the one before"),
        (["k=4,4"], "k = '4,4' is not accepted; expected different values"),
        (["steps=0"], "steps"),
        (["depth=3"], "depth"),
        (["--best"], "is not an option of posthoc; expected --kind, --no-twin or --help"),
        (["run="], "expected the path of a folder"),
    ],
)
def test_mistakes_are_sentences_and_write_nothing(dense, tmp_path, capsys, words, says):
    before = sorted(dense.folder.path.parent.iterdir())
    assert main(["posthoc", str(dense.folder.path), *words]) == 2
    assert says in capsys.readouterr().err
    assert sorted(dense.folder.path.parent.iterdir()) == before


def test_runs_that_are_not_dense_and_folders_in_use_are_refused(dense, tmp_path, capsys):
    (path,) = posthoc(dense.folder.path, QUICK, tmp_path / "spliced")
    assert main(["posthoc", str(path)]) == 2
    assert "is not dense: its layer 0 has mlp=topk" in capsys.readouterr().err
    assert main(["posthoc", str(dense.folder.path), *QUICK, f"run={path}"]) == 2
    assert "is not empty: give a new folder" in capsys.readouterr().err
    assert main(["posthoc", str(tmp_path / "none")]) == 2
    assert "is not a run" in capsys.readouterr().err
    assert main(["posthoc"]) == 2
    assert "takes the folder of one dense run; got 0" in capsys.readouterr().err


def test_help_lists_every_field(capsys):
    assert main(["posthoc", "--help"]) == 0
    page = capsys.readouterr().out
    assert "frozen=none" in page
    assert "kl_steps=0" in page


def test_words_give_every_combination_of_k_width_and_rate():
    found = expand(["lr=1e-3,2e-3", "k=8,16", "kind=sae"])
    assert {(c.k, c.lr) for c in found} == {(8, 1e-3), (8, 2e-3), (16, 1e-3), (16, 2e-3)}
    with pytest.raises(ConfigError, match="steps"):
        expand(["steps=1,2"])


def test_the_page_of_post_hoc_coders_runs_from_top_to_bottom(dense_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    shutil.copytree(dense_folder, tmp_path / "runs" / "dense")
    commands = re.findall(r"^pellucid (.*)$", PAGE.read_text(), flags=re.MULTILINE)
    assert commands[0] == "train tiny mlp=dense run=runs/dense"
    for command in commands[1:]:
        words = [re.sub(r"kl_steps=\d+", "kl_steps=2", word) for word in command.split()]
        small = ["steps=3", "batch=4", "eval_tokens=256"] if words[0] == "posthoc" else []
        assert main([*words, *small]) == 0
    written = {path.name for path in (tmp_path / "runs").iterdir()} - {"dense"}
    assert written == {"transcoder", "tuned", "by-batch", "swept-k=16", "swept-k=32", "frozen"}
    suite = read_run(load(tmp_path / "runs" / "transcoder").folder).scores
    told = {(score["metric"], score["site"]): score for score in suite["scores"]}
    assert told["bits_per_byte", None]["controls"]["dense_neurons"] > 0
    for layer in (0, 1):
        assert told["mean_active_units", f"blocks.{layer}.mlp"]["value"] == pytest.approx(
            32, rel=0.01
        )
    assert (tmp_path / "compare.html").stat().st_size > 10_000
