"""Surface forms: what stands for each placeholder of a template, drawn from one family's words."""

import string
from collections.abc import Callable

import numpy as np

from pellucid.eval.tasks import pools

Count = Callable[[str], int]
"""How many tokens a text has under the run's tokenizer."""

FILLERS = ("words", "plus", "both", "items", "names", "note", "lines", "body", "deep")
"""Placeholders that grow with the distance asked for; a template with one has far strata."""
INDENT = {"lines": "", "body": 4 * " ", "deep": 8 * " "}
STATEMENTS = (
    "{x} = {y}\n",
    "{x} = {f}({y})\n",
    "{f}({x}, {y})\n",
    "{x} = [{n}, {m}]\n",
    "{x}.{y} = {n}\n",
    "{x} = {y} - {n}\n",
)
NEAR_PIECES = 3
"""At distance 0 an inline filler has up to two pieces (words: one to three; a note: none)."""


class Surface(dict):
    """Placeholder -> text, drawn when first asked for and the same ever after.

    `a`–`e` are distinct variables, `f` `g` functions, `K` a class, `m` `n` small numbers, `s` `t`
    words, `read` `write` file names, `module` a module, and the `FILLERS` code of at least
    `distance` tokens that has nothing to do with the answer. Names in fillers never occur outside.
    """

    def __init__(
        self, rng: np.random.Generator, family: str, *, distance: int, count: Count
    ) -> None:
        super().__init__()
        self.rng, self.distance, self.count = rng, distance, count
        deal = lambda words: pools.dealt(words, family)
        names, functions = deal(pools.VARIABLES), deal(pools.FUNCTIONS)
        # Half for the template, half for its fillers.
        self.names, self.other_names = names[::2], names[1::2]
        self.functions, self.other_functions = functions[::2], functions[1::2]
        self.classes, self.words = deal(pools.CLASSES), deal(pools.WORDS)
        self.files = {"read": deal(pools.READ), "write": deal(pools.WRITE)}
        self.modules = deal(pools.MODULES)

    def fill(self, template: str) -> str:
        """The template with every `$placeholder` replaced."""
        return string.Template(template).substitute(self)

    def __missing__(self, key: str) -> str:
        self[key] = self._filler(key) if key in FILLERS else self._draw(key)
        return self[key]

    def _draw(self, key: str) -> str:
        match key:
            case "a" | "b" | "c" | "d" | "e":
                return self._name()
            case "f" | "g":
                return self._unused(self.functions)
            case "K":
                return self._unused(self.classes)
            case "m" | "n":
                return str(self.rng.integers(1, 100))
            case "s" | "t":
                return self._unused(self.words)
            case "read" | "write":
                return self._pick(self.files[key])
            case "module":
                return self._pick(self.modules)
        raise KeyError(f"placeholder ${key} is unknown")

    def _name(self) -> str:
        """One word, or two in three of ten draws."""
        double = self.rng.random() < 0.3
        words = [f"{self._pick(self.names)}_{w}" for w in self.names] if double else self.names
        return self._unused(words)

    def _unused(self, words: list[str]) -> str:
        taken = set(self.values())
        return self._pick([word for word in words if word not in taken])

    def _pick(self, words: list[str]) -> str:
        return words[self.rng.integers(len(words))]

    def _filler(self, kind: str) -> str:
        """Pieces until there are `distance` tokens of them."""
        lines = kind in INDENT
        fewest = int(self.rng.integers(2 if lines else NEAR_PIECES)) + (kind == "words")
        fewest = 0 if kind == "note" else fewest
        pieces, tokens = [], 0
        while tokens < self.distance or len(pieces) < fewest:
            pieces.append(self._piece(kind, first=not pieces))
            tokens += self.count(pieces[-1])
        return "".join(pieces)

    def _piece(self, kind: str, *, first: bool) -> str:
        if kind in INDENT:
            return INDENT[kind] + self._statement()
        if kind in ("words", "note"):
            start = "  # " if kind == "note" else ""
            return (start if first else " ") + self._pick(self.words)
        if kind == "items":
            return f", {self.rng.integers(1, 100)}"
        joint = {"plus": " + ", "both": " and ", "names": ", "}[kind]
        return joint + self._pick(self.other_names)

    def _statement(self) -> str:
        x, y = self.rng.choice(self.other_names, 2, replace=False)
        n, m = self.rng.integers(1, 100, 2)
        function = self._pick(self.other_functions)
        return self._pick(list(STATEMENTS)).format(x=x, y=y, f=function, n=n, m=m)
