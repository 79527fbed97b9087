"""The channels and neurons of compiled programs: those that are needed are found, and no others.

A head may have its query and key channels, or its value channels, in any other order: the program is
the same, and so are its nodes up to their numbers, which are as they were written.
"""

import pytest
import torch
from support.asked_programs import asked_of, means_of
from support.asking import auroc
from support.circuit_cases import written
from support.marks import slow_but
from support.programs import PROGRAMS

from pellucid.eval.circuits.find import find
from pellucid.eval.circuits.measured import losses_of
from pellucid.eval.circuits.nodes import nodes_of
from pellucid.eval.circuits.settings import Settings

SEARCH = Settings(target=0.05, steps=60, restarts=2, lr=0.05, exact=512, rounds=4)
UNIQUE = ("depth", "quote")
"""Programs of which one circuit alone is within the target: that of all nodes that the model cannot
do without. Without several single nodes of the others the loss is just above the target, and a
circuit may leave out some of them where it leaves out what they work against."""


@pytest.mark.parametrize("name", slow_but(["depth"], PROGRAMS))
def test_the_channels_and_neurons_of_a_program_are_found(name):
    program = PROGRAMS[name]()
    nodes = nodes_of(program.model, "channels")
    about = (program.model, nodes, asked_of(program))
    base, true = means_of(program, nodes), written(program, nodes)
    circuit = find(*about, base, SEARCH, seed=0)
    losses, _ = losses_of(*about, ~torch.eye(len(nodes)).bool(), base)
    needed = losses > SEARCH.target
    # That which is never needed is what is alike on all prompts, or what other parts make up for.
    assert needed.sum() > 0.75 * true.sum() and not (needed & ~true).any()
    assert not circuit.censored and not (circuit.kept & ~true).any()
    assert auroc(circuit.scores[needed], circuit.scores[~true]) >= 0.95
    if name in UNIQUE:
        (loss,), _ = losses_of(*about, needed[None], base)
        assert loss <= SEARCH.target and torch.equal(circuit.kept, needed)
