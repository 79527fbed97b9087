"""Units against concept labels: which unit tells which label, how well, and whether it does alone."""

from pellucid.eval.concepts.scores import CONCEPTS

__all__ = ["CONCEPTS"]
