"""Circuits of the compiled programs as cases of the battery."""

from types import SimpleNamespace

import numpy as np
import torch
from support.programs import Program

from pellucid.eval.circuits.battery import Case, Repeats, twins_of
from pellucid.eval.circuits.circuit import Circuit
from pellucid.eval.circuits.find import find
from pellucid.eval.circuits.nodes import Nodes, nodes_of
from pellucid.eval.circuits.objective import Asked
from pellucid.eval.circuits.settings import Settings

SEARCH = Settings(steps=60, restarts=2, lr=0.05)
TARGET = 0.15


def asked_of(program: Program, pairs: int, seed: int) -> Asked:
    """Pairs of rows after which the program says different tokens."""
    rng = np.random.default_rng(seed)
    rows, answers = [], []
    while len(rows) < 2 * pairs:
        row = program.draw(rng)
        said = program.answer(row)
        odd = len(rows) % 2
        if said is not None and (not odd or said != answers[-1]):
            rows.append(row)
            answers.append(said)
    tokens, said = torch.tensor(rows), torch.tensor(answers)
    first, second = said[0::2].repeat(2), said[1::2].repeat(2)
    tokens = torch.cat([tokens[0::2], tokens[1::2]])
    last = torch.full((2 * pairs,), tokens.shape[1] - 1)
    return Asked(tokens, last, first, second, torch.arange(2 * pairs) < pairs)


def true_nodes(nodes: Nodes, program: Program) -> torch.Tensor:
    """The heads and neurons of the program's circuit."""
    kept = torch.zeros(len(nodes), dtype=torch.bool)
    kept[[nodes.number(f"{site}:{unit}") for site, unit in program.nodes]] = True
    return kept


def decoys(nodes: Nodes, kept: torch.Tensor) -> torch.Tensor:
    """As many nodes as are kept, none of them kept where there are enough others."""
    order = kept.long().argsort(stable=True)
    wrong = torch.zeros_like(kept)
    wrong[order[: int(kept.sum())]] = True
    return wrong


def searching(model, nodes, asked, base, seed) -> Circuit:
    """A quick search."""
    return find(model, nodes, asked, base, SEARCH, seed)


def case_of(program: Program, kept=None, *, grain="parts", pairs=24, repeats=None, find=searching):
    """The case of a planted circuit (default: the true one) of a program."""
    nodes = nodes_of(program.model, grain)
    kept = true_nodes(nodes, program) if kept is None else kept
    circuit = Circuit("planted", kept, kept.double(), 0.0, TARGET)
    return case_with(program, nodes, circuit, pairs=pairs, repeats=repeats, find=find)


def case_with(program, nodes, circuit, *, pairs=24, repeats=None, find=searching):
    """The case of any circuit of a program."""
    rng = np.random.default_rng(7)
    text = [torch.tensor([program.draw(rng) for _ in range(50)])]
    about = SimpleNamespace(model=program.model.config, seed=0)
    run = SimpleNamespace(model=program.model, config=about)
    return Case(
        program.model,
        nodes,
        circuit,
        asked_of(program, pairs, 1),
        asked_of(program, pairs, 2),
        text,
        find,
        twins_of(run),
        0,
        repeats or Repeats(),
    )
