"""A small model of each filling, and tokens for it."""

import pytest
import torch
from support.small import VOCAB, small_model

from pellucid.models import Transformer
from pellucid.models.attention import ATTENTIONS
from pellucid.models.mlp import MLPS


@pytest.fixture(params=list(MLPS))
def model(request) -> Transformer:
    """One model per filling of the mlp slot."""
    return small_model(request.param)


@pytest.fixture(params=list(ATTENTIONS))
def attending(request) -> Transformer:
    """One model per filling of the attention slot, with a dense MLP."""
    return small_model("dense", attention=request.param)


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(0, VOCAB, (3, 24), generator=torch.Generator().manual_seed(5))
