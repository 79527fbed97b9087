"""Finding the smallest circuit of a task: masks are trained, cut to size, and rid of the useless."""

from jaxtyping import Float
from torch import Tensor, nn

from pellucid.eval.circuits.bases import Base
from pellucid.eval.circuits.circuit import Circuit
from pellucid.eval.circuits.discretise import Cut, smallest
from pellucid.eval.circuits.measured import effects
from pellucid.eval.circuits.nodes import Nodes
from pellucid.eval.circuits.objective import Asked
from pellucid.eval.circuits.prune import still, trained_masks
from pellucid.eval.circuits.settings import Settings

KEPT = 2.0
"""Added to the scores of kept nodes, above all others, which are at most 1."""


def find(
    model: nn.Module,
    nodes: Nodes,
    asked: Asked,
    base: Base,
    settings: Settings,
    seed: int,
    name: str = "task",
) -> Circuit:
    """The smallest circuit found whose loss on these prompts is at most the target.

    The whole model where there is none: the circuit is then censored, and not left out. The same
    seed gives the same circuit, bit for bit. Scores rank kept nodes by what each is worth, in front
    of all others in the order of their masks.
    """
    with still(model):
        masks = trained_masks(model, nodes, asked, base, settings, seed)
        copy, cut = smallest(model, nodes, asked, base, masks, settings.target)
        scores = masks[copy]
        for _ in range(settings.rounds if cut.loss <= settings.target else 0):
            ranked = _worth(model, nodes, asked, base, scores, cut)
            _, tighter = smallest(model, nodes, asked, base, ranked[None], settings.target)
            if tighter.size >= cut.size:
                break
            cut = tighter
        if cut.loss <= settings.target:
            scores = _worth(model, nodes, asked, base, scores, cut)
    return Circuit(name, cut.kept, scores, cut.loss, settings.target, cut.readout)


def _worth(
    model: nn.Module,
    nodes: Nodes,
    asked: Asked,
    base: Base,
    scores: Float[Tensor, " node"],
    cut: Cut,
) -> Tensor:
    """Scores in which the kept nodes come first, by the rise of the loss without each."""
    if not cut.size:
        return scores
    numbers, rise = effects(model, nodes, asked, cut.kept, base, cut.readout)
    place = rise.argsort(stable=True).argsort(stable=True)
    ranked = scores.clone()
    ranked[numbers] = KEPT + place.to(ranked) / len(numbers)
    return ranked
