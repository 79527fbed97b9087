"""A run folder has one writer, keeps its rows whole, and says what made it."""

import errno
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import pellucid
from pellucid import checkpoint
from pellucid.errors import CheckpointError, RunError
from pellucid.run import RunFolder, load
from pellucid.settings import fields
from pellucid.storage import files, provenance

CONFIG = {"format": 1, "seed": 1, "data": {}, "model": {"width": 8}, "train": {}}


class PlainTokenizer:
    """As much of a tokenizer as a folder needs."""

    sha256 = "0" * 64

    def save(self, path):
        path.write_text("{}")


def new_run(path: Path, **about) -> RunFolder:
    folder = RunFolder(path)
    folder.create(CONFIG, {"data_fingerprint": "f00d", **about}, PlainTokenizer())
    return folder


def run_script(code: str, *words: object) -> subprocess.Popen:
    """Start code that imports this very package, its output read line by line."""
    code = f"import sys; sys.path[:0] = {sys.path!r}\n" + code
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)], stdout=subprocess.PIPE, text=True
    )


def test_a_new_run_holds_what_it_was_begun_with(tmp_path):
    folder = new_run(tmp_path / "runs" / "x")
    assert sorted(entry.name for entry in folder.path.iterdir()) == [
        "checkpoints",
        "config.json",
        "manifest.json",
        "tokenizer.json",
    ]
    again = RunFolder.open(folder.path)
    assert again.name == "x"
    assert again.read_config() == CONFIG
    assert again.read_manifest() == {"data_fingerprint": "f00d", "tokenizer_sha256": "0" * 64}
    assert again.read_scores() is None
    with pytest.raises(RunError, match="already holds a run"):
        new_run(folder.path)


def test_an_interrupted_creation_is_no_run_and_can_be_repeated(tmp_path, monkeypatch):
    folder, written = RunFolder(tmp_path / "x"), []

    def stop_at_manifest(path, *_):
        written.append(path.name)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_json", stop_at_manifest)
        with pytest.raises(KeyboardInterrupt):
            folder.create(CONFIG, {}, PlainTokenizer())
    assert written == ["manifest.json"]
    assert not folder.exists()
    assert new_run(folder.path).exists()


def test_what_is_not_a_run_is_named(tmp_path):
    with pytest.raises(RunError, match=r"nothing is not a run: there is no such folder"):
        RunFolder.open(tmp_path / "nothing")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match=r"is not a run: it has no config\.json"):
        RunFolder.open(tmp_path)
    with pytest.raises(RunError, match=r"holds notes\.txt"), RunFolder(tmp_path).lock():
        pass
    with pytest.raises(RunError, match="is a file"):
        new_run(tmp_path / "notes.txt")
    assert [entry.name for entry in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("manifest", "[1]", r"manifest\.json holds a list; expected .* with data_fingerprint"),
        ("manifest", "null", r"manifest\.json holds a NoneType; expected a JSON object"),
        ("manifest", '{"data_fingerprint": "f"}', r"manifest\.json lacks tokenizer_sha256; exp"),
        ("config", "{}", r"config\.json lacks format, data, model, train; expected a JSON object"),
        ("config", "3", r"config\.json holds a int; expected a JSON object with format, data"),
    ],
)
def test_a_file_that_no_run_wrote_is_named(tmp_path, file, content, message):
    folder = new_run(tmp_path / "x")
    (folder.path / f"{file}.json").write_text(content)
    with pytest.raises(RunError, match=message):
        getattr(folder, f"read_{file}")()


def test_a_finished_run_says_so(tmp_path):
    folder = new_run(tmp_path / "x")
    assert not folder.is_finished
    folder.mark_finished(step=40, seconds=1.5)
    assert RunFolder.open(folder.path).is_finished
    assert folder.read_manifest()["finished"] == {"step": 40, "seconds": 1.5}
    assert folder.read_manifest()["data_fingerprint"] == "f00d"


def test_scores_and_units_come_back_and_other_formats_are_refused(tmp_path):
    folder = new_run(tmp_path / "x")
    scores = {"format": 1, "scores": [{"metric": "bits_per_byte", "value": 0.1}]}
    folder.write_scores(scores)
    folder.write_units({"format": 1, "sites": []})
    assert folder.read_scores() == scores
    assert folder.read_units() == {"format": 1, "sites": []}
    with pytest.raises(RunError, match=r"scores\.json.value is nan"):
        folder.write_scores({"format": 1, "value": float("nan")})
    assert folder.read_scores() == scores
    folder.write_scores({"format": 2})
    with pytest.raises(RunError, match=r"scores\.json is not of format 1"):
        folder.read_scores()
    assert folder.write_report("<p>é").read_text(encoding="utf-8") == "<p>é"


def test_json_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    folder = new_run(tmp_path / "x")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(RunError, match=r"manifest\.json: no space left .*unchanged; free some"):
            folder.mark_finished()
    assert not folder.is_finished
    assert not list(folder.path.glob(".tmp-*"))


def test_json_is_on_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    events, fsync, replace = [], os.fsync, os.replace

    def name_of(descriptor):
        return Path(f"/proc/self/fd/{descriptor}").readlink().name

    monkeypatch.setattr(os, "fsync", lambda d: (events.append(("fsync", name_of(d))), fsync(d)))
    monkeypatch.setattr(os, "replace", lambda a, b: (events.append(("to", b.name)), replace(a, b)))
    files.write_json(tmp_path / "a.json", {"x": 1}, RunError)
    temp = f".tmp-{os.getpid()}-a.json"
    assert events == [("fsync", temp), ("to", "a.json"), ("fsync", tmp_path.name)]


@dataclass(frozen=True, kw_only=True)
class ModelPart(fields.Config):
    width: int = fields.setting(8)


@dataclass(frozen=True, kw_only=True)
class WholeConfig(fields.Config):
    seed: int = fields.setting(1)
    device: str = fields.setting("cpu", operational=True)
    format: int = fields.setting(1, operational=True)
    data: ModelPart = ModelPart()
    model: ModelPart = ModelPart()
    train: ModelPart = ModelPart()


def test_a_run_of_another_configuration_shows_the_difference(tmp_path):
    folder = RunFolder(tmp_path / "x")
    folder.create(fields.to_json(WholeConfig()), {}, PlainTokenizer())
    folder.belongs(WholeConfig(device="cuda"))
    other = WholeConfig(seed=2, device="cuda", model=ModelPart(width=16))
    with pytest.raises(RunError) as caught:
        folder.belongs(other)
    assert "belongs to another configuration" in str(caught.value)
    assert "seed is 1 there and 2 here" in str(caught.value)
    assert "model.width is 8 there and 16 here" in str(caught.value)
    assert "device" not in str(caught.value)


HOLD = """
import os, time
from pellucid.errors import UserError, EXIT_USER
from pellucid.run import RunFolder
try:
    with RunFolder(sys.argv[1]).lock():
        child = os.fork() if "fork" in sys.argv else 1
        if child == 0:
            time.sleep(30)
            os._exit(0)
        print("holding", child, flush=True)
        time.sleep(30)
except UserError as problem:
    print(problem, flush=True)
    sys.exit(EXIT_USER)
"""


def test_a_second_writer_is_told_who_the_first_is(tmp_path):
    first = run_script(HOLD, tmp_path / "x")
    assert first.stdout.readline().startswith("holding")
    second = run_script(HOLD, tmp_path / "x")
    said, _ = second.communicate(timeout=60)
    assert second.returncode == 2
    assert f"in use by process {first.pid} on {socket.gethostname()}" in said
    first.kill()
    first.communicate()
    with RunFolder(tmp_path / "x").lock():
        assert str(os.getpid()) in (tmp_path / "x" / "lock").read_text()


def test_a_killed_writer_frees_the_folder_though_its_forked_child_lives(tmp_path):
    first = run_script(HOLD, tmp_path / "x", "fork")
    child = int(first.stdout.readline().split()[1])
    first.kill()
    first.wait()
    try:
        with RunFolder(tmp_path / "x").lock():
            os.kill(child, 0)
    finally:
        os.kill(child, signal.SIGKILL)
        first.stdout.close()


def test_the_lock_is_free_again_after_use_and_after_an_error(tmp_path):
    folder = RunFolder(tmp_path / "x")
    with folder.lock(), pytest.raises(RunError, match=f"process {os.getpid()}"), folder.lock():
        pass
    with pytest.raises(ZeroDivisionError), folder.lock():
        _ = 1 / 0
    with folder.lock():
        pass


def test_metrics_come_back_and_numbers_that_are_not_finite_are_null(tmp_path):
    folder = new_run(tmp_path / "x")
    assert folder.read_metrics() == []
    rows = [{"step": 1, "kind": "train", "loss": 0.1}, {"step": 2, "kind": "val", "loss": 1e-300}]
    for row in rows:
        folder.append_metrics(row)
    folder.append_metrics({"step": 3, "loss": float("nan"), "norms": [1.0, float("inf")]})
    assert folder.read_metrics() == [*rows, {"step": 3, "loss": None, "norms": [1.0, None]}]
    assert folder.metrics_file.read_bytes().count(b"\n") == 3
    with pytest.raises(RunError, match=r"metrics\.loss is a Tensor"):
        folder.append_metrics({"loss": torch.tensor(1.0)})


def test_resuming_forgets_the_rows_after_the_step(tmp_path):
    folder = new_run(tmp_path / "x")
    for step in (1, 2, 2, 3, 4):
        folder.append_metrics({"step": step, "loss": step / 7})
    kept = folder.metrics_file.read_bytes().splitlines(keepends=True)[:3]
    folder.truncate_metrics(2)
    assert folder.metrics_file.read_bytes() == b"".join(kept)
    folder.append_metrics({"step": 3})
    assert [row["step"] for row in folder.read_metrics()] == [1, 2, 2, 3]
    folder.truncate_metrics(-1)
    assert folder.read_metrics() == []


@pytest.mark.parametrize("half", [b'{"step": 2, "lo', b'{"step": 2}', b"\0\0\0", b"\xff"])
def test_a_half_written_last_row_is_no_row(tmp_path, half):
    folder = new_run(tmp_path / "x")
    folder.append_metrics({"step": 1})
    with folder.metrics_file.open("ab") as file:
        file.write(half)
    assert folder.read_metrics() == [{"step": 1}]
    folder.append_metrics({"step": 3})
    assert folder.read_metrics() == [{"step": 1}, {"step": 3}]
    with folder.metrics_file.open("ab") as file:
        file.write(half)
    folder.truncate_metrics(1)
    assert folder.metrics_file.read_bytes() == b'{"step": 1}\n'


def test_a_damaged_row_in_the_middle_is_named(tmp_path):
    folder = new_run(tmp_path / "x")
    folder.metrics_file.write_bytes(b'{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(RunError, match=r"metrics\.jsonl, line 2, is not valid JSON"):
        folder.read_metrics()
    folder.metrics_file.write_bytes(b"[1]\n")
    with pytest.raises(RunError, match=r"line 1, is not a JSON object"):
        folder.read_metrics()


def test_provenance_tells_source_versions_and_machine_but_no_paths_or_secrets(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    about = provenance.provenance(world_size=2, data_fingerprint="f00d", arms=3)
    assert about["versions"]["torch"] == torch.__version__
    assert about["python"] == ".".join(map(str, sys.version_info[:3]))
    assert (about["world_size"], about["data_fingerprint"], about["arms"]) == (2, "f00d", 3)
    assert about["threads"] == torch.get_num_threads()
    assert about["pellucid"] == pellucid.__version__
    text = json.dumps(about)
    assert "hf_secret" not in text
    assert str(Path.cwd()) not in text
    assert not re.search(r'"/\w+/', text)


def test_source_hash_sees_every_change_of_the_package_and_nothing_else(tmp_path):
    package = tmp_path / "package"
    (package / "part").mkdir(parents=True)
    for name in ("__init__.py", "a.py", "part/__init__.py", "part/b.py"):
        (package / name).write_text(f"# {name}\n")
    before = provenance.source_hash(package)
    (package / "runs").mkdir()
    (package / "runs" / "c.py").write_text("x")
    (package / "notes.txt").write_text("x")
    assert provenance.source_hash(package) == before
    shutil.copytree(package, tmp_path / "elsewhere")
    assert provenance.source_hash(tmp_path / "elsewhere") == before
    (package / "part" / "b.py").write_text("# changed\n")
    changed = provenance.source_hash(package)
    (package / "part" / "b.py").rename(package / "part" / "c.py")
    assert len({before, changed, provenance.source_hash(package)}) == 3


def test_a_manifest_describes_the_whole_package():
    root = Path(pellucid.__file__).resolve().parent
    about = provenance.provenance(world_size=1, data_fingerprint="f")
    assert about["source_sha256"] == provenance.source_hash(root)
    assert about["git"] == provenance.git_state(root)
    assert (root / "train.py").is_file()


def test_git_state_is_that_of_the_packages_own_checkout(tmp_path):
    def git(*words):
        names = ["-c", "user.name=n", "-c", "user.email=e@e"]
        subprocess.run(["git", "-C", tmp_path, *names, *words], check=True, capture_output=True)

    if not shutil.which("git"):
        pytest.skip("git is not installed")
    (tmp_path / "inside").mkdir()
    (tmp_path / "a.py").write_text("1")
    git("init", "-q")
    git("add", "a.py")
    git("commit", "-qm", "one")
    state = provenance.git_state(tmp_path.resolve())
    assert re.fullmatch("[0-9a-f]{40}", state["sha"])
    assert state["dirty"] is False
    (tmp_path / "a.py").write_text("2")
    assert provenance.git_state(tmp_path.resolve()) == {**state, "dirty": True}
    assert provenance.git_state(tmp_path.resolve() / "inside") is None


def test_the_package_offers_load_and_config_on_first_use():
    assert pellucid.load is load
    assert re.fullmatch(r"\d+\.\d+\.\d+", pellucid.__version__)
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        pellucid.laod
    code = "import sys, pellucid; sys.exit('torch' in sys.modules)"
    with run_script(code) as process:
        assert process.wait(timeout=60) == 0


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> RunFolder:
    """A folder as the trainer leaves it: two checkpoints of a small model on generated text."""
    import pellucid.config as config_module
    from pellucid.data import CORPORA, DataConfig, prepare
    from pellucid.models import ModelConfig, Transformer
    from pellucid.models.mlp import MLPS

    patch = pytest.MonkeyPatch()
    patch.setenv("PELLUCID_CACHE", str(tmp_path_factory.mktemp("cache")))
    config = config_module.RunConfig(
        model=ModelConfig(
            n_layers=2, d_model=16, context=24, mlp=MLPS["topk"].Config(width=48, k=5)
        ),
        data=DataConfig(corpus=CORPORA["generated"].Config(n_documents=40), vocab_size=300),
    )
    data = prepare(config.data, progress=False)
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "x")
    about = provenance.provenance(world_size=1, data_fingerprint=data.fingerprint)
    folder.create(fields.to_json(config), about, data.tokenizer)
    for step in (10, 20):
        model = Transformer(config.model, vocab_size=data.vocab_size, seed=step)
        parts = {"optimizer": {}, "rng": {}, "state": {}, "meta": {}}
        checkpoint.save(folder.checkpoints, step, model=model.state_dict(), **parts)
    yield folder
    patch.undo()


def test_load_gives_the_model_its_tokenizer_and_its_data(trained):
    from pellucid.models import Transformer

    for step, wanted in ((None, 20), (10, 10), (20, 20)):
        run = load(trained.path, step)
        assert run.step == wanted
        assert not run.model.training
        twin = Transformer(run.config.model, vocab_size=run.tokenizer.vocab_size, seed=wanted)
        tokens = torch.tensor([[run.tokenizer.eot, *run.tokenizer.encode("x = 1")]])
        assert torch.equal(run.model(tokens).logits, twin.eval()(tokens).logits)
    assert run.data.fingerprint == trained.read_manifest()["data_fingerprint"]
    assert run.data.tokenizer.sha256 == run.tokenizer.sha256
    assert run.folder.path == trained.path


def test_load_caches_activations_below_the_run(trained):
    run = load(trained.path)
    tokens = run.data.rows(0, 0, batch=3, context=24, split="val").tokens[:, :-1]
    acts = run.cache("blocks.0.mlp", tokens)["blocks.0.mlp"]
    assert acts.indices.shape == (3, 24, 5)
    assert Path(acts.values.filename).is_relative_to(trained.cache.resolve())


def test_load_refuses_what_does_not_fit(trained, tmp_path):
    with pytest.raises(RunError, match="no checkpoint of step 15: there are 10, 20"):
        load(trained.path, 15)

    def copy(name: str) -> RunFolder:
        shutil.copytree(trained.path, tmp_path / name)
        return RunFolder(tmp_path / name)

    empty = copy("empty")
    shutil.rmtree(empty.checkpoints)
    with pytest.raises(RunError, match="has no checkpoint yet"):
        load(empty.path)
    changed = copy("changed")
    changed.update_manifest(tokenizer_sha256="0" * 64)
    with pytest.raises(RunError, match=r"tokenizer\.json is not the tokenizer"):
        load(changed.path)
    other = copy("other")
    other.update_manifest(data_fingerprint="f00d")
    with pytest.raises(RunError, match="was trained on data f00d"):
        _ = load(other.path).data
    resized = copy("resized")
    config = resized.read_config()
    config["model"]["mlp"]["width"] = 64
    resized.write_config(config)
    with pytest.raises(CheckpointError, match=r"model\.safetensors does not fit the model"):
        load(resized.path)


def test_load_goes_back_to_the_checkpoint_before_a_damaged_one(trained, tmp_path, capsys):
    shutil.copytree(trained.path, tmp_path / "x")
    bad = tmp_path / "x" / "checkpoints" / "step-00000020" / "model.safetensors"
    bad.write_bytes(bad.read_bytes()[:-1])
    assert load(tmp_path / "x").step == 10
    assert str(bad) in capsys.readouterr().out
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load(tmp_path / "x", 20)
