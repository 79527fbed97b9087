"""Sizes of circuits."""

from math import comb, log2

import pytest
import torch
from support.small import small_model

from pellucid.eval.circuits.nodes import nodes_of
from pellucid.eval.circuits.sizes import bits


def test_bits_are_summed_over_groups_and_never_fall():
    nodes = nodes_of(small_model("topk"))
    kept = torch.zeros(len(nodes), dtype=torch.bool)
    assert bits(nodes, kept) == 0
    for name in ("blocks.0.mlp:3", "blocks.0.mlp:7", "blocks.1.attn_in:0"):
        kept[nodes.number(name)] = True
    wanted = log2(comb(48, 2)) + log2(16)
    assert bits(nodes, kept) == pytest.approx(wanted)
    order, found = torch.randperm(len(nodes), generator=torch.Generator().manual_seed(0)), []
    for size in range(0, len(nodes) + 1, 16):
        kept = torch.zeros(len(nodes), dtype=torch.bool)
        kept[order[:size]] = True
        found.append(bits(nodes, kept))
    assert found == sorted(found)
    halves = [log2(comb(group.size, group.size // 2)) for group in nodes.groups]
    assert found[-1] == pytest.approx(sum(halves))
