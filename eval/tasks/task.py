"""A task: pairs of prompts that differ in one factor, which decides how the text goes on."""

import string
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pellucid.errors import UserError
from pellucid.eval.tasks.pools import FAMILIES
from pellucid.eval.tasks.surface import FILLERS, Count, Surface

DISTANCES = (8, 32, 128)
"""Strata: tokens of filler at least between the cue and the answer."""


class Pair(NamedTuple):
    """Prompt A is continued by answer A, prompt B by answer B; only a cue differs between them.

    An answer may be longer than a token: what is scored is the first token in which the two
    differ. In a one-against-rest task answer B is one example of many.
    """

    prompt_a: str
    prompt_b: str
    answer_a: str
    answer_b: str
    form: int = 0
    """which template of its task it was drawn from"""


class Form(NamedTuple):
    """A template of a pair: four texts with the `$placeholders` of `Surface`."""

    prompt_a: str
    prompt_b: str
    answer_a: str
    answer_b: str

    @property
    def is_far(self) -> bool:
        """Whether filler fits between the cue and the answer."""
        found = string.Template(self.prompt_a).get_identifiers()
        return any(name in FILLERS for name in found)


@dataclass(frozen=True)
class Task:
    """A generator of pairs (arXiv 2511.13653, table 1 and appendix A.7; templates are our own)."""

    name: str
    cue: str
    """what decides the answer, in words"""
    forms: tuple[Form, ...]
    """templates, dealt to the families in turn: three at least"""
    one_vs_rest: bool = False
    """answer B is open: all that counts is whether A is likelier after prompt A"""
    held_out: bool = False
    """not among the twenty of the paper: kept away from every choice"""

    def __call__(
        self, rng: np.random.Generator, distance: int = 0, *, family: str = "dev", count: Count
    ) -> Pair:
        """Draw a pair with at least `distance` tokens, as counted by `count`, before the answer.

        Raises UserError for an unknown family, and for a distance the task has no template for.
        """
        numbers = self.dealt(family, far=distance > 0)
        if not numbers:
            raise UserError(
                f"task {self.name!r} has no distance {distance}: nothing fits between its cue and "
                "its answer; 0 is accepted"
            )
        number = numbers[rng.integers(len(numbers))]
        surface = Surface(rng, family, distance=distance, count=count)
        return Pair(*map(surface.fill, self.forms[number]), form=number)

    def dealt(self, family: str, *, far: bool = False) -> list[int]:
        """Numbers of the templates of one family; `far`: of those with room for filler."""
        if family not in FAMILIES:
            raise UserError(f"family {family!r} is unknown: {', '.join(FAMILIES)} are accepted")
        mine = range(FAMILIES.index(family), len(self.forms), len(FAMILIES))
        return [number for number in mine if self.forms[number].is_far or not far]

    @property
    def distances(self) -> tuple[int, ...]:
        """The strata that every family has templates for."""
        return DISTANCES if all(self.dealt(f, far=True) for f in FAMILIES) else ()
