"""Pairs as tokens: what a model reads, and the two tokens it is asked to choose between."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple, Protocol

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from pellucid.errors import UserError
from pellucid.eval.tasks.pools import FAMILIES
from pellucid.eval.tasks.surface import Count
from pellucid.eval.tasks.task import Pair, Task

TRIES = 8
"""Draws for each pair that is wanted, before a task is given up."""
OPEN = -1
"""Answer B of a task that has none."""


class Encoder(Protocol):
    """The part of a `Tokenizer` that tasks need."""

    eot: int

    def encode(self, text: str) -> list[int]: ...


@dataclass(frozen=True)
class TaskBatch:
    """Pairs of one task under one tokenizer. Rows begin with eot and are padded with it."""

    name: str
    distance: int
    one_vs_rest: bool
    tokens_a: Int[Tensor, "pair token"]
    """prompt A; as wide as prompt B"""
    tokens_b: Int[Tensor, "pair token"]
    last_a: Int[Tensor, " pair"]
    """column of the last token of prompt A: its logits predict the answer"""
    last_b: Int[Tensor, " pair"]
    answer_a: Int[Tensor, " pair"]
    """the token that is right after prompt A"""
    answer_b: Int[Tensor, " pair"]
    """the token that is right after prompt B; `OPEN` where the task is one against the rest"""
    pairs: tuple[Pair, ...]

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def aligned(self) -> Tensor:
        """(pair,) bool: both prompts have as many tokens, so that positions can be exchanged."""
        return self.last_a == self.last_b

    @property
    def lengths(self) -> tuple[int, int]:
        """Tokens of the shortest and of the longest prompt, eot included."""
        last = torch.cat([self.last_a, self.last_b])
        return int(last.min()) + 1, int(last.max()) + 1

    def subset(self, chosen: Tensor | slice) -> "TaskBatch":
        """Some of the pairs: a slice, a mask or indices (pair,)."""
        rows = torch.arange(len(self))[chosen]
        taken = {name: getattr(self, name)[rows] for name in TENSORS}
        about = {name: getattr(self, name) for name in ("name", "distance", "one_vs_rest")}
        return TaskBatch(**about, **taken, pairs=tuple(self.pairs[int(row)] for row in rows))


TENSORS = ("tokens_a", "tokens_b", "last_a", "last_b", "answer_a", "answer_b")


class Encoded(NamedTuple):
    """One pair as tokens, without eot."""

    prompt_a: list[int]
    prompt_b: list[int]
    answer_a: int
    answer_b: int


def draw(
    task: Task,
    tokenizer: Encoder,
    n_pairs: int,
    *,
    distance: int = 0,
    family: str = "dev",
    seed: int = 0,
    context: int | None = None,
) -> TaskBatch:
    """`n_pairs` of a task as tokens, a pure function of the seed.

    Pairs whose answers the tokenizer cannot tell apart are drawn again. Raises UserError where too
    few can be, and where a prompt is longer than `context`.
    """
    stream = (FAMILIES.index(family), distance, *task.name.encode())
    rng = np.random.default_rng([seed, *stream])
    count: Count = cache(lambda text: len(tokenizer.encode(text)))
    fresh = (
        task(rng, distance, family=family, count=count) for _ in range(TRIES * max(n_pairs, 1))
    )
    return pack(
        fresh,
        tokenizer,
        name=task.name,
        n_pairs=n_pairs,
        distance=distance,
        one_vs_rest=task.one_vs_rest,
        context=context,
    )


def pack(
    pairs: Iterable[Pair],
    tokenizer: Encoder,
    *,
    name: str,
    n_pairs: int | None = None,
    distance: int = 0,
    one_vs_rest: bool = False,
    context: int | None = None,
) -> TaskBatch:
    """The first `n_pairs` (none: all) whose answers can be told apart; UserError as in `draw`."""
    kept, found, reason = [], [], "no pair was given"
    for pair in pairs:
        encoded = encode(pair, tokenizer.encode)
        if isinstance(encoded, str):
            reason = encoded
            continue
        kept.append(pair)
        found.append(encoded)
        if len(kept) == n_pairs:
            break
    if not kept or len(kept) < (n_pairs or 0):
        raise UserError(f"task {name!r}: its answers cannot be told apart: {reason}")
    _check_fits(found, name, distance, context)
    answers = [(e.answer_a, OPEN if one_vs_rest else e.answer_b) for e in found]
    width = 1 + max(max(len(e.prompt_a), len(e.prompt_b)) for e in found)
    return TaskBatch(
        name,
        distance,
        one_vs_rest,
        *(_padded([e[side] for e in found], width, tokenizer.eot) for side in (0, 1)),
        *(torch.tensor([len(e[side]) for e in found]) for side in (0, 1)),
        *torch.tensor(answers).T,
        tuple(kept),
    )


def encode(pair: Pair, encode_text: Callable[[str], list[int]]) -> Encoded | str:
    """The pair as tokens, or why its answers are not distinguishable.

    Prompt and answer are encoded together, as in running text. The answer is the first token in
    which the two differ; tokens that both share before it belong to the prompt.
    """
    sides = []
    for prompt in (pair.prompt_a, pair.prompt_b):
        a, b = (encode_text(prompt + answer) for answer in (pair.answer_a, pair.answer_b))
        at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
        if at is None:
            shown = f"{pair.answer_a!r} and {pair.answer_b!r}"
            return f"after {prompt!r} one of the answers {shown} begins with all of the other"
        sides.append((a[:at], a[at], b[at]))
    (prompt_a, *first), (prompt_b, *second) = sides
    if first != second:
        shown = f"{pair.answer_a!r} and {pair.answer_b!r}"
        return f"{shown} begin with other tokens after {pair.prompt_a!r} than {pair.prompt_b!r}"
    return Encoded(prompt_a, prompt_b, *first)


def _check_fits(found: Sequence[Encoded], name: str, distance: int, context: int | None) -> None:
    longest = 1 + max(max(len(e.prompt_a), len(e.prompt_b)) for e in found)
    if context is not None and longest > context:
        raise UserError(
            f"task {name!r} at distance {distance}: prompts have up to {longest} tokens; "
            f"at most the context, {context}, fit"
        )


def _padded(rows: Sequence[list[int]], width: int, eot: int) -> Tensor:
    laid = torch.full((len(rows), width), eot)
    for i, row in enumerate(rows):
        laid[i, 1 : 1 + len(row)] = torch.tensor(row, dtype=torch.long)
    return laid
