"""Checkpoints come back as they were, survive kills and full disks, and refuse every damage."""

import errno
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pellucid import checkpoint
from pellucid.errors import CheckpointError
from pellucid.storage import files, sealed

PACKAGE = Path(checkpoint.__file__).parent
META = {"config_hash": "c0ffee", "data_fingerprint": "f00d", "world_size": 2}


def contents_of(step: int) -> dict:
    """What a trainer would save at a step, different at each."""
    generator = torch.Generator().manual_seed(step)
    weight = torch.randn(5, 3, generator=generator)
    return {
        "model": {"embedding.weight": weight, "norm.weight": torch.ones(3, dtype=torch.bfloat16)},
        "optimizer": {
            "embedding.weight/exp_avg": weight.double() * 1e-3,
            "embedding.weight/step": torch.tensor(float(step)),
        },
        "rng": {0: generator.get_state(), 1: torch.arange(7, dtype=torch.uint8)},
        "state": {"step": step, "best": 0.1 + step, "python": [3, [1, 2**40], None]},
        "meta": META,
    }


def save_steps(folder: Path, *steps: int, **options) -> list[Path]:
    return [checkpoint.save(folder, step, **contents_of(step), **options) for step in steps]


def assert_same_tensors(got: dict, expected: dict) -> None:
    assert got.keys() == expected.keys()
    for name, tensor in expected.items():
        assert got[name].dtype == tensor.dtype
        assert torch.equal(got[name], tensor)


def assert_is_step(path: Path, step: int) -> None:
    loaded, expected = checkpoint.load(path), contents_of(step)
    assert loaded.step == step
    assert_same_tensors(loaded.model, expected["model"])
    assert_same_tensors(loaded.optimizer, expected["optimizer"])
    assert_same_tensors(loaded.rng, expected["rng"])
    assert loaded.state == expected["state"]
    assert loaded.meta == META


def rewrite_manifest(path: Path, change) -> None:
    """Change a manifest as an attacker would, who computes its hash anew."""
    content = json.loads((path / "manifest.json").read_text())
    del content["sha256"]
    change(content)
    (path / "manifest.json").write_bytes(sealed._signed(content))


def plant(path: Path, name: str, data: bytes) -> None:
    """Put `data` into a checkpoint as file `name`, with a manifest that agrees."""
    (path / name).write_bytes(data)
    entry = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    rewrite_manifest(path, lambda content: content["files"].update({name: entry}))


def test_what_was_saved_comes_back_bit_for_bit(tmp_path):
    (path,) = save_steps(tmp_path, 17)
    assert path.name == "step-00000017"
    assert_is_step(path, 17)
    assert sorted(file.name for file in path.iterdir()) == [
        "manifest.json",
        "model.safetensors",
        "optim.safetensors",
        "rng-00000.safetensors",
        "rng-00001.safetensors",
        "state.json",
    ]
    assert_same_tensors(checkpoint.weights(path), contents_of(17)["model"])


def test_loaded_tensors_own_their_memory(tmp_path):
    (path,) = save_steps(tmp_path, 1)
    loaded = checkpoint.load(path)
    for tensor in loaded.model.values():
        tensor.zero_()
    assert_is_step(path, 1)
    before = loaded.optimizer["embedding.weight/exp_avg"].clone()
    shutil.rmtree(path)
    assert torch.equal(loaded.optimizer["embedding.weight/exp_avg"], before)


def test_tied_weights_and_views_are_written_in_full(tmp_path):
    base = torch.arange(12.0).view(4, 3)
    model = {
        "whole": base,
        "tied": base,
        "row": base[1],
        "turned": base.t(),
        "empty": base[:0],
        "scalar": torch.tensor(2.5),
    }
    path = checkpoint.save(tmp_path, 1, **(contents_of(1) | {"model": model}))
    assert_same_tensors(checkpoint.load(path).model, model)


def test_the_same_contents_make_the_same_bytes(tmp_path):
    first, second = save_steps(tmp_path / "a", 3)[0], save_steps(tmp_path / "b", 3)[0]
    for file in first.iterdir():
        assert file.read_bytes() == (second / file.name).read_bytes()


def test_the_newest_and_the_milestones_are_kept(tmp_path):
    save_steps(tmp_path, *range(1, 8), keep=3, milestones={1, 4})
    assert checkpoint.steps(tmp_path) == [1, 4, 5, 6, 7]
    for step in checkpoint.steps(tmp_path):
        assert_is_step(checkpoint.folder(tmp_path, step), step)
    with pytest.raises(CheckpointError, match="keep=1: at least 2"):
        save_steps(tmp_path, 8, keep=1)


def test_a_step_that_is_whole_is_left_and_a_damaged_one_replaced(tmp_path):
    (path,) = save_steps(tmp_path, 5)
    other = contents_of(5) | {"state": {"step": 5, "other": True}}
    checkpoint.save(tmp_path, 5, **other)
    assert_is_step(path, 5)
    (path / "state.json").write_text("{}")
    assert checkpoint.save(tmp_path, 5, **other) == path
    assert checkpoint.load(path).state == other["state"]


def test_damaged_later_steps_do_not_crowd_out_good_ones(tmp_path):
    save_steps(tmp_path, 10, 20, 30)
    for step in (20, 30):
        (checkpoint.folder(tmp_path, step) / "state.json").unlink()
    save_steps(tmp_path, 10)
    save_steps(tmp_path, 15)
    assert_is_step(checkpoint.latest(tmp_path, say=lambda _: None), 15)


def watch_disk(monkeypatch) -> list[tuple[str, str]]:
    """Record every fsync, rename and unlink as (call, name of the file)."""
    events = []
    calls = {name: getattr(os, name) for name in ("fsync", "replace", "unlink", "rmdir", "rename")}

    def fsync(descriptor):
        events.append(("fsync", str(Path(f"/proc/self/fd/{descriptor}").readlink())))
        calls["fsync"](descriptor)

    def replace(a, b):
        events.append(("rename", str(b)))
        calls["replace"](a, b)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    for name in ("unlink", "rmdir"):

        def gone(path, *args, name=name, **kwargs):
            events.append((name, str(path)))
            calls[name](path, *args, **kwargs)

        monkeypatch.setattr(os, name, gone)
    return events


def test_each_file_is_on_the_disk_before_the_rename_and_that_before_any_deletion(
    tmp_path, monkeypatch
):
    save_steps(tmp_path, 1, 2)
    events = watch_disk(monkeypatch)
    save_steps(tmp_path, 3)
    data = ["state.json", "rng-00000.safetensors", "rng-00001.safetensors", "model.safetensors"]
    data += ["optim.safetensors", "manifest.json"]
    temp = tmp_path / ".tmp-step-00000003"
    expected = [("fsync", str(temp / name)) for name in data]
    expected += [("fsync", str(temp)), ("rename", str(tmp_path / "step-00000003"))]
    expected += [("fsync", str(tmp_path))]
    assert events[: len(expected)] == expected
    hidden = str(tmp_path / f".old-{os.getpid()}-step-00000001")
    assert events[len(expected)] == ("rename", hidden)
    assert {call for call, _ in events[len(expected) + 1 :]} == {"unlink", "rmdir"}


def test_data_is_flushed_before_its_fsync(tmp_path, monkeypatch):
    sizes = {}
    real = os.fsync

    def fsync(descriptor):
        sizes[Path(f"/proc/self/fd/{descriptor}").readlink().name] = os.fstat(descriptor).st_size
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    (path,) = save_steps(tmp_path, 1)
    for name, entry in checkpoint.manifest(path)["files"].items():
        assert sizes[name] == entry["size"]


def test_where_folders_cannot_be_renamed_the_manifest_is_the_mark(tmp_path, monkeypatch):
    real = os.replace

    def replace(a, b):
        if Path(a).is_dir():
            raise OSError(errno.EPERM, "Operation not permitted")
        real(a, b)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        events = watch_disk(patch)
        (path,) = save_steps(tmp_path, 4)
    assert_is_step(path, 4)
    synced = [name for call, name in events if call == "fsync" and str(path) in name]
    assert synced[-2:] == [str(path / "manifest.json"), str(path)]
    assert list(tmp_path.iterdir()) == [path]
    # A copy that was cut short has no manifest: it was never a checkpoint.
    half = checkpoint.folder(tmp_path, 5)
    shutil.copytree(path, half, ignore=shutil.ignore_patterns("manifest.json"))
    assert checkpoint.latest(tmp_path, say=lambda _: None) == path


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return save_steps(tmp_path_factory.mktemp("whole"), 9)[0]


FILES = ["manifest.json", "model.safetensors", "optim.safetensors", "rng-00001.safetensors"]
FILES += ["state.json"]


@pytest.mark.parametrize("name", FILES)
@settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_every_flip_cut_and_addition_is_refused_by_name(whole, name, data):
    path, good = whole / name, (whole / name).read_bytes()
    kind = data.draw(st.sampled_from(["flip", "cut", "add"]))
    if kind == "flip":
        bit = data.draw(st.integers(0, 8 * len(good) - 1))
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
    elif kind == "cut":
        bad = good[: data.draw(st.integers(0, len(good) - 1))]
    else:
        bad = good + data.draw(st.binary(min_size=1, max_size=9) | st.just(b"\n"))
    path.write_bytes(bad)
    try:
        for reader in (checkpoint.load, checkpoint.verify):
            with pytest.raises(CheckpointError, match=re.escape(str(path))):
                reader(whole)
    finally:
        path.write_bytes(good)


def test_a_flip_in_any_byte_of_a_small_file_is_refused(whole):
    for name in ("manifest.json", "state.json"):
        path, good = whole / name, (whole / name).read_bytes()
        for place in range(len(good)):
            bad = bytearray(good)
            bad[place] ^= 1 << place % 8
            path.write_bytes(bad)
            with pytest.raises(CheckpointError, match=name):
                checkpoint.verify(whole)
        path.write_bytes(good)
    assert_is_step(whole, 9)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(tmp_path, name):
    (path,) = save_steps(tmp_path, 1)
    (path / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        checkpoint.load(path)


def test_latest_goes_back_and_says_which_file_is_bad(tmp_path):
    save_steps(tmp_path, 1, 2, 3, keep=3)
    said = []
    model, state = (
        tmp_path / "step-00000003/model.safetensors",
        tmp_path / "step-00000002/state.json",
    )
    model.write_bytes(model.read_bytes()[:-1])
    state.unlink()
    assert checkpoint.latest(tmp_path, say=said.append) == tmp_path / "step-00000001"
    assert len(said) == 2
    assert str(model) in said[0]
    assert "going back" in said[0]
    assert str(state) in said[1]


def test_nothing_saved_is_none_but_everything_damaged_is_an_error(tmp_path):
    assert checkpoint.latest(tmp_path) is None
    assert checkpoint.latest(tmp_path / "nowhere") is None
    assert checkpoint.steps(tmp_path / "nowhere") == []
    for path in save_steps(tmp_path, 1, 2):
        (path / "state.json").unlink()
    with pytest.raises(CheckpointError, match=r"no checkpoint .* is whole .*state\.json"):
        checkpoint.latest(tmp_path, say=lambda _: None)


def test_leftovers_are_ignored_and_swept_by_the_next_save(tmp_path):
    save_steps(tmp_path, 1)
    left = [tmp_path / name for name in (".tmp-step-00000002", ".old-77-step-00000000")]
    for folder in left:
        shutil.copytree(tmp_path / "step-00000001", folder)
    (tmp_path / "step-old").mkdir()
    assert checkpoint.steps(tmp_path) == [1]
    assert_is_step(checkpoint.latest(tmp_path), 1)
    save_steps(tmp_path, 2)
    assert not any(folder.exists() for folder in left)
    assert checkpoint.steps(tmp_path) == [1, 2]


class Bomb:
    """Unpickled, it makes a file."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return (os.mkdir, (str(self.mark),))


def test_a_planted_pickle_is_refused_and_never_run(tmp_path):
    pickled = __import__("pickle").dumps(Bomb(tmp_path / "ran"))
    (path,) = save_steps(tmp_path / "a", 1)
    plant(path, "model.safetensors", pickled)
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        checkpoint.load(path)
    (path,) = save_steps(tmp_path / "b", 1)
    (path / "optim.pkl").write_bytes(pickled)
    with pytest.raises(CheckpointError, match=r"optim\.pkl, which its manifest does not name"):
        checkpoint.load(path)
    plant(path, "optim.pkl", pickled)
    with pytest.raises(CheckpointError, match=r"names optim\.pkl: not a file of a checkpoint"):
        checkpoint.load(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "name", ["../model.safetensors", "/etc/passwd", "..", ".", "", "a/b", "a\\b", ".hidden", "a\0b"]
)
def test_names_that_are_not_plain_are_refused(tmp_path, name):
    (path,) = save_steps(tmp_path, 1)
    entry = {"size": 1, "sha256": "0" * 64}
    rewrite_manifest(path, lambda content: content["files"].update({name: entry}))
    with pytest.raises(CheckpointError, match=r"manifest\.json names"):
        checkpoint.load(path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m.update(format=2), "format 1"),
        (lambda m: m.update(step=2), "is of step 2"),
        (lambda m: m.update(step="1"), "is of step 1"),
        (lambda m: m.update(files=[]), "size and a SHA-256"),
        (lambda m: m["files"].update({"state.json": 3}), "size and a SHA-256"),
        (lambda m: m["files"]["state.json"].update(size=-1), "state.json is damaged"),
        (lambda m: m["files"]["state.json"].update(size="1"), "size and a SHA-256"),
        (lambda m: m.update(meta=None), "has no meta"),
        (lambda m: m["files"].pop("model.safetensors"), "model.safetensors"),
        (lambda m: m["files"].pop("rng-00000.safetensors"), "rng-0000"),
    ],
)
def test_manifests_that_are_signed_but_wrong_are_refused(tmp_path, change, says):
    (path,) = save_steps(tmp_path, 1)
    rewrite_manifest(path, change)
    with pytest.raises(CheckpointError, match=says):
        checkpoint.load(path)


@pytest.mark.parametrize(
    "text",
    [
        '{"a": NaN}',
        '{"a": Infinity}',
        '{"a": 1e999}',
        '{"a": 1, "a": 2}',
        "[" * 100_000,
        "\xff",
        '{"a": ' + "9" * 5000 + "}",
    ],
)
def test_json_that_is_not_strict_is_refused(tmp_path, text):
    (path,) = save_steps(tmp_path, 1)
    plant(path, "state.json", text.encode("latin-1"))
    with pytest.raises(CheckpointError, match=r"state\.json is not valid JSON"):
        checkpoint.load(path)


def test_a_huge_header_and_a_huge_manifest_are_refused_unread(tmp_path):
    (path,) = save_steps(tmp_path, 1)
    plant(path, "model.safetensors", (2**40).to_bytes(8, "little") + b"{}")
    with pytest.raises(CheckpointError, match=r"model\.safetensors has a header of more than"):
        checkpoint.load(path)
    with (path / "manifest.json").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(CheckpointError, match=r"manifest\.json"):
        checkpoint.load(path)


def test_a_pipe_in_place_of_a_file_does_not_hang(tmp_path):
    (path,) = save_steps(tmp_path, 1)
    (path / "state.json").unlink()
    os.mkfifo(path / "state.json")
    with pytest.raises(CheckpointError, match=r"state\.json is missing"):
        checkpoint.load(path)


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"best": float("inf")}, "state.best is inf"),
        ({"a": [1.0, float("nan")]}, r"state.a\[1\] is nan"),
        ({"ranks": {0: 1}}, "state.ranks has the key 0"),
        ({"loss": torch.tensor(1.0)}, "state.loss is a Tensor"),
    ],
)
def test_state_that_would_not_come_back_is_refused_before_anything_is_published(
    tmp_path, state, says
):
    with pytest.raises(CheckpointError, match=says):
        checkpoint.save(tmp_path, 1, **(contents_of(1) | {"state": state}))
    assert list(tmp_path.iterdir()) == []


def test_every_rank_must_have_its_random_state(tmp_path):
    rng = {0: torch.zeros(1), 2: torch.zeros(1)}
    with pytest.raises(CheckpointError, match=r"ranks \[0, 2\]"):
        checkpoint.save(tmp_path, 1, **(contents_of(1) | {"rng": rng}))


def test_match_lists_every_difference():
    expected = {"a": torch.zeros(2, 3), "b": torch.zeros(4), "c": torch.zeros(1)}
    checkpoint.match(expected, {k: v + 1 for k, v in expected.items()}, "x")
    got = {"a": torch.zeros(3, 2), "b": torch.zeros(4).double(), "d": torch.zeros(1)}
    with pytest.raises(CheckpointError) as caught:
        checkpoint.match(expected, got, "model.safetensors")
    assert str(caught.value) == (
        "model.safetensors does not fit the model: it lacks c; it has the unexpected d; it has "
        "a: (3, 2) float32 where (2, 3) float32 is expected, "
        "b: (4,) float64 where (4,) float32 is expected"
    )


@pytest.mark.parametrize("failing", range(7))
def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch, failing):
    save_steps(tmp_path, 1)
    calls, real = iter(range(100)), files.os.fsync

    def full(descriptor):
        if next(calls) == failing:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full)
        with pytest.raises(CheckpointError, match=r"no space left on device.*intact; free some"):
            save_steps(tmp_path, 2)
    assert [entry.name for entry in tmp_path.iterdir()] == ["step-00000001"]
    assert_is_step(checkpoint.latest(tmp_path), 1)
    save_steps(tmp_path, 2)
    assert_is_step(checkpoint.latest(tmp_path), 2)


def run_python(code: str, *words: str, **options) -> subprocess.CompletedProcess:
    """Run code that imports this very package, as `python -c`."""
    code = f"import sys; sys.path[:0] = {sys.path!r}\n" + code
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )


SAVE_TOO_MUCH = """
import torch
from pathlib import Path
from pellucid import checkpoint
from pellucid.errors import CheckpointError
parts = dict(optimizer={}, rng={}, state={}, meta={})
folder = Path(sys.argv[1])
checkpoint.save(folder, 1, model={"w": torch.ones(1000)}, **parts)
exec(sys.argv[2])
try:
    checkpoint.save(folder, 2, model={"w": torch.ones(2_000_000)}, **parts)
except CheckpointError as problem:
    print(problem)
assert [entry.name for entry in folder.iterdir()] == ["step-00000001"], list(folder.iterdir())
assert checkpoint.load(checkpoint.latest(folder)).model["w"].sum() == 1000
"""


def test_a_limit_on_file_sizes_leaves_the_checkpoint_before(tmp_path):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    done = run_python(SAVE_TOO_MUCH, str(tmp_path / "checkpoints"), limit)
    assert done.returncode == 0, done.stderr
    assert "file too large" in done.stdout
    assert "checkpoints before it are intact" in done.stdout


def test_a_disk_that_is_really_full_leaves_the_checkpoint_before(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.geteuid() or not shutil.which("mount"):
        pytest.skip("only root can mount a small disk")
    if subprocess.run(words, check=False, capture_output=True).returncode:
        pytest.skip("this machine does not let root mount a small disk")
    try:
        done = run_python(SAVE_TOO_MUCH, str(disk / "checkpoints"), "")
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert done.returncode == 0, done.stderr
    assert "no space left on device" in done.stdout


AS_NOBODY = "import os; os.geteuid() or os.setuid(65534)"


def test_no_permission_is_a_sentence_and_changes_nothing(tmp_path):
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and "pytest" in str(folder):
            folder.chmod(0o755)
    closed = "folder.chmod(0o555); " + AS_NOBODY
    done = run_python(SAVE_TOO_MUCH, str(tmp_path / "checkpoints"), closed)
    (tmp_path / "checkpoints").chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert "permission denied" in done.stdout
    assert "give a path that this user may use" in done.stdout


SAVE_FOREVER = """
import torch
from pathlib import Path
from pellucid import checkpoint
torch.set_num_threads(1)
folder = Path(sys.argv[1])
step = max(checkpoint.steps(folder), default=0)
begun = step
while True:
    step += 1
    model = {f"w{i}": torch.full((3000,), float(step + i)) for i in range(8)}
    checkpoint.save(folder, step, model=model, optimizer={}, rng={}, state={"step": step}, meta={})
    if step == begun + 1:
        print("saving", flush=True)
"""


def kill_while_saving(folder: Path, kills: int, seed: int) -> int:
    """Kill a process that saves at random moments; every published folder must be whole."""
    random_moment, newest = random.Random(seed), 0
    code = f"import sys; sys.path[:0] = {sys.path!r}\n" + SAVE_FOREVER
    for _ in range(kills):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "saving\n"
        time.sleep(random_moment.uniform(0.0, 0.2))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        published = checkpoint.steps(folder)
        for step in published:
            loaded = checkpoint.load(checkpoint.folder(folder, step))
            assert loaded.state == {"step": step}
            assert all((loaded.model[f"w{i}"] == step + i).all() for i in range(8))
        assert len(published) >= min(2, newest)
        assert max(published, default=0) >= newest
        newest = max(published, default=0)
    return newest


def test_no_kill_leaves_a_published_checkpoint_that_is_not_whole(tmp_path):
    assert kill_while_saving(tmp_path, 5, seed=0) >= 5


@pytest.mark.slow
def test_fifty_kills_leave_every_published_checkpoint_whole(tmp_path):
    assert kill_while_saving(tmp_path, 50, seed=1) >= 50


def test_nothing_in_the_package_reads_pickles():
    banned = re.compile(
        r"(?<!safetensors\.)torch\.(load|save)\b|from torch import .*\b(load|save)\b"
        r"|allow_pickle\s*=\s*True"
        r"|^\s*(import|from)\s+(pickle|cloudpickle|dill|joblib|shelve|marshal)\b",
        re.MULTILINE,
    )
    assert banned.search("    import pickle")
    assert banned.search("x = torch.load(path)")
    sources = [*PACKAGE.glob("*.py")]
    for part in PACKAGE.iterdir():
        if (part / "__init__.py").exists():
            sources += part.rglob("*.py")
    assert len(sources) > 10
    for source in sources:
        found = banned.search(source.read_text(encoding="utf-8"))
        assert not found, f"{source.name}: {found.group()}"


def test_manifest_says_what_the_trainer_told_it(tmp_path):
    (path,) = save_steps(tmp_path, 1)
    raw = json.loads((path / "manifest.json").read_text())
    assert raw["meta"] == META
    assert raw["format"] == 1
    for name, entry in raw["files"].items():
        assert entry["sha256"] == hashlib.sha256((path / name).read_bytes()).hexdigest()
        assert entry["size"] == (path / name).stat().st_size
