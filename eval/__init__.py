"""Scores of a run, capability and interpretability, each beside its controls.

A metric is one function in one file, listed in `suite.METRICS`. It sees models only through their
sites, recording, directions and forward pass, by way of the passes that a `Reader` makes.
"""

from pellucid.eval.elsewhere import random_twin
from pellucid.eval.evaluate import evaluate, workbench
from pellucid.eval.ngram import NGram
from pellucid.eval.score import Score
from pellucid.eval.suite import METRICS, SUITES

__all__ = ["METRICS", "SUITES", "NGram", "Score", "evaluate", "random_twin", "workbench"]
