"""Circuits: the smallest part of a model that still does a task, and whether it is what does it.

Weight-sparse transformers and their pruning: arXiv 2511.13653; why each control is there:
`docs/circuits.md`.
"""
