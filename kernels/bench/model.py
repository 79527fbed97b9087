"""Whole training steps of a model of the preset `small`'s size: top-k layers beside dense ones."""

from typing import Any

import torch
import torch.nn.functional as F

from pellucid.kernels.bench.session import Bench
from pellucid.kernels.bench.timing import Variant

LAYERS, D_MODEL, HEADS, CONTEXT, VOCABULARY = 6, 256, 8, 512, 8192
BATCH, K, EXPANSION = 32, 32, 16
KEY = "model/small"


def measure(bench: Bench) -> None:
    """`model/small`: top-k of width 16 d beside the dense layer of width 4 d, in tokens per second."""
    print(f"{LAYERS} layers, d {D_MODEL}, {BATCH} rows of {CONTEXT} tokens")
    with bench.guarded(KEY):
        configs = _configs()
        variants = {name: _step(bench, mlp) for name, mlp in configs.items()}
        bench.table(KEY, variants, needs={"top-k, 16 d": ("topk_mlp",)})
        for name in configs:
            if milliseconds := bench.record.ms(f"{KEY}/{name}/whole"):
                rate = 1e3 * BATCH * CONTEXT / milliseconds
                bench.record.value(f"{KEY}/{name}/rate", "tokens_s", rate)
                print(f"  {name}: {rate:.0f} tokens per second")


def _configs() -> dict[str, Any]:
    # The models need what the kernels do not: einops and jaxtyping.
    from pellucid.models.mlp.dense import DenseMLP
    from pellucid.models.mlp.topk import TopKMLP

    return {
        "top-k, 16 d": TopKMLP.Config(width=EXPANSION * D_MODEL, k=K),
        "dense, 4 d": DenseMLP.Config(),
    }


def _step(bench: Bench, mlp: Any) -> Variant:
    from pellucid.models import ModelConfig, Transformer
    from pellucid.models.attention import ATTENTIONS
    from pellucid.models.head import HEADS as UNEMBEDDINGS

    attention = ATTENTIONS["softmax"].Config(n_heads=HEADS)
    head = UNEMBEDDINGS["unembed"].Config(tied=True)
    sizes = {"n_layers": LAYERS, "d_model": D_MODEL, "context": CONTEXT}
    config = ModelConfig(mlp=mlp, attention=attention, head=head, **sizes)
    model = Transformer(config, vocab_size=VOCABULARY, seed=0).to(bench.device)
    if bench.device.type == "cuda":
        model.compile_blocks()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    tokens = torch.randint(VOCABULARY, (BATCH, CONTEXT + 1), device=bench.device)

    def forward(_: int) -> torch.Tensor:
        with torch.autocast(bench.device.type, bench.dtype):
            logits = model(tokens[:, :-1]).logits
        return F.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())

    def backward(loss: torch.Tensor) -> None:
        loss.backward()

    def update(_: None) -> None:
        optimizer.step()
        optimizer.zero_grad()

    return {"forward": forward, "backward": backward, "update": update}
