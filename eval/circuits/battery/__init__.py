"""The battery: controls that a circuit has to stand before it is said to be what does a task.

What each answers, and when it misleads: `docs/circuit-controls.md`.
"""

from collections.abc import Callable

from pellucid.eval.circuits.battery.ablations import ablations
from pellucid.eval.circuits.battery.case import Case, Finder
from pellucid.eval.circuits.battery.check import Check
from pellucid.eval.circuits.battery.interchange import interchange
from pellucid.eval.circuits.battery.necessity import necessity
from pellucid.eval.circuits.battery.nonsense import nonsense
from pellucid.eval.circuits.battery.norms import frozen_norm
from pellucid.eval.circuits.battery.overlap import overlap
from pellucid.eval.circuits.battery.random_circuits import random_circuits
from pellucid.eval.circuits.battery.relaxation import relaxation
from pellucid.eval.circuits.battery.repeats import Repeats, repeats_of
from pellucid.eval.circuits.battery.twins import twins, twins_of
from pellucid.eval.circuits.battery.weight_ablation import weight_ablation

__all__ = ["CONTROLS", "Case", "Check", "Finder", "Repeats", "repeats_of", "twins_of"]

CONTROLS: dict[str, Callable[[Case], list[Check]]] = {
    "ablations": ablations,
    "frozen_norm": frozen_norm,
    "relaxation": relaxation,
    "random_circuits": random_circuits,
    "necessity": necessity,
    "weight_ablation": weight_ablation,
    "interchange": interchange,
    "nonsense": nonsense,
    "twins": twins,
    "overlap": overlap,
}
"""In the order of what they cost: from `nonsense` on each searches for circuits anew. The same case
gives the same checks, whatever other controls are taken."""
