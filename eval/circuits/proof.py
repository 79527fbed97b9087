"""What is written beside a circuit of a run: the battery of controls, and the faithful size."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from jaxtyping import Integer
from torch import Tensor, nn

from pellucid.eval.circuits import battery, faithful
from pellucid.eval.circuits.asking import fresh_pairs
from pellucid.eval.circuits.bases import Base
from pellucid.eval.circuits.battery import Case, Repeats
from pellucid.eval.circuits.battery.nonsense import NONSENSE
from pellucid.eval.circuits.circuit import Circuit
from pellucid.eval.circuits.content import Found
from pellucid.eval.circuits.find import find
from pellucid.eval.circuits.nodes import Nodes
from pellucid.eval.circuits.objective import Asked
from pellucid.eval.circuits.side_by_side import at_once, side_by_side

if TYPE_CHECKING:
    from pellucid.run import Run

Text = Sequence[Integer[Tensor, "row token"]]


def proof(run: "Run", found: Found, text: Text) -> dict[str, Any]:
    """The keys `battery` and `faithful` of a circuit's file; `text` is what means were taken over.

    As often as the profile of the search says, and with the same search. Norms are held where a
    control holds them, whatever the search did, so that sizes can be compared. On a CPU controls are
    taken side by side, each from a copy of the model.
    """
    case = case_of(run, found, text, battery.repeats_of(found.profile))
    # What takes longest first.
    fresh = fresh_pairs(run, found.asking, seed=found.seed)
    others = fresh if isinstance(fresh, str) else Asked.of(fresh, found.unseen.tokens.device)
    jobs = (partial(faithful.measure, fresh=others), *reversed(battery.CONTROLS.values()))
    workers = at_once(case.model, len(jobs))
    # A copy is made by the job itself: of a large model there are no more than workers.
    own = case.apart if workers > 1 else lambda: case
    size, *groups = side_by_side([lambda job=job: job(own()) for job in jobs], workers)
    checks = [check for group in reversed(groups) for check in group]
    ratio = next((check.value for check in checks if check.name == NONSENSE), None)
    return {
        "battery": [check.to_json() for check in checks],
        "faithful": size | {"nonsense_ratio": ratio},
    }


def case_of(run: "Run", found: Found, text: Text, repeats: Repeats) -> Case:
    """A circuit of a run, as its controls are given it."""

    def again(model: nn.Module, nodes: Nodes, asked: Asked, base: Base, seed: int) -> Circuit:
        return find(model, nodes, asked, base, found.settings, seed)

    return Case(
        model=found.model,
        nodes=found.nodes,
        circuit=found.circuit,
        asked=replace(found.searched, scales=None),
        unseen=replace(found.unseen, scales=None),
        text=text,
        find=again,
        twins=battery.twins_of(run),
        seed=found.seed,
        repeats=repeats,
        mean=found.base,
    )
