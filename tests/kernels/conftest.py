"""Memory that a kernel allocates and forgets to write reads as NaN in every test of this folder."""

import pytest
import torch

# The first use of a device as a context notes, for the life of the process, which functions allocate.
# Made within a test of this folder, the note would hold the replaced ones and miss `torch.empty`.
with torch.device("meta"):
    torch.empty(0)


def pytest_configure(config):
    config.addinivalue_line("markers", "clean_memory: torch.empty is left as it is")


@pytest.fixture(autouse=True)
def poisoned_memory(request, monkeypatch):
    if request.node.get_closest_marker("clean_memory"):
        return

    def poisoned(allocate):
        def fill(*args, **kwargs):
            made = allocate(*args, **kwargs)
            if made.requires_grad or made.is_meta or torch.compiler.is_compiling():
                return made
            if made.is_floating_point():
                return made.fill_(float("nan"))
            return made if made.dtype == torch.bool else made.fill_(torch.iinfo(made.dtype).max)

        return fill

    for owner, name in ((torch, "empty"), (torch, "empty_like"), (torch.Tensor, "new_empty")):
        monkeypatch.setattr(owner, name, poisoned(getattr(owner, name)))
