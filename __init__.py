"""Pellucid trains transformers that are interpretable by construction, and tests whether they are."""

__version__ = "0.1.0"
