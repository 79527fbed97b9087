"""The table of metrics, and how much text each suite reads."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from pellucid.eval.bits_per_byte import (
    bits_per_byte,
    bits_per_byte_given_up,
    bits_per_byte_overlap,
    bits_saved_over_5gram,
    bytes_per_token,
)
from pellucid.eval.capability.calibration import calibration
from pellucid.eval.capability.cross_entropy_by_class import cross_entropy_by_class
from pellucid.eval.capability.identifier_recall import identifier_recall
from pellucid.eval.capability.induction import induction
from pellucid.eval.capability.minimal_pairs import minimal_pairs
from pellucid.eval.capability.sample_validity import sample_validity
from pellucid.eval.capability.tasks import tasks, tasks_quick
from pellucid.eval.causal.metrics import CAUSAL
from pellucid.eval.concepts import CONCEPTS
from pellucid.eval.consistency import seed_consistency_scores
from pellucid.eval.controls import CONTROLS
from pellucid.eval.latents.interchange import latent_interchange
from pellucid.eval.latents.recovery import belief_mcc, latent_auroc, latent_f1, latent_mcc
from pellucid.eval.latents.regret import regret
from pellucid.eval.rules.limits import ALL_UNITS, DRAWN, Limits
from pellucid.eval.rules.purities import output_purities
from pellucid.eval.rules.scores import (
    description_lengths,
    explained_loss_scores,
    intruder_scores,
    monosemantic_share,
    rule_scores,
)
from pellucid.eval.rules.token_entropy import token_entropies
from pellucid.eval.score import Score
from pellucid.eval.unit_statistics import (
    living_share,
    max_active_units,
    mean_active_units,
    mean_kurtosis,
)
from pellucid.eval.workbench import Workbench

QUICK, STANDARD, FULL = ("quick", "standard", "full"), ("standard", "full"), ("full",)
"""Suites that a metric can be part of: what is in one is in those after it."""
EVERY = ("smoke", *QUICK)
SINCE = {"quick": QUICK, "standard": STANDARD, "full": FULL}

RULED = ("labels:dev",)
"""Rules may ask for labels of this family."""
LOSS = ("loss",)
"""All that the metric says is the held-out loss, or rises and falls with it."""


class Metric(NamedTuple):
    """One line of the table."""

    measure: Callable[[Workbench], list[Score]]
    """takes a workbench and gives its scores, one for the model or one for each site"""
    suites: tuple[str, ...] = STANDARD
    """suites that it runs in; one of none runs where it is asked for"""
    uses: tuple[str, ...] = ()
    """`labels`, `tasks` or the held-out `loss`, of the family that goes with the split; or one
    family: `labels:loop`"""
    alone: bool = False
    """looks at models alone, not at what units did on the stream: another process may take it"""
    loss: tuple[str, ...] = ()
    """single scores of several, and controls beside them, that are the held-out loss, or rise and fall
    with it, by name"""


METRICS: dict[str, Metric] = {
    "bits_per_byte": Metric(bits_per_byte, EVERY, LOSS),
    "bits_per_byte_given_up": Metric(bits_per_byte_given_up, QUICK, LOSS),
    "bits_per_byte_overlap": Metric(bits_per_byte_overlap, QUICK, LOSS),
    "bits_saved_over_5gram": Metric(bits_saved_over_5gram, EVERY, LOSS),
    "bytes_per_token": Metric(bytes_per_token, QUICK),
    "mean_active_units": Metric(mean_active_units, EVERY),
    "max_active_units": Metric(max_active_units, QUICK),
    "living_share": Metric(living_share, EVERY),
    "mean_kurtosis": Metric(mean_kurtosis, QUICK),
    "rule": Metric(rule_scores, QUICK, RULED),
    "explained_loss": Metric(explained_loss_scores, uses=RULED, loss=("explained_loss_nats_full",)),
    "monosemantic_share": Metric(monosemantic_share, uses=RULED),
    "description_length": Metric(description_lengths, QUICK),
    "output_purity": Metric(output_purities, QUICK),
    "intruder": Metric(intruder_scores, QUICK),
    "token_entropy": Metric(token_entropies),
    "regret": Metric(regret, QUICK, LOSS),
    "latent_f1": Metric(latent_f1),
    "latent_auroc": Metric(latent_auroc),
    "latent_mcc": Metric(latent_mcc),
    "belief_mcc": Metric(belief_mcc),
    "latent_interchange": Metric(latent_interchange),
    "seed_consistency": Metric(seed_consistency_scores, ()),
    "tasks_quick": Metric(tasks_quick, ("quick",), uses=("tasks",)),
    "tasks": Metric(tasks, uses=("tasks",), alone=True),
    "minimal_pairs": Metric(minimal_pairs, alone=True),
    "cross_entropy_by_class": Metric(
        cross_entropy_by_class, QUICK, loss=("cross_entropy_by_class",)
    ),
    "identifier_recall": Metric(identifier_recall, QUICK),
    "induction": Metric(induction, alone=True),
    "calibration": Metric(calibration, alone=True),
    "sample_validity": Metric(sample_validity, alone=True),
    **{name: Metric(c.measure, SINCE[c.since], c.uses) for name, c in CONCEPTS.items()},
    **{name: Metric(*line) for name, line in CAUSAL.items()},
}


@dataclass(frozen=True, kw_only=True)
class Suite:
    """How much is read and looked at; none means all there is."""

    tokens: int | None
    """held-out tokens that the model and its controls read"""
    ngram_tokens: int | None
    """training tokens that the n-grams are fitted on"""
    shown: int = 256
    """units of each site whose contexts are kept"""
    rules: Limits = DRAWN
    """units that are given rules"""
    controls: tuple[str, ...] = CONTROLS
    """controls that are made"""
    shared: bool = True
    """whether jobs are shared with further processes, which take seconds to begin"""


QUICKLY_MADE = ("random_twin", "rotated_units", "dense_neurons")
"""Controls of the quick suite: each further one costs another reading, or another set of units."""
SUITES = {
    # For grids of many cells that nothing is to be learned from but that they work.
    "smoke": Suite(
        tokens=32_768, ngram_tokens=1_000_000, shown=16, controls=QUICKLY_MADE[:1], shared=False
    ),
    "quick": Suite(
        tokens=98_304,
        ngram_tokens=4_000_000,
        controls=QUICKLY_MADE,
    ),
    "standard": Suite(tokens=200_000, ngram_tokens=12_000_000),
    "full": Suite(tokens=None, ngram_tokens=100_000_000, rules=ALL_UNITS),
}
