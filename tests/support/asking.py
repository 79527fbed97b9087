"""Prompts of a compiled program as a circuit is asked them, and how well scores find its circuit."""

from collections.abc import Iterable

import numpy as np
import torch
from support.programs import Program

from pellucid.eval.circuits.objective import Asked


def asked_of(program: Program, *, pairs: int, shortest: int | None = None, seed: int = 0) -> Asked:
    """Pairs of rows of one length, after which the program says different tokens.

    The first tokens of drawn rows, at least `shortest` of them (none: all).
    """
    rng = np.random.default_rng(seed)
    waiting: list[tuple[list[int], int]] = []
    found: list[tuple[tuple[list[int], int], tuple[list[int], int]]] = []
    while len(found) < pairs:
        row = program.draw(rng)
        row = row if shortest is None else row[: int(rng.integers(shortest, len(row) + 1))]
        if (answer := program.answer(row)) is None:
            continue
        fits = [o for o in waiting if o[1] != answer and len(o[0]) == len(row)]
        if fits:
            waiting.remove(fits[0])
            found.append((fits[0], (row, answer)))
        else:
            waiting.append((row, answer))
    a, b = zip(*found, strict=True)
    width = max(len(row) for row, _ in a)
    tokens = torch.tensor([row + [0] * (width - len(row)) for row, _ in (*a, *b)])
    last = torch.tensor([len(row) - 1 for row, _ in (*a, *b)])
    answers = [torch.tensor([answer for _, answer in side]).repeat(2) for side in (a, b)]
    return Asked(tokens, last, *answers, torch.arange(2 * pairs) < pairs)


def auroc(true: Iterable[float], false: Iterable[float]) -> float:
    """How often a true one scores higher than a false one; ties count half."""
    a, b = torch.tensor(list(true)).double(), torch.tensor(list(false)).double()
    above = (a[:, None] > b).double() + 0.5 * (a[:, None] == b).double()
    return float(above.mean())
