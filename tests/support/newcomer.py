"""A plugin for pytest: the layer of docs/add-a-layer.md stands in the table, as if it had been added."""

import importlib.util
import re
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "add-a-layer.md"
FOLDER = tempfile.TemporaryDirectory()


def pytest_plugin_registered(plugin) -> None:
    """After tests/conftest.py, which comes before anything of pellucid, and before any test."""
    if getattr(plugin, "__file__", None) == str(TESTS / "conftest.py"):
        add()


def blocks() -> list[str]:
    """The Python blocks of the page: the file, and the line."""
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)


def add() -> None:
    """Put the class of the page in the table under the tag of the page."""
    from pellucid.models.mlp import MLPS

    code, line = blocks()
    tag, name = re.fullmatch(r'\s*"(\w+)": (\w+),\n', line).groups()
    file = Path(FOLDER.name) / f"{tag}.py"
    file.write_text(code)
    spec = importlib.util.spec_from_file_location(tag, file)
    module = sys.modules[tag] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    MLPS[tag] = getattr(module, name)
