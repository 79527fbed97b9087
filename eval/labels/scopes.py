"""What is known of names where they are used: which were bound before, and to what."""

from collections.abc import Callable

from pellucid.eval.labels.bits import BIT

SEEN, ASSIGNED = BIT["seen_in_scope"], BIT["assigned_before"]
PARAMETER, IMPORTED, OUTER = BIT["is_parameter"], BIT["imported_name"], BIT["declared_outer"]
VALUES = {kind: BIT[f"bound_to_{kind}"] for kind in ("str", "list", "set", "int", "none")}
ANY_VALUE = sum(VALUES.values())

Names = dict[str, int]


class Scopes:
    """The names of the scope being read, of the modules around it, and of open comprehensions."""

    def __init__(self) -> None:
        self.module: Names = {}
        self.here = self.module
        self.inner: list[Names] = []
        """of lambdas and comprehensions"""
        self.coming: Names | None = None
        """of the function or class whose header is being read"""
        self.bound: list[str] = []
        """names that the value being read is assigned to"""

    def known(self) -> Callable[[str], int]:
        """A function that gives the bits of a word where it stands."""
        here, module, inner = self.here, self.module, self.inner
        if not inner and here is module:
            return lambda word: here.get(word, 0)
        if not inner:
            return lambda word: here.get(word, 0) | module.get(word, 0) & IMPORTED

        def of(word: str) -> int:
            bits = here.get(word, 0) | module.get(word, 0) & IMPORTED
            for names in inner:
                bits |= names.get(word, 0)
            return bits

        return of

    def see(self, word: str) -> None:
        """A name was used here."""
        self.here[word] = self.here.get(word, 0) | SEEN

    def bind(self, words: list[str], more: int = ASSIGNED) -> None:
        """Names are bound here; what they were bound to before is forgotten."""
        for word in words:
            kept = self.here.get(word, 0) & ~(ANY_VALUE | IMPORTED)
            self.here[word] = kept | SEEN | more

    def value(self, kind: str | None) -> None:
        """The value of the last assignment begins so."""
        for word in self.bound if kind else ():
            self.here[word] = self.here.get(word, 0) | VALUES[kind]
        self.bound = []
