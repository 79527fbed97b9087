import ast
import hashlib
from pathlib import Path

import pytest

from pellucid.data.documents import LeftOut
from pellucid.data.python_source import (
    PythonCore,
    PythonInstalled,
    in_core,
    python_files,
    read_folder,
    standard_library,
)
from pellucid.errors import DataError


@pytest.fixture(scope="module")
def core_documents():
    return list(PythonCore.Config().build().documents())


def test_the_core_is_the_library_without_tests_tables_and_demonstrations(core_documents):
    names = [document.name for document in core_documents]
    assert names == sorted(names) and len(set(names)) == len(names)
    assert {"argparse.py", "json/decoder.py", "asyncio/tasks.py", "ast.py"} <= set(names)
    tops = {document.group for document in core_documents}
    assert not tops & {"idlelib", "lib2to3", "encodings", "turtledemo", "pydoc_data"}
    assert not any(part.startswith("test") for name in names for part in name.split("/"))
    assert not any("site-packages" in name or "_sysconfigdata" in name for name in names)


def test_documents_are_the_files_byte_for_byte_and_real_python(core_documents):
    by_name = {document.name: document for document in core_documents}
    for name in ("argparse.py", "json/decoder.py"):
        raw = (standard_library() / name).read_bytes()
        assert hashlib.sha256(by_name[name].text.encode()).digest() == hashlib.sha256(raw).digest()
        ast.parse(by_name[name].text)


def test_a_package_is_one_group(core_documents):
    groups = {document.name: document.group for document in core_documents}
    assert groups["json/decoder.py"] == groups["json/encoder.py"] == "json"
    assert groups["argparse.py"] == "argparse"


def test_the_listing_is_the_same_twice():
    listing = PythonCore.Config().build().listing()
    assert listing == PythonCore.Config().build().listing()
    assert any(line.startswith("argparse.py ") for line in listing)


@pytest.fixture
def library(tmp_path):
    for name in ("pkg/b.py", "pkg/a.py", "pkg/tests/t.py", "test_x.py", "z.py", "idlelib/i.py"):
        path = tmp_path / "lib" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {name}\n")
    (tmp_path / "lib" / "notes.txt").write_text("not Python")
    return tmp_path / "lib"


def test_files_are_sorted_by_name_and_filtered(library):
    found = [str(path.relative_to(library)) for path in python_files(library, in_core)]
    assert found == ["pkg/a.py", "pkg/b.py", "z.py"]


def test_binary_and_foreign_encodings_are_counted(library):
    (library / "latin.py").write_bytes(b"# caf\xe9\n")
    (library / "binary.py").write_bytes(b"x = 1\0\n")
    (library / "gone.py").symlink_to(library / "nowhere.py")
    left_out = LeftOut()
    files = python_files(library, in_core)
    names = [document.name for document in read_folder(library, files, "", left_out)]
    assert names == ["pkg/a.py", "pkg/b.py", "z.py"]
    assert left_out.reasons == {
        "binary": {"count": 1, "examples": ["binary.py"]},
        "broken links": {"count": 1, "examples": ["gone.py"]},
        "not UTF-8": {"count": 1, "examples": ["latin.py"]},
    }


def test_installed_packages_come_after_the_core(library):
    corpus = PythonInstalled.Config(path=str(library)).build()
    documents = list(corpus.documents())
    core = len(list(PythonCore.Config().build().documents()))
    assert [document.name for document in documents[core:]] == [
        "site-packages/idlelib/i.py",
        "site-packages/pkg/a.py",
        "site-packages/pkg/b.py",
        "site-packages/z.py",
    ]
    assert documents[core + 1].group == "pkg"
    assert str(library.resolve()) in corpus.listing()


def test_installed_packages_are_those_of_this_interpreter():
    folders = PythonInstalled.Config().build().folders
    assert Path(pytest.__file__).resolve().parent.parent in folders


def test_a_missing_path_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"data.path='.*nowhere' does not exist: give the path"):
        PythonInstalled.Config(path=str(tmp_path / "nowhere")).build()
