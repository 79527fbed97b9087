"""What is installed is `pellucid` and nothing else, and it runs from anywhere."""

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support.tree import NOT_SHIPPED, ROOT, settings, shipped_folders, shipped_modules

import pellucid


def run(*words: str | Path, folder: Path) -> subprocess.CompletedProcess:
    """A command's output, from a folder that holds nothing of ours unless it is the root."""
    return subprocess.run(
        words, cwd=folder, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL
    )


def dotted(folder: Path) -> str:
    return ".".join(["pellucid", *folder.relative_to(ROOT).parts])


def test_the_packages_are_the_folders():
    listed = settings()["tool"]["setuptools"]["packages"]
    assert listed == sorted(listed)
    assert listed == sorted(dotted(folder) for folder in shipped_folders())


def test_every_folder_of_python_is_a_package():
    """A folder without `__init__.py` would be missing from the wheel without a word."""
    holders = {
        path.parent
        for path in ROOT.rglob("*.py")
        if not any(p.startswith(".") or p in NOT_SHIPPED for p in path.relative_to(ROOT).parts)
    }
    assert holders == set(shipped_folders())


def test_bare_names_are_banned():
    """`from models import …` would work from the root, and make a second copy of every class."""
    banned = settings()["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"]
    ours = {path.stem for path in ROOT.glob("*.py")} - {"__init__"}
    ours |= {folder.name for folder in shipped_folders() if folder.parent == ROOT}
    wanted = {name: {"msg": f"import pellucid.{name}"} for name in ours}
    assert {name: banned.get(name) for name in ours} == wanted


def test_the_versions_agree():
    project = settings()["project"]
    assert pellucid.__version__ == project["version"]


def test_constraints_pin_every_dependency():
    """Also the tools of the tests; and a pin is a pin."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    pinned = {name.lower().replace("_", "-") for name in pins}
    project = settings()["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    names = {line.split(">=")[0].split("[")[0].strip() for line in wanted} - {"pellucid"}
    assert names <= pinned
    assert all(version and version[0].isdigit() and "+" not in version for version in pins.values())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> list[str]:
    """The names in a wheel built from a copy (building leaves files behind)."""
    pytest.importorskip("setuptools", "77")
    copy = tmp_path_factory.mktemp("source")
    skip = shutil.ignore_patterns(
        "__pycache__", "*.egg-info", "build", "dist", "runs", ".*", "docs", "node_modules"
    )
    shutil.copytree(ROOT, copy / "pellucid-source", ignore=skip)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    built = run(*command, "--wheel-dir", copy, copy / "pellucid-source", folder=copy)
    assert built.returncode == 0, built.stderr
    with zipfile.ZipFile(next(copy.glob("*.whl"))) as archive:
        return archive.namelist()


def test_the_wheel_holds_pellucid_only(wheel):
    tops = {name.split("/")[0] for name in wheel}
    assert tops == {"pellucid", f"pellucid-{pellucid.__version__}.dist-info"}
    inside = {name for name in wheel if name.startswith("pellucid/")}
    code = {f"pellucid/{path.relative_to(ROOT).as_posix()}" for path in shipped_modules()}
    assert {name for name in inside if name.endswith(".py")} == code
    data = inside - code
    alone = {"pellucid/py.typed", "pellucid/data/pypi.txt"}
    assert alone <= data and all(n in alone or n.startswith("pellucid/report/") for n in data)
    assert "pellucid/py.typed" in data


def test_the_wheel_holds_what_the_pages_need(wheel):
    """Every file beside the report's code, licences too."""
    files = {
        path
        for path in (ROOT / "report").rglob("*")
        if path.is_file() and path.suffix != ".pyc" and "__pycache__" not in path.parts
    }
    wanted = {f"pellucid/{path.relative_to(ROOT).as_posix()}" for path in files}
    assert wanted <= set(wheel)


def test_the_licence_is_in_the_wheel(wheel):
    assert any(name.endswith("dist-info/licenses/LICENSE") for name in wheel)


def installed_script() -> str | None:
    """The console script of the environment the tests run in, wherever its bin folder is."""
    beside = Path(sys.executable).parent / "pellucid"
    return str(beside) if beside.exists() else None


@pytest.mark.parametrize("way", ["file", "module", "script"])
def test_help_from_anywhere(way, tmp_path):
    """`python train.py` in the root; `-m pellucid.train` and `pellucid` in any other folder."""
    script = installed_script()
    if way == "script" and script is None:
        pytest.skip("pellucid is on the path but not installed here: `make test` installs it")
    words, folder = {
        "file": ([sys.executable, "train.py", "--help"], ROOT),
        "module": ([sys.executable, "-m", "pellucid.train", "--help"], tmp_path),
        "script": ([script, "--help"], tmp_path),
    }[way]
    done = run(*words, folder=folder)
    assert done.returncode == 0, done.stderr
    assert "pellucid train" in done.stdout


def test_version_is_printed(tmp_path):
    done = run(sys.executable, "-m", "pellucid.cli", "--version", folder=tmp_path)
    assert (done.returncode, done.stdout.split()[-1:]) == (0, [pellucid.__version__]), done.stderr


def test_importing_pellucid_is_quick_and_quiet(tmp_path):
    """`import pellucid` alone loads neither torch nor anything that could print."""
    code = "import sys, pellucid; print(sorted({'torch', 'datasets', 'triton'} & set(sys.modules)))"
    done = run(sys.executable, "-W", "error", "-c", code, folder=tmp_path)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_ci_runs_lint_and_tests_without_a_terminal():
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    dry = run("make", "-n", "lint", "test", folder=ROOT)
    assert dry.returncode == 0, dry.stderr
    assert "ruff check" in dry.stdout
    assert "pytest" in dry.stdout
    assert importlib.util.find_spec("xdist"), "make test runs two workers"
