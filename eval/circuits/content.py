"""What is written of a circuit: `circuits/<task>.json`."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pellucid.eval.circuits.asking import Asking, accuracy
from pellucid.eval.circuits.bases import Base
from pellucid.eval.circuits.circuit import Circuit, Placed
from pellucid.eval.circuits.measured import fitted, margins_of_many
from pellucid.eval.circuits.nodes import Grain, Nodes
from pellucid.eval.circuits.objective import Asked, margins_of
from pellucid.eval.circuits.settings import CHANCE, Settings
from pellucid.eval.circuits.shown import example_of, nodes_in
from pellucid.eval.circuits.sizes import bits

FORMAT = 1


@dataclass(frozen=True)
class Found:
    """A circuit, and all that it was found with."""

    model: nn.Module
    nodes: Nodes
    asking: Asking
    searched: Asked
    unseen: Asked
    base: Base
    circuit: Circuit
    settings: Settings
    profile: str
    grain: Grain
    step: int
    seed: int

    @property
    def placed(self) -> Placed:
        """The circuit on the prompts that it was searched on."""
        return Placed(self.model, self.nodes, self.circuit, self.searched, self.base)


def content(found: Found, tokenizer: Any) -> dict[str, Any]:
    """A circuit as JSON: what was asked for, losses in nats, sizes, nodes, and one example.

    What others add has keys of its own: edges, the battery, the faithful size.
    """
    circuit, kept = found.circuit, found.circuit.kept
    listed, reasons = nodes_in(found, tokenizer)
    return {
        "format": FORMAT,
        "task": found.asking.name,
        "cue": found.asking.cue,
        "prompts": found.asking.fingerprint,
        "distance": found.asking.searched.distance,
        "step": found.step,
        "profile": found.profile,
        "seed": found.seed,
        "grain": found.grain,
        "ablation": "mean",
        "frozen_norm": found.settings.frozen_norm,
        "ranking": found.settings.ranking,
        "target": circuit.target,
        "censored": circuit.censored,
        "candidates": len(found.nodes),
        **_scores(found),
        "readout": {"scale": circuit.readout.scale, "shift": circuit.readout.shift},
        "sizes": {"nodes": circuit.size, "bits": bits(found.nodes, kept)},
        "reasons": reasons,
        "nodes": listed,
        "example": example_of(found, tokenizer),
    }


@torch.no_grad()
def _scores(found: Found) -> dict[str, dict[str, float]]:
    """Losses and accuracies of the model as it is, and of the circuit at its readout.

    With nothing kept the readout is the best there is for it.
    """
    about, readout = (found.model, found.nodes), found.circuit.readout
    searched, unseen = found.searched, found.unseen
    kept = found.circuit.kept[None]
    whole, afresh = margins_of(*about, searched), margins_of(*about, unseen)
    left = margins_of_many(*about, searched, torch.zeros_like(kept), found.base)[0]
    (held,) = margins_of_many(*about, unseen, kept, found.base)
    moved: Tensor = held * readout.scale + readout.shift
    return {
        "losses": {
            "model": float(searched.loss(whole)),
            "model_unseen": float(unseen.loss(afresh)),
            "circuit": found.circuit.loss,
            "circuit_unseen": float(unseen.loss(held, readout)),
            "empty": float(searched.loss(left, fitted(searched, left))),
            "chance": CHANCE,
        },
        "accuracy": {
            "model": accuracy(searched, whole),
            "model_unseen": accuracy(unseen, afresh),
            "circuit_unseen": accuracy(unseen, moved),
        },
    }
