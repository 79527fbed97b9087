"""Finding the smallest circuit of a task: masks are trained, cut to size, and rid of the useless."""

from jaxtyping import Float
from torch import Tensor, nn

from pellucid.eval.circuits.bases import Base
from pellucid.eval.circuits.circuit import Circuit
from pellucid.eval.circuits.discretise import Cut, smallest
from pellucid.eval.circuits.measured import effects, estimated_effects
from pellucid.eval.circuits.nodes import Nodes
from pellucid.eval.circuits.objective import Asked
from pellucid.eval.circuits.prune import still
from pellucid.eval.circuits.rankings import ranked
from pellucid.eval.circuits.settings import Settings


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
    seed gives the same circuit, bit for bit. Scores rank the nodes of the circuit by what each is
    worth, then those last taken out of it, then all others by their masks. With `frozen_norm` all
    of it is done, and the loss is taken, with norms at the scales of this model on these prompts.
    """
    if settings.frozen_norm:
        asked = asked.holding(model)
    about = (model, nodes, asked)
    with still(model):
        masks = ranked(*about, base, settings, seed)
        copy, cut = smallest(*about, base, masks, settings.target)
        scores = masks[copy]
        if cut.loss <= settings.target:
            for _ in range(settings.rounds):
                scores = _by_worth(*about, base, scores, cut, settings.exact)
                _, tighter = smallest(*about, base, scores[None], settings.target)
                if tighter.size == cut.size:
                    break
                cut = tighter
    return Circuit(name, cut.kept, scores, cut.loss, settings.target, cut.readout)


def _by_worth(
    model: nn.Module,
    nodes: Nodes,
    asked: Asked,
    base: Base,
    scores: Float[Tensor, " node"],
    cut: Cut,
    exact: int,
) -> Tensor:
    """Scores in which the kept nodes come first, by the rise of the loss without each."""
    if not cut.size:
        return scores
    measure = effects if cut.size <= exact else estimated_effects
    numbers, rise = measure(model, nodes, asked, cut.kept, base, cut.readout)
    place = rise.argsort(stable=True).argsort().to(scores)
    ranked = scores.clone()
    ranked[numbers] = scores.max().clamp(min=1) + 1 + place / len(place)
    return ranked
