"""Endless seeded text that looks like Python: for tests, with labels that are known exactly.

Every snippet invents its own names and then uses them again, closes what it opens and indents what
it nests, so a model that looks back beats any table of neighboring tokens.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pellucid.data.documents import Document, LeftOut
from pellucid.data.labels import LabeledConfig, channels, labeled
from pellucid.settings.fields import Configurable, setting

KINDS = ("function", "class", "table")
DOCUMENTS_PER_PACKAGE = 4
SNIPPETS_PER_DOCUMENT = (3, 8)
ONSETS = ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "br", "st", "tr")
VOWELS = ("a", "e", "i", "o", "u", "ai", "ou")
OPERATORS = ("+", "-", "*", "//", "%")
COMPARISONS = ("<", ">", "==", "!=")
VERBS = ("read", "make", "find", "sort", "merge", "count", "drop")


class Draw:
    """Choices from a seed, through `random()` alone: the only stream Python keeps for ever."""

    def __init__(self, *key: int) -> None:
        self._random = random.Random("/".join(map(str, key))).random

    def below(self, n: int) -> int:
        return int(self._random() * n)

    def between(self, low: int, high: int) -> int:
        return low + self.below(high - low + 1)

    def one(self, options: Sequence[str]) -> str:
        return options[self.below(len(options))]

    def name(self) -> str:
        return "".join(self.one(ONSETS) + self.one(VOWELS) for _ in range(self.between(2, 3)))


def expression(draw: Draw, names: Sequence[str], depth: int) -> str:
    """Nested arithmetic, calls and indexing over `names`."""
    if depth == 0 or draw.below(4) == 0:
        return draw.one(names) if draw.below(4) else str(draw.below(100))
    left, right = (expression(draw, names, depth - 1) for _ in range(2))
    form = draw.below(3)
    if form == 0:
        return f"({left} {draw.one(OPERATORS)} {right})"
    if form == 1:
        return f"{draw.one(names)}[{left}]"
    return f"{draw.one(VERBS)}({left}, {right})"


def body(draw: Draw, names: list[str], indent: str) -> Iterator[str]:
    """Statements that use the names in scope and bring new ones into it."""
    for _ in range(draw.between(2, 4)):
        fresh = draw.name()
        yield f"{indent}{fresh} = {expression(draw, names, 2)}"
        names.append(fresh)
        if draw.below(2):
            condition = f"{draw.one(names)} {draw.one(COMPARISONS)} {draw.one(names)}"
            yield f"{indent}if {condition}:"
            yield f"{indent}    {fresh} = {expression(draw, names, 1)}"
    yield f"{indent}return {names[-1]}"


def function(draw: Draw, indent: str = "") -> Iterator[str]:
    """A function that uses its own arguments."""
    name = f"{draw.one(VERBS)}_{draw.name()}"
    arguments = [draw.name() for _ in range(draw.between(1, 3))]
    first = ["self", *arguments] if indent else arguments
    yield f"{indent}def {name}({', '.join(first)}):"
    yield from body(draw, arguments, indent + "    ")


def class_(draw: Draw) -> Iterator[str]:
    """A class whose methods use its attributes."""
    yield f"class {draw.name().title()}:"
    for _ in range(draw.between(1, 2)):
        yield from function(draw, "    ")


def table(draw: Draw) -> Iterator[str]:
    """A literal table that closes every bracket."""
    name = draw.name().upper()
    keys = [draw.name() for _ in range(draw.between(3, 6))]
    yield f"{name} = {{"
    for key in keys:
        yield f'    "{key}": [{expression(draw, keys, 1)}, {draw.below(1000)}],'
    yield "}"


SNIPPETS = {"function": function, "class": class_, "table": table}


def snippets(seed: int, number: int) -> tuple[str, int]:
    """The text of document `number` and the index in KINDS of what it consists of."""
    draw = Draw(seed, number)
    kind = draw.below(len(KINDS))
    parts = range(draw.between(*SNIPPETS_PER_DOCUMENT))
    texts = ["\n".join(SNIPPETS[KINDS[kind]](draw)) for _ in parts]
    return "\n\n\n".join(texts) + "\n", kind


def bracket_depth(text: str) -> np.ndarray:
    """How many brackets are open after each UTF-8 byte of `text` (bytes,), int32."""
    raw = np.frombuffer(text.encode(), dtype=np.uint8)
    opened = np.isin(raw, np.frombuffer(b"([{", dtype=np.uint8))
    closed = np.isin(raw, np.frombuffer(b")]}", dtype=np.uint8))
    return np.cumsum(opened.astype(np.int32) - closed.astype(np.int32), dtype=np.int32)


class Generated(Configurable):
    """Generated documents; four share a package. Side channels: `bracket_depth` and `kind`."""

    @dataclass(frozen=True, kw_only=True)
    class Config(LabeledConfig):
        seed: int = setting(0)
        """Which text: the same seed gives the same documents on every machine."""
        n_documents: int = setting(200, low=1)
        """How many documents of about 1 kB."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.side_channels = ("bracket_depth", "kind", *channels(config))
        self.left_out = LeftOut()

    def listing(self) -> list[str]:
        return []

    def documents(self) -> Iterator[Document]:
        yield from labeled(self._texts(), self.config)

    def _texts(self) -> Iterator[Document]:
        for number in range(self.config.n_documents):
            text, kind = snippets(self.config.seed, number)
            depth = bracket_depth(text)
            side = {"bracket_depth": depth, "kind": np.full_like(depth, kind)}
            package = f"package_{number // DOCUMENTS_PER_PACKAGE:05d}"
            yield Document(f"{package}/module_{number:06d}.py", package, text, side)
