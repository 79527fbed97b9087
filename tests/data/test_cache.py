import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pellucid.data import cache as cache_module
from pellucid.data import open_prepared, prepare
from pellucid.data.build import Build
from pellucid.errors import DataError

PREPARE = """
import sys, resource
from pellucid.data import DataConfig, prepare
from pellucid.data.generated import Generated
from pellucid.errors import DataError
if len(sys.argv) > 2:
    limit = int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
corpus = Generated.Config(n_documents=int(sys.argv[1]))
try:
    print(prepare(DataConfig(corpus=corpus, vocab_size=320)).fingerprint)
except DataError as error:
    sys.exit(f"DataError: {error}")
"""


def started(*arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", PREPARE, *map(str, arguments)],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def leftovers(cache: Path) -> list[str]:
    return sorted(p.name for p in (cache / "tokens").iterdir() if p.name not in ("by-key", "locks"))


def never_build(*_):
    raise AssertionError("the corpus was built again")


def test_a_second_call_opens_what_is_there(generated_data, monkeypatch, generated_config):
    monkeypatch.setattr(Build, "run", never_build)
    begun = time.perf_counter()
    again = prepare(generated_config(), progress=False)
    assert time.perf_counter() - begun < 1
    assert again.fingerprint == generated_data.fingerprint
    assert open_prepared(again.fingerprint).folder == again.folder


def test_the_fingerprint_is_of_the_content(
    own_cache, generated_data, text_folder, generated_config
):
    rebuilt = prepare(generated_config(), progress=False)
    assert rebuilt.folder != generated_data.folder
    assert rebuilt.fingerprint == generated_data.fingerprint
    others = [generated_config(seed=1), generated_config(vocab_size=310), generated_config(95)]
    found = {prepare(config, progress=False).fingerprint for config in others}
    assert len(found | {rebuilt.fingerprint}) == 4


def files_config(folder):
    from pellucid.data import DataConfig
    from pellucid.data.text_files import TextFiles

    return DataConfig(corpus=TextFiles.Config(path=str(folder)), vocab_size=300)


def test_a_touched_source_is_read_again_and_leads_to_the_same_data(text_folder):
    first = prepare(files_config(text_folder), progress=False)
    os.utime(text_folder / "file00.txt", ns=(1, 1))
    again = prepare(files_config(text_folder), progress=False)
    assert (again.fingerprint, again.folder) == (first.fingerprint, first.folder)
    (text_folder / "file00.txt").write_text("something else entirely")
    assert prepare(files_config(text_folder), progress=False).fingerprint != first.fingerprint


def test_two_processes_at_once_build_once(own_cache):
    processes = [started(400) for _ in range(2)]
    outputs = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0]
    messages = [err for _, err in outputs]
    assert sum("generated: 400 documents" in err for err in messages) == 1
    assert leftovers(own_cache) == [outputs[0][0].strip()]


def test_the_second_process_says_that_it_waits_and_reuses(own_cache, capsys, generated_config):
    config = generated_config(30)
    cache = cache_module.Cache(
        cache_module.cache_folder(),
        cache_module.cache_key(config, config.corpus.build(), None),
    )
    with cache.writable(), cache.lock(cache.key, print):
        waiting = started(30)
        line = waiting.stderr.readline()
        assert "another process is preparing the same corpus; waiting" in line
        assert waiting.poll() is None
    out, err = waiting.communicate(timeout=60)
    assert waiting.returncode == 0, err
    assert leftovers(own_cache) == [out.strip()]


def test_a_killed_preparation_leaves_nothing_in_the_way(own_cache):
    process = started(800)
    while process.poll() is None and not list(own_cache.glob("tokens/building-*")):
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()
    time.sleep(0.1)
    process.kill()
    process.communicate()
    assert leftovers(own_cache)[0].startswith("building-")
    again = started(800)
    out, err = again.communicate(timeout=60)
    assert again.returncode == 0, err
    assert leftovers(own_cache) == [out.strip()]


@pytest.mark.parametrize("name", ["tokens-train.bin", "manifest.json", "tokenizer.json"])
def test_damage_is_found_said_and_repaired(own_cache, capsys, name, generated_config):
    config = generated_config(40)
    data = prepare(config, progress=False)
    path = data.folder / name
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(DataError, match=rf"{name} is damaged"):
        open_prepared(data.fingerprint)
    repaired = prepare(config, progress=True)
    assert f"{name} is damaged" in capsys.readouterr().err
    assert repaired.fingerprint == data.fingerprint
    repaired.verify()
    assert leftovers(own_cache) == [data.fingerprint]


def test_an_unknown_fingerprint_is_refused(own_cache):
    for fingerprint in ("f" * 32, "../../etc", ""):
        with pytest.raises(DataError, match="holds no data with fingerprint"):
            open_prepared(fingerprint)


@pytest.mark.parametrize("limit", [2_000, 200_000])
def test_a_write_that_does_not_fit_is_one_sentence_and_leaves_nothing(own_cache, limit):
    process = started(400, limit)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "DataError: the disk of the token cache" in err and "nothing was kept" in err
    assert "Traceback" not in err
    assert leftovers(own_cache) == []


def test_a_full_disk_in_a_library_is_recognized(own_cache, monkeypatch, generated_config):
    def full(*_):
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise RuntimeError("An error occurred while generating the dataset") from error

    monkeypatch.setattr(Build, "_encode", full)
    with pytest.raises(DataError, match=r"is full \(No space left on device\): free some space"):
        prepare(generated_config(30), progress=False)
    assert leftovers(own_cache) == []


def test_our_own_mistakes_keep_their_traceback(own_cache, monkeypatch, generated_config):
    monkeypatch.setattr(Build, "_split", never_build)
    with pytest.raises(AssertionError, match="built again"):
        prepare(generated_config(30), progress=False)
    assert leftovers(own_cache) == []


AS_NOBODY = """
import os, sys
from pellucid.data import DataConfig, prepare
from pellucid.data.generated import Generated
from pellucid.data.text_files import TextFiles
from pellucid.errors import DataError
# Imports everything first: the interpreter's own files may be hidden from other users.
os.environ["PELLUCID_CACHE"] = sys.argv[1] + ".warm"
warm = DataConfig(corpus=Generated.Config(n_documents=12), vocab_size=270)
prepare(warm, progress=False)
os.environ["PELLUCID_CACHE"] = sys.argv[1]
os.setgroups([]); os.setgid(65534); os.setuid(65534)
config = DataConfig(corpus=TextFiles.Config(path=sys.argv[2]), vocab_size=300)
try:
    print(prepare(config, progress=False).manifest["left_out"])
except DataError as error:
    sys.exit(f"DataError: {error}")
"""


def run_as_nobody(cache, texts):
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    command = [sys.executable, "-c", AS_NOBODY, str(cache), str(texts)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def open_tmp(tmp_path):
    """`tmp_path`, which everybody may enter."""
    changed = []
    for folder in (tmp_path, *tmp_path.parents):
        mode = folder.stat().st_mode
        if not mode & 0o001:
            folder.chmod(mode | 0o011)
            changed.append((folder, mode))
    yield tmp_path
    for folder, mode in changed:
        folder.chmod(mode)


def test_a_cache_that_may_not_be_written_is_one_sentence(open_tmp, text_folder):
    cache = open_tmp / "locked"
    cache.mkdir(mode=0o755)
    done = run_as_nobody(cache, text_folder)
    assert done.returncode == 1, done
    assert "cannot be written (Permission denied" in done.stderr
    assert "set PELLUCID_CACHE to a folder that you may write to" in done.stderr
    assert "Traceback" not in done.stderr and list(cache.iterdir()) == []


def test_files_that_may_not_be_read_are_counted(open_tmp, text_folder):
    cache = open_tmp / "cache"
    cache.mkdir()
    cache.chmod(0o777)
    text_folder.chmod(0o755)
    (text_folder / "file03.txt").chmod(0)
    done = run_as_nobody(cache, text_folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "{'without permission': {'count': 1, 'examples': ['file03.txt']}}\n"


def test_a_corpus_that_may_not_be_read_is_one_sentence(open_tmp, text_folder):
    text_folder.chmod(0o755)
    (text_folder / "sub").mkdir(mode=0o700)
    done = run_as_nobody(open_tmp / "cache", text_folder / "sub")
    assert done.returncode == 1
    assert "sub' cannot be read: Permission denied" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("PELLUCID_CACHE", str(tmp_path / "own"))
    assert cache_module.cache_folder() == tmp_path / "own" / "tokens"
    monkeypatch.delenv("PELLUCID_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_module.cache_folder() == tmp_path / "xdg" / "pellucid" / "tokens"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_module.cache_folder() == tmp_path / ".cache" / "pellucid" / "tokens"
