"""The table of metrics, and how much text each suite reads."""

from collections.abc import Callable
from dataclasses import dataclass

from pellucid.eval.bits_per_byte import (
    bits_per_byte,
    bits_per_byte_overlap,
    bits_saved_over_5gram,
    bytes_per_token,
)
from pellucid.eval.score import Score
from pellucid.eval.unit_statistics import (
    living_share,
    max_active_units,
    mean_active_units,
    mean_kurtosis,
)
from pellucid.eval.workbench import Workbench

METRICS: dict[str, Callable[[Workbench], list[Score]]] = {
    "bits_per_byte": bits_per_byte,
    "bits_per_byte_overlap": bits_per_byte_overlap,
    "bits_saved_over_5gram": bits_saved_over_5gram,
    "bytes_per_token": bytes_per_token,
    "mean_active_units": mean_active_units,
    "max_active_units": max_active_units,
    "living_share": living_share,
    "mean_kurtosis": mean_kurtosis,
}
"""A metric takes a workbench and gives its scores, one for the model or one for each site."""


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Token budgets; none means all there is."""

    tokens: int | None
    """held-out tokens that the model and its twin read"""
    ngram_tokens: int | None
    """training tokens that the n-grams are fitted on"""
    shown: int = 256
    """units of each site whose contexts are kept"""


SUITES = {
    "quick": Suite(tokens=400_000, ngram_tokens=12_000_000),
    "full": Suite(tokens=None, ngram_tokens=100_000_000),
}
