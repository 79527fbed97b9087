"""A small run on generated text: untrained, which is enough to score."""

from functools import cache
from types import SimpleNamespace

import pytest
import torch

from pellucid import cli
from pellucid.data import CORPORA, DataConfig, TokenData, prepare
from pellucid.errors import EXIT_OK
from pellucid.eval import Score, evaluate
from pellucid.eval.processes import begun
from pellucid.models import ModelConfig, Transformer
from pellucid.models.mlp import MLPS
from pellucid.run import Run, RunFolder

SEED = 3
UNITS = ("mean_active_units", "max_active_units", "living_share", "mean_kurtosis")
WORDS = (
    "tiny mlp=topk mlp.width=48 mlp.k=5 n_layers=2 d_model=16 attention.n_heads=2 context=64 "
    "data=generated data.n_documents=60 data.vocab_size=300 train.steps=2 train.batch=2"
).split()


@pytest.fixture(scope="session")
def generated_data(tmp_path_factory) -> TokenData:
    """64 documents of generated text, about 14 of them held out; 300 tokens of byte-level BPE."""
    corpus = CORPORA["generated"].Config(n_documents=64)
    config = DataConfig(corpus=corpus, vocab_size=300, val_fraction=0.2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PELLUCID_CACHE", str(tmp_path_factory.mktemp("cache")))
        return prepare(config, progress=False)


@pytest.fixture(scope="session", autouse=True)
def few_rules():
    """Rules of few units: whole evaluations are about more than rules."""
    with pytest.MonkeyPatch.context() as patch:
        few = lambda bench: None if bench.rules.sampled is None else 2
        patch.setattr("pellucid.eval.rules.scores._most", few)
        yield


@pytest.fixture
def two_threads():
    """As many as a thread, or a process, beside this one needs."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def make_run(generated_data, tmp_path_factory):
    """make_run(mlp) is a run in a folder of its own; its weights are not those of its step 0."""

    def make(mlp: str = "topk", *, width: int = 64, n_layers: int = 2) -> Run:
        fields = {"width": width} if mlp == "dense" else {"width": width, "k": 5}
        model = ModelConfig(
            n_layers=n_layers, d_model=16, context=32, mlp=MLPS[mlp].Config(**fields)
        )
        config = SimpleNamespace(model=model, seed=SEED)
        trained = Transformer(model, vocab_size=generated_data.vocab_size, seed=SEED + 1).eval()
        folder = RunFolder(tmp_path_factory.mktemp(mlp))
        run = Run(folder, config, 40, trained, generated_data.tokenizer)
        run.__dict__["data"] = generated_data
        return run

    return make


@pytest.fixture(scope="session")
def scored(make_run):
    """scored(mlp) is such a run and its scores, evaluated once for all tests that only look.

    Of `topk` and `dense` all of `quick`, of other families what is counted of their units.
    """

    @cache
    def score(mlp: str = "topk") -> tuple[Run, list[Score]]:
        run, counted = make_run(mlp), None if mlp in ("topk", "dense") else UNITS
        return run, evaluate(run, metrics=counted, progress=False)

    return score


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A run of two steps that another process can load."""
    path = tmp_path_factory.mktemp("saved") / "run"
    assert cli.main(["train", *WORDS, f"run={path}"]) == EXIT_OK
    return path


@pytest.fixture(scope="module")
def other():
    """Another process, for all tests of a file."""
    with begun(1):
        yield
