"""Labels of every token of a stream: what holds before it and after it, and whether that is known."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool

from pellucid.errors import UserError

FAMILIES = ("loop", "dev", "test")
"""What training may use; what tuning a metric may look at; what only final results do."""
BOTH = "both"
"""The family of a user's label of which none is said: it serves `dev` and `test`."""
GROUPS = (
    *("lexer", "bracket", "layout", "block", "identifier", "binding", "expression"),
    *("lexical", "position", "english", "given"),
)
"""`lexical` and `position` are controls: functions of the token alone, or of where it stands."""
CONTROLS = ("lexical", "position")


class NoLabel(UserError):
    """No label fits what was asked for."""


@dataclass(frozen=True)
class Label:
    """A property of a place in a text that holds or does not."""

    name: str
    group: str
    family: str
    prefix: bool
    """whether the text up to and with a token decides what holds after it"""
    meaning: str = ""

    def __post_init__(self) -> None:
        for field, value, accepted in (
            ("family", self.family, (*FAMILIES, BOTH)),
            ("group", self.group, GROUPS),
        ):
            if value not in accepted:
                raise UserError(
                    f"label {self.name!r} has {field} {value!r}: {', '.join(accepted)} are accepted"
                )

    def serves(self, family: str) -> bool:
        """Whether this label may be used where labels of a family are asked for."""
        return self.family == family or (self.family == BOTH and family in ("dev", "test"))


@dataclass(frozen=True)
class LabelTable:
    """Labels aligned with the positions of a stream.

    `after[p, l]` says whether label l holds once token p has been read, `before[p, l]` whether it
    held when the token began. Where a label went on and off again within one token, `mixed` says so.
    """

    labels: tuple[Label, ...]
    after: Bool[np.ndarray, "token label"]
    before: Bool[np.ndarray, "token label"]
    mixed: Bool[np.ndarray, "token label"]
    """the label changed more than once within the token, so before and after hide some of it"""
    valued: Bool[np.ndarray, "token label"]
    """False at the eot, in text without labels, in a file that does not parse (parser labels)"""

    @classmethod
    def of(
        cls,
        after: Bool[np.ndarray, "token label"],
        labels: Sequence[Label],
        *,
        known: Bool[np.ndarray, " token"] | None = None,
    ) -> "LabelTable":
        """A table of given states, in one document: before a token is after the one before it."""
        before = np.concatenate([np.zeros_like(after[:1]), after[:-1]])
        here = np.ones(len(after), bool) if known is None else known
        valued = np.repeat(here[:, None], after.shape[1], axis=1)
        return cls(tuple(labels), after, before, np.zeros_like(after), valued)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(label.name for label in self.labels)

    @property
    def families(self) -> tuple[str, ...]:
        return tuple(label.family for label in self.labels)

    @property
    def groups(self) -> tuple[str, ...]:
        return tuple(label.group for label in self.labels)

    @property
    def prefix(self) -> tuple[bool, ...]:
        return tuple(label.prefix for label in self.labels)

    @cached_property
    def known(self) -> Bool[np.ndarray, " token"]:
        """Tokens on which every label of this table has a value after the token."""
        return self.valued.all(axis=1)

    def known_of(self, name: str) -> Bool[np.ndarray, " token"]:
        """Tokens on which one label has a value and did not change more than once within."""
        at = self.index(name)
        return self.valued[:, at] & ~self.mixed[:, at]

    def index(self, name: str) -> int:
        """The column of a label; UserError where there is none of that name."""
        if name not in self.names:
            raise UserError(f"there is no label {name!r}: {', '.join(self.names)} are there")
        return self.names.index(name)

    def select(
        self,
        *,
        family: str | Sequence[str] | None = None,
        prefix: bool | None = None,
        group: str | Sequence[str] | None = None,
        names: Sequence[str] | None = None,
        controls: bool = True,
    ) -> "LabelTable":
        """The table of those labels that fit every condition; `controls=False` drops controls.

        UserError for a name, family or group that does not exist, NoLabel where nothing is left.
        """
        families, groups = _several(family, FAMILIES, "family"), _several(group, GROUPS, "group")
        wanted = range(len(self.labels)) if names is None else [self.index(n) for n in names]
        kept = [
            at
            for at in wanted
            if any(map((one := self.labels[at]).serves, families))
            and one.group in groups
            and (prefix is None or one.prefix == prefix)
            and (controls or one.group not in CONTROLS)
        ]
        if not kept:
            raise NoLabel(f"no label has family {family!r}, group {group!r} and prefix {prefix!r}")
        arrays = {n: getattr(self, n)[:, kept] for n in ("after", "before", "mixed", "valued")}
        return replace(self, labels=tuple(self.labels[at] for at in kept), **arrays)


def _several(given: str | Sequence[str] | None, all_: tuple[str, ...], what: str) -> Sequence[str]:
    chosen = all_ if given is None else (given,) if isinstance(given, str) else given
    for one in chosen:
        if one not in all_:
            raise UserError(f"{what} {one!r} is unknown: {', '.join(all_)} are accepted")
    return chosen
