"""Shared by tests of circuits."""

import pytest
import torch


@pytest.fixture
def tokens() -> torch.Tensor:
    """Three rows of 24 tokens for the small models."""
    return torch.randint(0, 61, (3, 24), generator=torch.Generator().manual_seed(0))
