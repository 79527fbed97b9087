"""Configurations to start from: a preset is a function that returns a `RunConfig`."""

from pellucid.config import RunConfig, TrainConfig
from pellucid.data import CORPORA, DataConfig
from pellucid.models import ModelConfig
from pellucid.models.attention import ATTENTIONS
from pellucid.models.head import HEADS
from pellucid.models.mlp.topk import TopKMLP


def tiny() -> RunConfig:
    """0.9M parameters on the standard library's source: minutes on two CPU cores."""
    return RunConfig(
        preset="tiny",
        data=DataConfig(vocab_size=1024),
        model=ModelConfig(
            n_layers=2, d_model=128, context=256, mlp=TopKMLP.Config(width=1024, k=32)
        ),
        train=TrainConfig(steps=3200, batch=8, lr=3e-3, eval_every=400, checkpoint_every=400),
    )


def small() -> RunConfig:
    """10M parameters on the standard library's source: minutes on one GPU."""
    return RunConfig(
        preset="small",
        data=DataConfig(vocab_size=8192),
        model=ModelConfig(
            n_layers=6,
            d_model=256,
            context=512,
            dropout=0.1,
            mlp=TopKMLP.Config(width=2048, k=32),
            attention=ATTENTIONS["softmax"].Config(n_heads=8),
            head=HEADS["unembed"].Config(tied=True),
        ),
        train=TrainConfig(steps=3000, batch=32, lr=2e-3, precision="bf16", compile=True),
    )


def base() -> RunConfig:
    """GPT-2-small's size: 12 layers of width 768, 12 heads, 3072 units a layer, 1024 tokens.

    50,304 tokens, tied: 123.6M parameters (GPT-2 small has 124.4M, of which 0.8M are the learned
    positions that rotary ones replace), and as many with `mlp=dense`. 2.5G tokens, 20 for each
    parameter: give it a text of that size with `data=hf data.name=...`; alone it reads what is
    installed here, many times over.
    """
    return RunConfig(
        preset="base",
        data=DataConfig(corpus=CORPORA["python+site"].Config(), vocab_size=50_304),
        model=ModelConfig(
            n_layers=12,
            d_model=768,
            context=1024,
            mlp=TopKMLP.Config(width=3072, k=64),
            attention=ATTENTIONS["softmax"].Config(n_heads=12),
            head=HEADS["unembed"].Config(tied=True),
        ),
        train=TrainConfig(
            steps=19_000,
            batch=128,
            micro_batch=16,
            lr=1e-3,
            precision="bf16",
            compile=True,
            eval_tokens=1_048_576,
            eval_every=500,
            checkpoint_every=500,
        ),
    )
