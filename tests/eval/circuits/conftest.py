"""Shared by tests of circuits."""

import pytest
import torch
from support.small import VOCAB

from pellucid.eval.circuits.objective import Asked


@pytest.fixture
def tokens() -> torch.Tensor:
    """Three rows of 24 tokens for the small models."""
    return torch.randint(0, 61, (3, 24), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def asked() -> Asked:
    tokens = torch.randint(0, VOCAB, (4, 12), generator=torch.Generator().manual_seed(0))
    first, second = torch.tensor([3, 4, 3, 4]), torch.tensor([5, 6, 5, 6])
    return Asked(tokens, torch.tensor([11, 9, 11, 10]), first, second, torch.arange(4) < 2)
