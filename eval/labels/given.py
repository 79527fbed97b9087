"""Labels that a user brings: a function, or a file of spans."""

import hashlib
import importlib
import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from pellucid.errors import UserError
from pellucid.eval.labels.marks import Marks
from pellucid.eval.labels.table import Label

KEYS = ("document", "start", "end", "label")
Spans = Mapping[str, Any]


class GivenLabels:
    """Labels by a function(text, name) -> {label: spans or booleans of characters}, or None.

    `families` of the function ({label: "dev" or "test"}) declares the labels there are.
    """

    def __init__(self, function: Callable[[str, str], Spans | None], fingerprint: str) -> None:
        families = getattr(function, "families", None)
        if not isinstance(families, Mapping) or not families:
            raise UserError(
                "labels: the function has no families: set function.families = "
                '{label: "dev" or "test"}, which names every label that it gives'
            )
        self.labels = tuple(Label(n, "given", family, False) for n, family in families.items())
        self.function, self.fingerprint = function, fingerprint

    def marks(self, text: str, name: str) -> Marks | None:
        """The labels of a document; UserError where what the function gives does not fit."""
        given = self.function(text, name)
        if given is None:
            return None
        names = [label.name for label in self.labels]
        if not isinstance(given, Mapping) or not set(given) <= set(names):
            raise UserError(
                f"labels of {name}: {given!r:.80} is not accepted; a dictionary with keys among "
                f"{', '.join(names)} is"
            )
        columns = {label: _column(value, text, name, label) for label, value in given.items()}
        return Marks.of(columns, names, len(text))


def _column(value: Any, text: str, name: str, label: str) -> Bool[np.ndarray, " character"]:
    """Booleans of characters, or spans (start, end) made into such."""
    array = np.asarray(value)
    if array.dtype == bool and array.shape == (len(text),):
        return array
    column = np.zeros(len(text), bool)
    if array.size == 0:
        return column
    fits = array.ndim == 2 and array.shape[1] == 2 and array.dtype.kind in "iu"
    if (
        not fits
        or (array < 0).any()
        or (array > len(text)).any()
        or (array[:, 0] > array[:, 1]).any()
    ):
        raise UserError(
            f"label {label!r} of {name}: {value!r:.80} is not accepted; spans (start, end) within "
            f"its {len(text)} characters, or as many booleans, are"
        )
    for start, end in array:
        column[start:end] = True
    return column


def from_function(word: str) -> GivenLabels:
    """Labels by `module:function`; UserError where there is none of that name."""
    module, _, name = word.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"labels {word!r} cannot be imported: {error}") from None
    if not callable(function):
        raise UserError(f"labels {word!r} is not a function(text, name)")
    try:
        code = inspect.getsourcefile(function)
    except TypeError:  # built into Python
        code = None
    raw = Path(code).read_bytes() if code else word.encode()
    return GivenLabels(function, f"{word}-{hashlib.sha256(raw).hexdigest()[:16]}")


def from_file(path: Path) -> GivenLabels:
    """Labels from `.jsonl` or `.parquet` with columns document, start, end, label (and family).

    Places are in characters. Families are `test` where a row names none. Documents without a span
    have none of the labels: they are taken as known, and empty.
    """
    rows = _rows(path)
    spans: dict[str, dict[str, list[tuple[int, int]]]] = {}
    families: dict[str, str] = {}
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict) or not set(KEYS) <= set(row):
            raise UserError(
                f"{path}, row {number}: {', '.join(KEYS)} are needed, {row!r:.80} is there"
            )
        label = str(row["label"])
        families[label] = row.get("family") or families.get(label, "test")
        of = spans.setdefault(str(row["document"]), {}).setdefault(label, [])
        of.append((row["start"], row["end"]))

    def function(text: str, name: str) -> Spans:
        return {label: spans.get(name, {}).get(label, []) for label in families}

    function.families = families
    return GivenLabels(function, hashlib.sha256(path.read_bytes()).hexdigest()[:32])


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet

            return pyarrow.parquet.read_table(path).to_pylist()
        if path.suffix == ".jsonl":
            lines = path.read_text(encoding="utf-8").splitlines()
            return [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        raise UserError(f"labels {path} cannot be read: {error}") from None
    raise UserError(f"labels {path}: module:function, .jsonl and .parquet are accepted")
