"""The corpus of wheels: pinned to the byte, split by package, the same wherever it is built."""

import re
import subprocess
import zipfile
from pathlib import Path

import pytest

from pellucid.data import DataConfig, prepare, wheels
from pellucid.data.pypi import LIST, PyPI, in_wheel
from pellucid.data.splits import SPLITS
from pellucid.data.wheels import fetch, present, read_list
from pellucid.errors import DataError
from pellucid.experiments import pypi_list

METADATA = "Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{license}\n\nText\n"
MIT = "License-Expression: MIT"
CODE = "def {name}_{n}(value):\n    return [{body}]\n"


def code(name: str, n: int) -> str:
    return CODE.format(name=name, n=n, body=", ".join(f"value + {name}_{n}_{i}" for i in range(30)))


def write_wheel(folder: Path, name: str, files: dict[str, str | bytes], terms: str = MIT) -> Path:
    """A wheel of these files, whose bytes are the same every time."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    about = {f"{name}-1.0.dist-info/METADATA": METADATA.format(name=name, license=terms)}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in {**files, **about}.items():
            archive.writestr(zipfile.ZipInfo(member, (1980, 1, 1, 0, 0, 0)), content)
    return path


@pytest.fixture
def shelf(tmp_path) -> Path:
    """Six small wheels; the last holds a near copy of a file of the first."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    for number, name in enumerate("alpha beta gamma delta epsilon zeta".split()):
        files = {f"{name}/{part}.py": code(name, part) for part in range(3 + number)}
        files |= {f"{name}/tests/test_it.py": "def test(): pass\n", f"{name}/data.json": "{}"}
        files |= {f"{name}-1.0.data/scripts/run.py": "print(1)\n", f"{name}/latin.py": b"# caf\xe9"}
        if name == "zeta":
            files["zeta/_vendor/alpha.py"] = code("alpha", 0).replace("return", "return  ")
        write_wheel(folder, name, files)
    return folder


@pytest.fixture
def pinned(shelf, tmp_path) -> Path:
    path = tmp_path / "list.txt"
    path.write_text("\n".join(pypi_list.lines(shelf)) + "\n")
    return path


def corpus(pinned: Path, shelf: Path | None = None) -> PyPI.Config:
    return PyPI.Config(wheels=str(pinned), path=str(shelf) if shelf else "")


def test_the_corpus_is_the_source_of_the_wheels(shelf, pinned):
    built = corpus(pinned, shelf).build()
    documents = list(built.documents())
    assert [d.group for d in documents] == sorted(d.group for d in documents)
    by_name = {d.name: d.text for d in documents}
    assert by_name["beta/beta/3.py"] == code("beta", 3)
    assert len(by_name) == sum(3 + n for n in range(6)) + 1
    assert built.left_out.reasons["not UTF-8"]["count"] == 6
    assert not any(re.search(r"test|json|scripts|dist-info", name) for name in by_name)


def test_a_package_is_never_cut_and_near_copies_go(shelf, pinned):
    data = prepare(DataConfig(corpus=corpus(pinned, shelf), vocab_size=300), progress=False)
    groups = [set(data.split(split).groups) for split in SPLITS]
    assert set.union(*groups) == set("alpha beta gamma delta epsilon zeta".split())
    assert sum(map(len, groups)) == 6 and all(groups)
    assert data.manifest["copies"]["near"]["examples"] == [
        "zeta/zeta/_vendor/alpha.py ~ alpha/alpha/0.py"
    ]


def test_the_fingerprint_is_the_same_wherever_the_wheels_lie(shelf, pinned, tmp_path, monkeypatch):
    first = prepare(DataConfig(corpus=corpus(pinned, shelf), vocab_size=300), progress=False)
    moved = shelf.rename(tmp_path / "moved")
    monkeypatch.setenv("PELLUCID_CACHE", str(tmp_path / "another cache"))
    again = prepare(DataConfig(corpus=corpus(pinned, moved), vocab_size=300), progress=False)
    assert again.fingerprint == first.fingerprint and again.folder != first.folder


def pip_from(shelf: Path, calls: list[list[str]]):
    """What pip would do, from a folder: no test fetches anything."""

    def run(words, **_):
        calls.append(words)
        half = Path(words[words.index("--dest") + 1])
        for line in Path(words[words.index("--requirement") + 1]).read_text().splitlines():
            name = f"{line.partition('==')[0]}-1.0-py3-none-any.whl"
            if not (shelf / name).exists():
                said = f"WARNING: x\nERROR: No matching distribution found for {line[:9]}\n"
                return subprocess.CompletedProcess(words, 1, "", said)
            (half / name).write_bytes((shelf / name).read_bytes())
        return subprocess.CompletedProcess(words, 0, "", "")

    return run


def test_what_is_missing_is_fetched_once_by_its_hash(shelf, pinned, tmp_path, monkeypatch):
    calls: list[list[str]] = []
    monkeypatch.setenv("PELLUCID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(wheels.subprocess, "run", pip_from(shelf, calls))
    monkeypatch.setattr(wheels, "AT_ONCE", 4)
    (tmp_path / "cache" / "wheels").mkdir(parents=True)
    beta = "beta-1.0-py3-none-any.whl"
    (tmp_path / "cache" / "wheels" / beta).write_bytes((shelf / beta).read_bytes())
    documents = list(corpus(pinned).build().documents())
    assert len(calls) == 2 and documents == list(corpus(pinned, shelf).build().documents())
    assert {"--require-hashes", "--no-deps", "--only-binary"} <= set(calls[0])
    assert len(list((tmp_path / "cache" / "wheels").iterdir())) == 6
    assert list(corpus(pinned).build().documents()) == documents and len(calls) == 2


def test_what_pip_cannot_fetch_is_one_sentence(shelf, pinned, tmp_path, monkeypatch):
    monkeypatch.setattr(wheels.subprocess, "run", pip_from(tmp_path, []))
    with pytest.raises(DataError, match=r"pip could not fetch .*: ERROR: No matching .* alpha==1"):
        fetch(read_list(pinned), tmp_path / "half")
    assert list((tmp_path / "half").iterdir()) == []


def test_a_wheel_that_was_changed_is_refused(shelf, pinned):
    write_wheel(shelf, "beta", {"beta/0.py": "import os\n"})
    with pytest.raises(DataError, match=r"beta-1.0-.* is not the wheel that was pinned"):
        list(corpus(pinned, shelf).build().documents())
    (shelf / "beta-1.0-py3-none-any.whl").unlink()
    with pytest.raises(DataError, match=r"lacks 1 of 6 wheels, such as beta-1.0"):
        list(corpus(pinned, shelf).build().documents())
    assert len(present(read_list(pinned), shelf)) == 5


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("flask==1.0", "line 3, is not `name==version"),
        ("{first}", "line 3, names a project again"),
    ],
)
def test_a_list_that_is_none_is_refused(pinned, line, said):
    head, first, *_ = pinned.read_text().splitlines()
    pinned.write_text("\n".join([head, first, line.format(first=first)]))
    with pytest.raises(DataError, match=said):
        read_list(pinned)


@pytest.mark.parametrize(
    ("terms", "found"),
    [
        (MIT, "MIT"),
        ("License: Apache License, Version 2.0", "Apache-2.0"),
        ("Classifier: License :: OSI Approved :: BSD License\nLicense: see LICENSE", "BSD"),
        ("License-Expression: MIT AND GPL-3.0-only", None),
        ("Classifier: License :: OSI Approved :: MIT License\nClassifier: License :: Other", None),
        ("License: Mostly MIT, some GPL", None),
        ("Summary: none", None),
    ],
)
def test_only_permissive_licenses_are_listed(tmp_path, terms, found):
    wheel = write_wheel(tmp_path, "alpha", {"alpha.py": "x = 1\n"}, terms)
    if found:
        assert pypi_list.wheel_at(wheel).license == found
    else:
        with pytest.raises(DataError, match="names no license that is known to be permissive"):
            pypi_list.wheel_at(wheel)


def test_compiled_wheels_are_not_listed(tmp_path):
    with pytest.raises(DataError, match="is not for any machine"):
        pypi_list.wheel_at(tmp_path / "x-1-cp311-cp311-manylinux_x86_64.whl")


def test_the_list_that_ships():
    shipped = read_list(LIST)
    assert len(shipped) >= 80 and all(wheel.license in pypi_list.PERMISSIVE for wheel in shipped)
    assert all(wheel.file.endswith(pypi_list.ANY_MACHINE) for wheel in shipped)
    assert 240e6 < sum(wheel.source for wheel in shipped) < 270e6
    assert max(wheel.source for wheel in shipped) < 20e6  # none is more than a twelfth of it
    assert [wheel.project for wheel in shipped] == sorted(wheel.project for wheel in shipped)
    assert "//" not in LIST.read_text()
    assert "\n".join(wheel.line for wheel in shipped) == LIST.read_text().partition("\n")[2].strip()


@pytest.mark.parametrize("name", ["a/b.py", "a.py", "a/_vendor/c.py"])
def test_source_is_read(name):
    assert in_wheel(name)


@pytest.mark.parametrize(
    "name", ["a/tests/b.py", "test_a.py", "a-1.dist-info/x.py", "a-1.data/s.py", "a/b.pyi", "a/b"]
)
def test_tests_and_scripts_are_not_read(name):
    assert not in_wheel(name)
