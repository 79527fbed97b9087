"""The model that coders are part of: the dense run's own, but for its MLPs."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pellucid.config import RunConfig
from pellucid.errors import RunError
from pellucid.models import ModelConfig, Transformer
from pellucid.models.mlp import MLPS
from pellucid.models.mlp.sae import AutoencoderMLP
from pellucid.models.stream import STREAMS
from pellucid.posthoc.config import PosthocConfig
from pellucid.run import Run
from pellucid.settings import fields

FILLING = {
    "transcoder": ("topk", "batch_topk"),
    "skip_transcoder": ("skip_topk", "skip_batch_topk"),
    "sae": ("sae", "sae_batch_topk"),
    "matryoshka": ("sae", "sae_batch_topk"),
    "crosslayer_transcoder": ("crosslayer", "crosslayer_batch_topk"),
}
"""What fills the mlp slot, or the stream slot, once coders of a kind are spliced in, by rule."""
MOMENTUM = 0.9
"""Of batch_topk's threshold: at the end of a fit, when the rate falls, ten steps are enough."""
ACROSS = "crosslayer_transcoder"
"""The kind whose coders write to several layers, which is a filling of the stream slot."""


def check(model: ModelConfig, name: str) -> None:
    """Raise RunError unless every layer of a run has a dense MLP that a coder can stand for."""
    if model.stream.builds is not STREAMS["residual"]:
        tag = fields.tag_of(STREAMS, model.stream)
        raise RunError(f"{name} has stream={tag}; stream=residual is accepted")
    if model.site_sparsity.where:
        raise RunError(f"{name} has site_sparsity; a run without it is accepted")
    for layer in range(model.n_layers):
        mlp = model.filling("mlp", layer)
        if mlp.builds is not MLPS["dense"]:
            tag = fields.tag_of(MLPS, mlp)
            raise RunError(
                f"{name} is not dense: its layer {layer} has mlp={tag}; "
                f"coders are fitted to a run with mlp=dense in every layer"
            )


def spliced_config(model: ModelConfig, config: PosthocConfig) -> ModelConfig:
    """The dense model's configuration with a coder in every layer.

    Raises ConfigError where k is more than the width.
    """
    layered = {k: v for k, v in model.per_layer.items() if not k.startswith("mlp@")}
    by_batch = config.rule == "batch_topk"
    tag = FILLING[config.kind][by_batch]
    about: dict[str, Any] = {"k": config.k, "width": config.width}
    about |= {"momentum": MOMENTUM} if by_batch else {}
    if config.kind == ACROSS:
        return model.replace(stream=STREAMS[tag].Config(**about), per_layer=layered)
    for layer in range(model.n_layers):
        dense = model.filling("mlp", layer)
        if issubclass(MLPS[tag], AutoencoderMLP):
            about |= {"activation": dense.activation, "hidden": dense.width}
        layered[f"mlp@{layer}"] = MLPS[tag].Config(**about)
    first = layered["mlp@0"]
    if all(layered[f"mlp@{layer}"] == first for layer in range(model.n_layers)):
        layered = {k: v for k, v in layered.items() if not k.startswith("mlp@")}
    return model.replace(mlp=first, per_layer=layered)


def fitted_config(config: RunConfig, fitted: PosthocConfig, source: str) -> RunConfig:
    """A dense run's configuration with coders; it names the run, whose labels it has seen too."""
    train = config.train.replace(
        steps=fitted.steps + fitted.kl_steps,
        batch=fitted.batch,
        micro_batch=None,
        world_size=None,
        lr=fitted.lr,
        init_from=source,
        teacher=source if fitted.kl_steps else None,
        losses=(),
    )
    model = spliced_config(config.model, fitted)
    return config.replace(preset="custom", model=model, train=train)


@torch.no_grad()
def splice(run: Run, config: PosthocConfig) -> Transformer:
    """A model with the run's weights and untrained coders, in evaluation mode, on its device."""
    model = spliced_config(run.config.model, config)
    weight = next(run.model.parameters())
    spliced = Transformer(model, vocab_size=run.model.vocab_size, seed=config.seed)
    spliced = spliced.to(weight.device, weight.dtype).eval()
    theirs = run.model.state_dict()
    for name, value in spliced.state_dict().items():
        value.copy_(theirs.get(name.replace(".mlp.dense.", ".mlp."), value))
    return spliced


def coder_parameters(mlp: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The parameters of a spliced layer that are the coder's, by name."""
    return {n: p for n, p in mlp.named_parameters() if not n.startswith("dense.")}


def learned(mlp: torch.nn.Module, config: PosthocConfig) -> list[torch.nn.Parameter]:
    """The coder's parameters that are fitted: all but the matrix that is frozen."""
    fixed = {"none": "", "decoder": "w_dec", "encoder": "w_enc"}[config.frozen]
    return [p for name, p in coder_parameters(mlp).items() if name != fixed]


def at_layers(written: Sequence[Tensor], d_model: int) -> list[Tensor]:
    """What each layer's MLP output becomes, of what each coder wrote for its own and later layers.

    `written[l]` is `(batch, token, reach x d_model)`; the sums are `(batch, token, d_model)`.
    """
    sums: list[Tensor] = []
    for layer, one in enumerate(written):
        for distance, part in enumerate(one.split(d_model, dim=-1)):
            if layer + distance < len(sums):
                sums[layer + distance] = sums[layer + distance] + part
            else:
                sums.append(part)
    return sums
