"""The house style, counted: CONTRIBUTING.md says why."""

import ast
import re
import statistics
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.tree import ROOT, shipped_modules

MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 50  # forty is the aim; the share above it is held small, below
AIM_FUNCTION_LINES = 40
MAX_SHARE_ABOVE_AIM = 0.02
MAX_FORWARD_LINES = 25
MAX_MEDIAN_FUNCTION_LINES = 12
DOCUMENTED = ("data", "eval", "kernels", "models")
# Words that belong to the place where a line was written, not to the project.
PRIVATE = re.compile(r"(?<![\w.])/(?:home|Users|root|work|tmp)/\w|\b(?:TODO|FIXME|XXX)\b")

Function = ast.FunctionDef | ast.AsyncFunctionDef

MODULES = {path.relative_to(ROOT).as_posix(): path for path in shipped_modules()}
TREES = {name: ast.parse(path.read_text(), name) for name, path in MODULES.items()}


def walk(*kinds: type) -> Iterator[tuple[str, ast.AST]]:
    """Every node of these kinds, with the place where it stands."""
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, kinds):
                yield f"{name}:{getattr(node, 'lineno', 1)}", node


def code_lines(function: Function) -> int:
    """Lines from `def` to the end, decorators and docstring aside."""
    first = function.body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    doc = first.end_lineno - first.lineno + 1 if documented and ast.get_docstring(function) else 0
    return function.end_lineno - function.lineno + 1 - doc


def functions() -> list[tuple[str, Function, int]]:
    found = walk(ast.FunctionDef, ast.AsyncFunctionDef)
    return [(f"{place} {node.name}", node, code_lines(node)) for place, node in found]


def test_the_counting_counts():
    source = 'def f(x):\n    """Doc,\n    two lines."""\n    return x\n\n\ndef g(): return 1\n'
    assert [code_lines(node) for node in ast.parse(source).body] == [2, 1]
    assert len(MODULES) > 10, "the modules of the package were not found"


def test_files_are_short():
    lengths = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    assert {n: length for n, length in lengths.items() if length > MAX_FILE_LINES} == {}


def test_functions_are_short():
    lines = {place: count for place, _, count in functions()}
    assert {place: n for place, n in lines.items() if n > MAX_FUNCTION_LINES} == {}
    long = {place: n for place, n in lines.items() if n > AIM_FUNCTION_LINES}
    assert len(long) <= MAX_SHARE_ABOVE_AIM * len(lines), long


def test_the_median_function_is_small():
    assert statistics.median(count for *_, count in functions()) < MAX_MEDIAN_FUNCTION_LINES


def test_forward_fits_one_glance():
    counts = {place: count for place, node, count in functions() if node.name == "forward"}
    assert {place: n for place, n in counts.items() if n > MAX_FORWARD_LINES} == {}


def test_public_parts_have_docstrings():
    missing = [
        f"{name}:{node.lineno} {node.name}"
        for name, tree in TREES.items()
        if name.split("/")[0] in DOCUMENTED
        for node in tree.body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
        if not ast.get_docstring(node)
    ]
    assert missing == []


def test_every_module_says_what_it_is():
    assert [name for name, tree in TREES.items() if not ast.get_docstring(tree)] == []


def test_nothing_is_caught_blindly():
    bare = [place for place, node in walk(ast.ExceptHandler) if node.type is None]
    assert bare == []


def test_annotations_are_evaluated():
    """With `from __future__ import annotations` the shapes in signatures could not be checked."""
    lazy = [place for place, node in walk(ast.ImportFrom) if node.module == "__future__"]
    assert lazy == []


def test_configs_are_read_by_field():
    """`getattr(config, "norm_eps", 1e-5)` hides a misspelt field for ever."""
    soft = [
        place
        for place, node in walk(ast.Call)
        if isinstance(node.func, ast.Name) and node.func.id == "getattr" and len(node.args) == 3
        if re.search(r"\bconfig\b|\bcfg\b", ast.unparse(node.args[0]))
    ]
    assert soft == []


def test_imports_are_absolute():
    relative = [place for place, node in walk(ast.ImportFrom) if node.level]
    assert relative == []


def listed_files() -> list[Path]:
    """The files git tracks, or would; without git (an unpacked archive) the package alone."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    names = [name for name in listed.stdout.split("\0") if name]
    files = [ROOT / name for name in names] if listed.returncode == 0 else list(MODULES.values())
    return [path for path in files if path.is_file() and "vendor" not in path.parts]


def test_nothing_private_is_committed():
    """No path of somebody's machine, no work left for later."""
    texts = {".py", ".md", ".toml", ".txt", ".html", ".js", ".css", ".json", ""}
    found = [
        f"{path.relative_to(ROOT)}:{number} {line.strip()[:80]}"
        for path in listed_files()
        if path.suffix in texts and path != Path(__file__)
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if PRIVATE.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("line", ["cd /home/ann/x", "see /tmp/plan", "# TODO later"])
def test_the_private_words_are_found(line):
    assert PRIVATE.search(line)


@pytest.mark.parametrize("line", ["https://example.org/home/x", "runs/tmp/x", "a / b"])
def test_other_words_are_not_private(line):
    assert not PRIVATE.search(line)
