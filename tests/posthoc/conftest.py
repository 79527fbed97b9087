"""Dense models that coders are fitted to: one trained for a few steps, one planted."""

from pathlib import Path

import pytest
import torch

from pellucid.experiments import run_config
from pellucid.models import ModelConfig, Transformer
from pellucid.models.mlp import MLPS
from pellucid.run import Run, load
from pellucid.train import train

SIZE = (
    "data=generated data.n_documents=120 data.vocab_size=300 d_model=16 context=32 "
    "attention.n_heads=2 mlp.width=32 train.steps=8 train.lr=1e-2 train.eval_tokens=512 "
    "train.device=cpu"
)


@pytest.fixture(scope="session")
def dense_folder(tmp_path_factory) -> Path:
    """A dense run of eight steps on generated text."""
    folder = tmp_path_factory.mktemp("runs") / "dense"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PELLUCID_CACHE", str(tmp_path_factory.mktemp("cache")))
        assert train(run_config(["tiny", "mlp=dense", *SIZE.split()]), folder) == 0
        load(folder).data.verify()
        yield folder


@pytest.fixture
def dense(dense_folder) -> Run:
    """The same, opened anew."""
    return load(dense_folder)


@pytest.fixture
def planted() -> Transformer:
    """Two layers whose MLPs are 8 relu neurons, which is what a transcoder can be."""
    mlp = MLPS["dense"].Config(activation="relu", width=8)
    model = Transformer(ModelConfig(n_layers=2, d_model=16, context=32, mlp=mlp), vocab_size=40)
    with torch.no_grad():
        for block in model.blocks:
            block.mlp.b_out += 3.0  # a mean, which explained variance must not count
        model.head.weight *= 20  # so that what the layers write shows in the predictions
    return model.eval()
