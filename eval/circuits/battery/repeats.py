"""How often each control of a circuit is repeated."""

from dataclasses import dataclass

from pellucid.errors import UserError


@dataclass(frozen=True)
class Repeats:
    """Numbers of searches, which cost as much as the circuit itself, and of passes, which are cheap.

    Also how far a circuit may fall behind before a control fails it.
    """

    searches: int = 1
    """searches for the same circuit with other seeds"""
    mappings: int = 1
    """searches for the answers that mean nothing"""
    permutations: int = 0
    """searches for answers that are dealt to the prompts by lot"""
    twins: int = 1
    """twins of each kind that are searched"""
    by_ablation: bool = False
    """search under each kind of ablation, too"""
    random_circuits: int = 20
    """circuits of the same size, drawn at random"""
    halves: int = 16
    """random halves of the rest of the model"""
    fractions: int = 5
    """points of the relaxation curve, evenly spaced in their logarithm from 0.01 to 1"""
    draws: int = 2
    """random choices at each point of a curve"""
    slack: float = 0.1
    """how far from the target to chance a loss may rise under a control: 0 not at all, 1 all the
    way"""
    largest_ratio: float = 0.5
    """how large the circuit may be in sizes of a circuit that stands for nothing"""

    def __post_init__(self) -> None:
        counts = ("random_circuits", "halves", "fractions", "draws")
        for name in counts:
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; at least 1 is accepted")


PROFILES: dict[str, Repeats] = {
    "quick": Repeats(),
    "paper": Repeats(
        searches=100,
        mappings=4,
        permutations=2,
        twins=4,
        by_ablation=True,
        random_circuits=1000,
        fractions=13,
        draws=32,
    ),
    "headline": Repeats(random_circuits=100, draws=8),
}


def repeats_of(profile: str) -> Repeats:
    """The numbers of a profile; UserError for one that there is not."""
    if profile not in PROFILES:
        raise UserError(f"profile {profile!r} is unknown: {' and '.join(PROFILES)} are accepted")
    return PROFILES[profile]
