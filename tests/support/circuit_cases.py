"""Circuits of the compiled programs as cases of the battery."""

from collections.abc import Container
from dataclasses import replace
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


def asked_of(program: Program, pairs: int, seed: int, among: Container[int] = range(99)) -> Asked:
    """Pairs of rows after which the program says different tokens, both of them `among` some."""
    rng = np.random.default_rng(seed)
    rows, answers = [], []
    while len(rows) < 2 * pairs:
        row = program.draw(rng)
        said = program.answer(row)
        odd = len(rows) % 2
        if said in among and (not odd or said != answers[-1]):
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


def written(program: Program, nodes: Nodes) -> torch.Tensor:
    """The nodes in which weights of the program's parts are, by the weights."""
    found = set()
    for site, unit in program.nodes:
        layer, half = site.rsplit(".", 1)
        module = program.model.get_submodule(site)
        if half == "mlp":
            found |= {f"{site}:{unit}"}
            found |= _numbered(f"{layer}.mlp_in", module.w_in[unit])
            found |= _numbered(f"{layer}.mlp_out", module.w_out[unit])
            continue
        rows = slice(unit * module.d_head, (unit + 1) * module.d_head)
        own = torch.zeros(len(module.w_q)).bool()
        own[rows] = True
        for matrix, channels in ((module.w_q, "qk"), (module.w_k, "qk"), (module.w_v, "v")):
            found |= _numbered(f"{layer}.attn_in", matrix[rows].any(0))
            found |= _numbered(f"{site}.{channels}", matrix.any(1) & own)
        found |= _numbered(f"{layer}.attn_out", module.w_o[:, rows].any(1))
    return torch.tensor([name in found for name in nodes.names()])


def _numbered(site: str, weights: torch.Tensor) -> set[str]:
    return {f"{site}:{unit}" for unit in weights.nonzero()[:, 0].tolist()}


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


def case_with(program, nodes, circuit, *, pairs=24, repeats=None, find=searching, among=range(99)):
    """The case of any circuit of a program."""
    rng = np.random.default_rng(7)
    text = [torch.tensor([program.draw(rng) for _ in range(50)])]
    about = SimpleNamespace(model=program.model.config, seed=0)
    run = SimpleNamespace(model=program.model, config=about)
    return Case(
        program.model,
        nodes,
        circuit,
        asked_of(program, pairs, 1, among),
        asked_of(program, pairs, 2, among),
        text,
        find,
        twins_of(run),
        0,
        repeats or Repeats(),
    )


def found_case(program: Program, grain: str, settings: Settings, **about) -> Case:
    """The case of the circuit that a search finds, and searches anew in its controls."""
    again = lambda *case: find(*case[:4], settings, case[4])
    case = case_with(program, nodes_of(program.model, grain), None, find=again, **about)
    base = case.base("mean", case.asked)
    return replace(case, circuit=again(case.model, case.nodes, case.asked, base, 0), _bases={})
