"""Circuits searched for where there is nothing to find, and how large they are beside the real."""

from collections.abc import Sequence

import torch
from torch import nn

from pellucid.eval.circuits.bases import means
from pellucid.eval.circuits.battery.case import Case
from pellucid.eval.circuits.battery.check import Check
from pellucid.eval.circuits.circuit import Circuit
from pellucid.eval.circuits.objective import Asked
from pellucid.eval.circuits.sizes import bits


def searched(case: Case, asked: Asked, number: int) -> Circuit:
    """The circuit of other prompts or answers in the same model, as the real one was searched."""
    base = case.base("mean", case.asked)
    return case.find(case.model, case.nodes, asked, base, case.seed + number)


def searched_in(case: Case, twin: nn.Module, number: int) -> Circuit:
    """The circuit of the same prompts in a twin, nodes being held at the twin's own means."""
    base = means(twin, case.nodes, case.text)
    return case.find(twin, case.nodes, case.asked, base, case.seed + number)


def size_of(case: Case, circuit: Circuit) -> int:
    """Nodes of a circuit; all nodes, where none reaches the target."""
    return len(case.nodes) if circuit.censored else circuit.size


def _bits(case: Case, circuit: Circuit) -> float:
    """The same in bits: of two circuits the one of fewer nodes may be that of more bits."""
    kept = torch.ones_like(circuit.kept) if circuit.censored else circuit.kept
    return bits(case.nodes, kept)


def compared(case: Case, name: str, what: str, empty: Sequence[Circuit]) -> Check:
    """The ratio of the circuit's size to that of the smallest of those that stand for nothing.

    A circuit passes where nothing of its kind is found, or only what is much larger. One without a
    node counts as one of a node: nothing is not smaller than nothing.
    """
    sizes = [size_of(case, circuit) for circuit in empty]
    real, least = size_of(case, case.circuit), min(sizes)
    n_censored = sum(circuit.censored for circuit in empty)
    own = "1 node does" if real == 1 else f"{real} nodes do"
    says = f"{own} the task; {what} {least} of {len(case.nodes)} nodes"
    if n_censored == len(empty):
        says += ", all of them: no circuit reaches the target"
    if len(sizes) > 1:
        says += f" (the smallest of {len(sizes)} searches, {n_censored} of them without success)"
    ratio = max(real, 1) / max(least, 1)
    alone = n_censored == len(empty) or ratio <= case.repeats.largest_ratio
    passes = alone and not case.circuit.censored
    size = {"nodes": least, "bits": min(_bits(case, circuit) for circuit in empty)}
    return Check(name, ratio, "ratio", f"{says}.", passes, least=size)
