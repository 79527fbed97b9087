"""The command line: what it calls, what it prints, and that a mistake is one line and exit code 2."""

import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import pellucid
import pellucid.run
import pellucid.train
from pellucid import cli
from pellucid.commands import runs
from pellucid.errors import EXIT_USER, UserError
from pellucid.experiments import preset, run_config


@pytest.fixture
def trained(monkeypatch, tmp_path):
    """What `train` was called with; nothing trains, and runs/ is in an empty folder."""
    calls = []
    monkeypatch.setattr(pellucid.train, "train", lambda *args: calls.append(args) or 75)
    monkeypatch.chdir(tmp_path)
    return calls


def module(monkeypatch, name: str, **functions) -> None:
    """Stand in for a module that a command imports when it is called."""
    stand_in = SimpleNamespace(**functions)
    monkeypatch.setitem(sys.modules, f"pellucid.{name}", stand_in)
    parent, _, last = f"pellucid.{name}".rpartition(".")
    monkeypatch.setattr(sys.modules[parent], last, stand_in, raising=False)


def fails(capsys, words: str, *fragments: str) -> None:
    """One line on stderr, exit code 2, nothing on stdout."""
    assert cli.main(words.split()) == EXIT_USER
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("pellucid: ") and err.count("\n") == 1
    for fragment in fragments:
        assert fragment in err, err


def test_train_gives_the_configuration_and_the_folder(trained):
    assert cli.main(["train", "mlp.k=16", "tiny", "seed=1"]) == 75
    words = ["tiny", "mlp.k=16", "seed=1"]
    assert trained == [(run_config(words), Path("runs/tiny-mlp.k=16-seed1"), None)]


def test_train_command_takes_the_same_words(trained):
    assert cli.train_command(["run=a b/c", "train.steps=9"]) == 75
    assert trained == [(run_config(["train.steps=9"]), Path("a b/c"), None)]
    assert cli.train_command([]) == 75
    assert trained[-1] == (preset("tiny"), Path("runs/tiny-seed0"), None)


@pytest.mark.parametrize(
    "words, fragments",
    [
        ("train tiny mlp.k=5000", ["mlp.k", "5000", "1024"]),
        ("train tiny mlp.width=16", ["mlp.k", "32", "16"]),
        ("train tiny attention.n_heads=3", ["attention.n_heads", "3", "128"]),
        ("train tiny mlp@5=dense", ["mlp@5", "0", "1"]),
        ("train tiny mlp=tpok", ["model.mlp", "mlp = 'tpok'", "topk"][1:]),
        ("train tiny train.stesp=3", ["train.stesp", "did you mean train.steps?"]),
        ("train tiny steps=3", ["did you mean train.steps?"]),
        ("train tiny train.steps=many", ["train.steps = 'many'", "an integer, at least 1"]),
        ("train tiny train.lr=nan", ["train.lr = nan", "a number, above 0"]),
        ("train tiny train.lr=inf", ["train.lr = inf"]),
        ("train tiny mlp=dense mlp.k=3", ["mlp.k is not a field of dense", "add mlp=topk"]),
        ("train tiny data.val_fraction=0.9", ["data.val_fraction"]),
        ("train smal", ["'smal'", "did you mean small?"]),
        ("train --lr=3", ["--lr=3", "path=value"]),
        ("train tiny --print-confg", ["--print-config"]),
        ("train run=", ["run"]),
        ("trian", ["'trian'", "did you mean train?"]),
        ("eval", ["RUN"]),
        ("eval nowhere", ["nowhere is not a run"]),
        ("eval nowhere --step x", ["--step", "'x'"]),
        ("eval nowhere --stepp 3", ["--stepp"]),
        ("compare nowhere", ["two runs or more"]),
        ("compare nowhere nowhere", ["nowhere is not a run"]),
        ("view nowhere", ["nowhere is not a run"]),
        ("replay nowhere 3", ["nowhere is not a run"]),
        ("replay nowhere -3", ["-3"]),
        ("replay nowhere three", ["'three'"]),
        ("bench", ["bench train, kernels, models, fillings, widths, pack or grids"]),
        ("bench cpu", ["bench train, kernels, models, fillings, widths, pack or grids"]),
    ],
)
def test_a_mistake_is_one_line(trained, capsys, words, fragments):
    fails(capsys, words, *fragments)
    assert not trained and not list(Path.cwd().iterdir())


def test_help_lists_every_field_of_every_filling(capsys):
    assert cli.main(["train", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for part in (
        "usage: pellucid train [PRESET] [path=value ...] [run=FOLDER] [--print-config]",
        "mlp.k=32",
        "mlp.activation=gelu",
        "mlp.sparsity_weight=0.05",
        "one of dense, topk, abs_topk, batch_topk, jumprelu",
        "head.tied=false",
        "train.revive_after=10000000",
        "Tokens of training over which a unit must be silent to be dead.",
        "train.device=auto*",
        "with data=hf",
        "data.n_documents=0",
    ):
        assert part in text, part


def test_help_shows_the_values_of_the_preset_asked_for(capsys):
    assert cli.main(["train", "small", "mlp.k=7", "--help"]) == 0
    text = capsys.readouterr().out
    assert "mlp.k=7 " in text and "attention.n_heads=8 " in text and "those of small" in text


def test_print_config_derives_everything_and_trains_nothing(trained, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("PELLUCID_CACHE", str(tmp_path / "cache"))
    words = "train data=generated data.n_documents=30 data.vocab_size=300 --print-config seed=1"
    assert cli.main(words.split()) == 0
    text = capsys.readouterr().out
    for part in ("mlp.k=32", "seed=1", "parameters", "active per token", "FLOPs", "epochs", "time"):
        assert part in text, part
    assert "runs/tiny-data=generated-data.n_documents=30-data.vocab_size=300-seed1" in text
    assert not trained and not (tmp_path / "runs").exists()


def test_only_the_first_process_prints(trained, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert cli.main(["train", "--help"]) == 0
    assert capsys.readouterr().out == ""


def test_eval_scores_and_reports(monkeypatch, capsys, tmp_path):
    calls, run = [], SimpleNamespace(folder="the folder")
    monkeypatch.setattr(runs, "run_folder", lambda path: path)
    monkeypatch.setattr(
        pellucid.run, "load", lambda path, step=None: calls.append((path, step)) or run
    )
    module(monkeypatch, "eval", evaluate=lambda *args, **kw: calls.append((args, kw)))
    module(monkeypatch, "report", write_report=lambda folder: f"{folder}/report.html")
    assert cli.main(["eval", "a", "--step", "7", "--split", "test"]) == 0
    options = {"suite": "quick", "split": "test", "dense": None, "seeds": [], "labels": None}
    assert calls == [(Path("a"), 7), ((run,), options)]
    assert capsys.readouterr().out == "report: the folder/report.html\n"


def test_compare_replay_and_bench_call_their_parts(monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(runs, "run_folder", lambda path: f"<{path}>")
    module(monkeypatch, "report", write_comparison=lambda *args: calls.append(args) or args[1])
    module(monkeypatch, "kernels.bench", main=lambda words: calls.append(words) or 0)
    module(monkeypatch, "experiments.bench_train", main=lambda words: calls.append(words) or 4)
    monkeypatch.setattr(pellucid.train, "replay", lambda *args: calls.append(args) or 3)
    assert cli.main(["compare", "a", "b", "--out", "c.html"]) == 0
    assert cli.main(["replay", "a", "12"]) == 3
    assert cli.main(["bench", "kernels", "k=3"]) == 0
    assert cli.main(["bench", "train", "tiny"]) == 4
    assert calls == [(["<a>", "<b>"], Path("c.html")), (Path("a"), 12), ["k=3"], ["tiny"]]


def test_view_writes_the_page_only_where_it_is_old(monkeypatch, tmp_path):
    written, opened = [], []

    def write(folder):
        written.append(folder.path)
        folder.report_file.write_text("page")
        return folder.report_file

    module(monkeypatch, "report", write_report=write)
    monkeypatch.setattr("webbrowser.open", opened.append)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "metrics.jsonl").write_text("")
    assert cli.main(["view", str(tmp_path)]) == 0 and cli.main(["view", str(tmp_path)]) == 0
    assert written == [tmp_path] and opened == [(tmp_path / "report.html").as_uri()] * 2
    time.sleep(0.02)
    (tmp_path / "scores.json").write_text("{}")
    assert cli.main(["view", str(tmp_path)]) == 0 and len(written) == 2


@pytest.mark.parametrize(
    "error, code",
    [
        (UserError("two\nlines"), 2),
        (PermissionError(13, "Permission denied", "runs"), 2),
        (OSError(28, "No space left on device"), 2),
        (KeyboardInterrupt(), 130),
    ],
)
def test_what_the_user_can_mend_leaves_no_traceback(error, code, capsys):
    def command(argv):
        raise error

    assert cli.guarded(command, []) == code
    assert capsys.readouterr().err.count("\n") == 1


def test_a_defect_keeps_its_traceback():
    def command(argv):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cli.guarded(command, [])


def test_version_and_help_answer_without_torch():
    code = (
        "import sys\nfrom pellucid.cli import main\n"
        "assert main(['--version']) == 0 and main(['--help']) == 0 and main([]) == 2\n"
        "assert not {'torch', 'rich', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"pellucid {pellucid.__version__}\n")
    assert "pellucid train" in done.stdout


def test_a_closed_pipe_is_no_error():
    code = "import sys; from pellucid.cli import main; sys.exit(main(['train', '--help']))"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait() == 0
    process.stderr.close()
