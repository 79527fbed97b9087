"""Labels that a user brings: a function, or a file of spans."""

import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from pellucid.errors import UserError
from pellucid.eval.labels.marks import Marks
from pellucid.eval.labels.table import BOTH, Label
from pellucid.settings.modules import users_module

KEYS = ("document", "start", "end", "label")
Spans = Mapping[str, Any]


class GivenLabels:
    """Labels by a function(text, name) -> {label: spans or booleans of characters}, or None.

    `families` of the function ({label: "dev", "test" or "both"}) declares the labels there are,
    `lookahead` those of them that need what stands behind a token: the text up to it decides all
    others. UserError for a function that declares none, or others than it has.
    """

    whole_files = False

    def __init__(self, function: Callable[[str, str], Spans | None], fingerprint: str) -> None:
        families = getattr(function, "families", None)
        if not isinstance(families, Mapping) or not families:
            raise UserError(
                "labels: the function has no families: set function.families = "
                '{label: "dev", "test" or "both"}, which names every label that it gives'
            )
        ahead = _lookahead(function, families)
        self.labels = tuple(
            Label(name, "given", family, prefix=name not in ahead)
            for name, family in families.items()
        )
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


def _lookahead(function: Callable, families: Mapping[str, str]) -> frozenset[str]:
    """The labels that a function says need what comes later."""
    given = getattr(function, "lookahead", ())
    names = (given,) if isinstance(given, str) else given
    if not isinstance(names, Iterable) or not set(names) <= set(families):
        raise UserError(
            f"labels: the function's lookahead is {given!r:.80}: a set of names among "
            f"{', '.join(families)} is accepted"
        )
    return frozenset(names)


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
    """Labels by `module:function`; UserError where there is none of that name.

    The module is one that is installed, or a file of the working folder.
    """
    module, _, name = word.partition(":")
    try:
        function = getattr(users_module(module), name)
    except Exception as error:
        raise UserError(
            f"labels {word!r} cannot be imported ({type(error).__name__}: {error}); "
            f"module:function of what is installed or lies in the working folder is accepted"
        ) from error
    if not callable(function):
        raise UserError(f"labels {word!r} is not a function(text, name)")
    try:
        code = inspect.getsourcefile(function)
    except TypeError:  # built into Python
        code = None
    raw = Path(code).read_bytes() if code else word.encode()
    return GivenLabels(function, f"{word}-{hashlib.sha256(raw).hexdigest()[:16]}")


def from_file(path: Path) -> GivenLabels:
    """Labels from `.jsonl` or `.parquet` with columns document, start, end, label.

    Places are in characters. A row may say the `family` of its label (else `both`) and whether the
    text up to a token decides it (`prefix`, else true). Documents without a span have none of the
    labels: they are taken as known, and empty. UserError for what is missing, or contradicts.
    """
    spans: dict[str, dict[str, list[tuple[int, int]]]] = {}
    said: dict[str, dict[str, Any]] = {"family": {}, "prefix": {}}
    for number, row in enumerate(_rows(path), start=1):
        if not isinstance(row, dict) or not set(KEYS) <= set(row):
            raise UserError(
                f"{path}, row {number}: {', '.join(KEYS)} are needed, {row!r:.80} is there"
            )
        label = str(row["label"])
        for column, of in said.items():
            value, before = row.get(column), of.setdefault(label, None)
            if value is not None and before not in (None, value):
                raise UserError(
                    f"{path}, row {number}: {column} {value!r} of label {label!r}, which had "
                    f"{before!r} before: one for each label is accepted"
                )
            of[label] = before if value is None else value
        named = spans.setdefault(str(row["document"]), {})
        named.setdefault(label, []).append((row["start"], row["end"]))
    return _by_spans(path, spans, said["family"], said["prefix"])


def _by_spans(
    path: Path,
    spans: Mapping[str, Mapping[str, list[tuple[int, int]]]],
    families: Mapping[str, str | None],
    prefix: Mapping[str, bool | None],
) -> GivenLabels:
    if not families:
        raise UserError(f"labels {path}: it has no rows; one for each span is accepted")
    for label, decided in prefix.items():
        if decided is not None and not isinstance(decided, bool):
            raise UserError(
                f"{path}: prefix {decided!r} of label {label!r}: true and false are accepted"
            )

    def function(text: str, name: str) -> Spans:
        return {label: spans.get(name, {}).get(label, []) for label in families}

    function.families = {label: family or BOTH for label, family in families.items()}
    function.lookahead = {label for label, decided in prefix.items() if decided is False}
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
