"""How long and how hard a circuit is searched for."""

from dataclasses import dataclass, replace
from math import log
from typing import Any, Literal, get_args

from pellucid.errors import UserError

Profile = Literal["quick", "paper", "headline"]
Ranking = Literal["masks", "eap", "eap_ig", "started"]
"""Trained masks; attribution alone, by EAP or by EAP-IG; masks that start from EAP-IG."""
CHANCE = log(2.0)
"""The loss, in nats, of a circuit that cannot tell the two prompts of a pair apart."""


@dataclass(frozen=True)
class Settings:
    """A search: masks are trained `restarts` times at each penalty, all of them in one pass."""

    target: float = 0.15
    """loss in nats that a circuit has to reach: 0.15 is p = 0.86, in the geometric mean"""
    steps: int = 120
    penalties: tuple[float, ...] = (1e-3, 3e-3)
    """nats that each kept node has to be worth"""
    restarts: int = 1
    drawn: int = 32
    """pairs the search sees"""
    pairs: int = 16
    """of them in a step"""
    lr: float = 2e-2
    """reached after the warm-up, and falling to 0 from there in a line"""
    warmup: float = 0.05
    """share of the steps"""
    bias: float = 0.1
    """mean of the masks at first; above 0 a node is kept"""
    noise: float = 1e-2
    """their standard deviation at first"""
    temperature: float = 0.3
    """width of the sigmoid whose slope stands for that of the step"""
    weight_decay: float = 1e-3
    beta2: float = 0.95
    clip: float = 1.0
    """largest norm of the gradient of one mask"""
    rounds: int = 2
    """times that the nodes worth the least are taken out of the best circuit"""
    exact: int = 24
    """largest circuit whose nodes are ablated one by one to see what can be taken out; in a larger
    one the slope of the loss tells"""
    frozen_norm: bool = False
    """hold every norm of the stream at its scale in the whole model"""
    ranking: Ranking = "masks"
    """what nodes are ranked by before the ranking is cut"""
    shown: int = 64
    """largest circuit of which it is written what each node is worth by ablation"""

    def __post_init__(self) -> None:
        if not 0 < self.target < CHANCE:
            raise UserError(
                f"target = {self.target!r} is not accepted: a loss in nats above 0 and below "
                f"ln 2 = {CHANCE:.3f}, which is chance"
            )
        if self.ranking not in get_args(Ranking):
            accepted = ", ".join(get_args(Ranking))
            raise UserError(f"ranking {self.ranking!r} is unknown: {accepted} are accepted")

    @property
    def copies(self) -> int:
        """Masks that are trained side by side."""
        return self.restarts * len(self.penalties)


PROFILES: dict[str, Settings] = {
    "quick": Settings(),
    # The centre of the paper's search (arXiv 2511.13653), around which it tries hundreds of values.
    "paper": Settings(
        steps=2000,
        penalties=(1e-4, 3e-4, 1e-3, 3e-3),
        restarts=4,
        drawn=256,
        pairs=64,
        lr=3e-3,
        rounds=4,
        exact=512,
        shown=512,
    ),
    # Between the two: for grids on a GPU, where every cell is searched many times over.
    "headline": Settings(
        steps=500,
        restarts=8,
        drawn=256,
        pairs=64,
        lr=1e-2,
        rounds=4,
        exact=64,
    ),
}


def settings_of(profile: str, target: float = 0.15, **more: Any) -> Settings:
    """The settings of a profile at a target, with `more` as it is told; UserError for what is none."""
    if profile not in PROFILES:
        raise UserError(f"profile {profile!r} is unknown: {' and '.join(PROFILES)} are accepted")
    return replace(PROFILES[profile], target=target, **more)
