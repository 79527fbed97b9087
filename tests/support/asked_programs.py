"""What programs are asked: pairs of rows that have different answers."""

import numpy as np
import torch
from support.programs import Program

from pellucid.eval.circuits.bases import Base, means
from pellucid.eval.circuits.nodes import Nodes
from pellucid.eval.circuits.objective import Asked


def asked_of(program: Program, *, pairs: int = 32, seed: int = 0) -> Asked:
    """Pairs of rows, each answer as likely as any other."""
    rng = np.random.default_rng(seed)
    rows: dict[int, list[list[int]]] = {}
    for row in (program.draw(rng) for _ in range(2000)):
        answer = program.answer(row)
        if answer is not None:
            rows.setdefault(answer, []).append(row)
    chosen = [rng.choice(sorted(rows), 2, replace=False) for _ in range(pairs)]
    sides = [
        [rows[pair[side]][rng.integers(len(rows[pair[side]]))] for pair in chosen]
        for side in (0, 1)
    ]
    last = torch.tensor([len(row) - 1 for row in sides[0] + sides[1]])
    width = int(last.max()) + 1
    tokens = torch.tensor([row + [0] * (width - len(row)) for row in sides[0] + sides[1]])
    first, second = torch.tensor(np.array(chosen)).T
    return Asked(tokens, last, first.repeat(2), second.repeat(2), torch.arange(2 * pairs) < pairs)


def means_of(program: Program, nodes: Nodes) -> Base:
    """Means over rows that are no part of any pair."""
    rng = np.random.default_rng(9)
    return means(program.model, nodes, [torch.tensor([program.draw(rng) for _ in range(64)])])
