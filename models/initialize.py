"""The one function that owns initial values."""

import torch
from torch import Tensor, nn

READS = ("w_in", "w_up", "w_enc", "w_q", "w_k", "w_v")
WRITES = ("w_out", "w_dec", "w_o")


@torch.no_grad()
def initialize(model: nn.Module, seed: int) -> None:
    """Draw every random initial value, in the order of the parameters' names.

    Reading matrices have variance 1 / d_model, so that a normalized input gives unit-normal
    pre-activations. Writing matrices are divided by the filling's `write_scale`, its root active
    fan-in, and by √(2 n_layers), so that the blocks together add about unit variance to the
    stream, the same for every filling, width and sparsity. Embeddings have that variance when
    untied; an untied unembedding is small, so that the first loss is close to log(vocabulary).
    Gains start at 1, biases at 0. A filling may declare the deviation of parameters of its own, and
    fillings and heads set last what is made of others. A stream may have embeddings start shorter.
    """
    generator = torch.Generator().manual_seed(seed)
    scales, declared = _write_scales(model), _declared(model)
    d_model, n_writes = model.config.d_model, 2 * model.config.n_layers
    for name, parameter in sorted(model.named_parameters()):
        owner, _, kind = name.rpartition(".")
        if name in declared:
            _normal(parameter, declared[name], generator)
        elif kind in READS:
            _normal(parameter, d_model**-0.5, generator)
        elif kind in WRITES:
            _normal(parameter, n_writes**-0.5 / scales[owner], generator)
        elif owner in ("embedding", "position"):
            std = d_model**-0.5 if model.head.config.tied else model.blocks[0].embedding_std()
            _normal(parameter, std, generator)
        elif name == "head.weight":
            _normal(parameter, 0.1 * d_model**-0.5, generator)
    for module in model.modules():
        if hasattr(module, "after_drawing"):
            module.after_drawing()


def _write_scales(model: nn.Module) -> dict[str, float]:
    return {
        name: module.write_scale()
        for name, module in model.named_modules()
        if hasattr(module, "write_scale")
    }


def _declared(model: nn.Module) -> dict[str, float]:
    return {
        f"{owner}.{name}": std
        for owner, module in model.named_modules()
        if hasattr(module, "initial_std")
        for name, std in module.initial_std().items()
    }


def _normal(parameter: Tensor, std: float, generator: torch.Generator) -> None:
    """Drawn in float32 on the CPU, so that every device and dtype starts from the same numbers."""
    if parameter.is_meta:
        return
    parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)
