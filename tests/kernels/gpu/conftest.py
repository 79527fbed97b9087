"""Where the Triton kernels run in these tests: on a GPU if there is one, else in the interpreter."""

import pytest
import torch


@pytest.fixture
def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
