"""Tiny models of planted neurons, for circuits that only look as if they did a task.

The task: say 1 after token 1, and 2 after token 2. Rows are 0, some 3s and 4s, and token 1 or 2.
"""

from types import SimpleNamespace

import torch
from support.circuit_cases import TARGET
from support.compiled import LARGE, ONE, Compiled

from pellucid.eval.circuits.battery import Case, Repeats, twins_of
from pellucid.eval.circuits.circuit import Circuit
from pellucid.eval.circuits.nodes import nodes_of
from pellucid.eval.circuits.objective import Asked

CONTEXT, VOCAB, WIDTH = 4, 6, 8
SURE = 2.0
"""Margins of 0 and of 2: a readout need not use all of its scale."""


def planted(*neurons: tuple) -> torch.nn.Module:
    """A model of neurons (layer, reads, bias, writes), numbered within their layer."""
    names = ["out1", "out2", "mid", "waste"]
    made = Compiled.blank(names, vocab=VOCAB, context=CONTEXT, layers=2, width=WIDTH, mlp="dense")
    placed = [0, 0]
    for layer, reads, bias, writes in neurons:
        made.neuron(layer, placed[layer], reads, bias, writes)
        placed[layer] += 1
    made.read_out({1: "out1", 2: "out2"})
    with torch.no_grad():
        made.model.norm.weight.mul_(SURE)
    return made.model


def rows(kind: int, count: int, seed: int) -> torch.Tensor:
    """Rows that end with token `kind`."""
    filler = torch.randint(3, 5, (count, CONTEXT), generator=torch.Generator().manual_seed(seed))
    filler[:, 0], filler[:, -1] = 0, kind
    return filler


def asked(pairs: int, seed: int) -> Asked:
    """Pairs of the task."""
    tokens = torch.cat([rows(1, pairs, seed), rows(2, pairs, seed + 1)])
    full = torch.ones(2 * pairs, dtype=torch.long)
    return Asked(tokens, (CONTEXT - 1) * full, full, 2 * full, torch.arange(2 * pairs) < pairs)


def planted_case(model, kept: list[str], *, repeats=None, find=None) -> Case:
    """The case of a circuit of the named nodes, at the grain of heads and neurons."""
    nodes = nodes_of(model, "parts")
    mask = torch.zeros(len(nodes), dtype=torch.bool)
    mask[[nodes.number(name) for name in kept]] = True
    circuit = Circuit("planted", mask, mask.double(), 0.0, TARGET)
    run = SimpleNamespace(model=model, config=SimpleNamespace(model=model.config, seed=0))
    text = [torch.cat([rows(1, 8, 5), rows(2, 24, 6)])]
    return Case(
        model, nodes, circuit, asked(12, 1), asked(12, 3), text, find, twins_of(run), 0,
        repeats or Repeats(),
    )  # fmt: skip


SAYS_1 = (0, {"tok1": 1.0}, 0.0, {"out1": 1.0})
"""blocks.0.mlp:0 where it comes first: the true mechanism."""
BIG = 3 * LARGE

__all__ = ["BIG", "ONE", "SAYS_1", "asked", "planted", "planted_case", "rows"]
