"""Whole models against the authors' own, weights copied across: logits and gradients."""

import pytest
import torch
from support.originals import Naming, Values, fill, recorded, same, same_gradients
from torch import Tensor

from pellucid.models import ModelConfig, Transformer
from pellucid.models.attention import ATTENTIONS
from pellucid.models.head import HEADS
from pellucid.models.mlp import MLPS
from pellucid.models.norm import NORMS
from pellucid.models.position import POSITIONS
from pellucid.models.sparsity import SPARSITIES
from pellucid.models.stream import STREAMS

VOCAB, CONTEXT = 20, 12


def check(name: str, config: ModelConfig, naming: Naming, gradients: int, tolerance: float):
    """Logits and gradients of our model with the original's weights, by both paths."""
    original = recorded(name)
    model = Transformer(config, vocab_size=VOCAB).double().eval()
    fill(model, naming(original.weights))
    logits = model(original.inputs["tokens"]).logits
    same(f"{name}: logits", logits, original.output, tolerance)
    (logits * original.inputs["probe"]).sum().backward()
    same_gradients(model, naming(original.gradients), gradients, 20 * tolerance)


def config(*, norm: str, eps: float, position: str = "learned", **slots) -> ModelConfig:
    """Two layers of width 16."""
    return ModelConfig(
        n_layers=2,
        d_model=16,
        context=CONTEXT,
        norm=NORMS[norm].Config(eps=eps),
        position=POSITIONS[position].Config(),
        **slots,
    )


def attention(values: Values, theirs: str, *, transposed: bool) -> dict[str, Tensor]:
    """GPT-2's `c_attn`, which is all three projections at once, and `c_proj`."""
    joined, out = values[f"{theirs}.c_attn.weight"], values[f"{theirs}.c_proj.weight"]
    if transposed:
        joined, out = joined.T, out.T
    matrices = dict(zip(("w_q", "w_k", "w_v"), joined.chunk(3), strict=True)) | {"w_o": out}
    biases = values[f"{theirs}.c_attn.bias"].chunk(3)
    return (
        matrices
        | dict(zip(("b_q", "b_k", "b_v"), biases, strict=True))
        | {"b_o": values[f"{theirs}.c_proj.bias"]}
    )


def mlp(values: Values, theirs: str, *, transposed: bool) -> dict[str, Tensor]:
    read, write = values[f"{theirs}.c_fc.weight"], values[f"{theirs}.c_proj.weight"]
    if transposed:
        read, write = read.T, write.T
    return {
        "w_in": read,
        "b_in": values[f"{theirs}.c_fc.bias"],
        "w_out": write.T,
        "b_out": values[f"{theirs}.c_proj.bias"],
    }


def under(prefix: str, values: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": value for name, value in values.items()}


def norm(values: Values, ours: str, theirs: str, *, bias: bool) -> dict[str, Tensor]:
    parts = ("weight", "bias") if bias else ("weight",)
    return {f"{ours}.{part}": values[f"{theirs}.{part}"] for part in parts}


def weight_sparse(values: Values) -> dict[str, Tensor]:
    ours = {
        "embedding.weight": values["transformer.wte.weight"],
        "position.weight": values["transformer.wpe.weight"],
        "head.weight": values["lm_head.weight"],
        "head.bigram": trained_rows(values),
        **norm(values, "norm", "transformer.ln_f", bias=False),
    }
    for layer in range(2):
        block, theirs = f"blocks.{layer}", f"transformer.h.{layer}"
        ours |= norm(values, f"{block}.attention_norm", f"{theirs}.ln_1", bias=False)
        ours |= norm(values, f"{block}.mlp_norm", f"{theirs}.ln_2", bias=False)
        ours |= under(f"{block}.attention", attention(values, f"{theirs}.attn", transposed=False))
        ours[f"{block}.attention.sink"] = values[f"{theirs}.attn.attn_imp.sink_logit"]
        ours |= under(f"{block}.mlp", mlp(values, f"{theirs}.mlp", transposed=False))
    return ours


def trained_rows(values: Values) -> Tensor:
    """The bigram table. The original calls its last row padding, and never trains it."""
    table = values["bigram_table"].clone()
    if values.shapes is not None:
        table[-1] = torch.nan
    return table


def backpack(values: Values) -> dict[str, Tensor]:
    gpt, network = "backpack.gpt2_model", "backpack.sense_network"
    ours = {
        "embedding.weight": values[f"{gpt}.wte.weight"],
        "position.weight": values[f"{gpt}.wpe.weight"],
        "head.w_qk": values["backpack.sense_weight_net.c_attn.weight"],
        "head.b_qk": values["backpack.sense_weight_net.c_attn.bias"],
        **norm(values, "norm", f"{gpt}.ln_f", bias=True),
    }
    for layer in range(2):
        block, theirs = f"blocks.{layer}", f"{gpt}.h.{layer}"
        ours |= norm(values, f"{block}.attention_norm", f"{theirs}.ln_1", bias=True)
        ours |= norm(values, f"{block}.mlp_norm", f"{theirs}.ln_2", bias=True)
        ours |= under(f"{block}.attention", attention(values, f"{theirs}.attn", transposed=True))
        ours |= under(f"{block}.mlp", mlp(values, f"{theirs}.mlp", transposed=True))
    for i, theirs in enumerate(("ln", "block.ln_1", "block.ln_2")):
        ours |= norm(values, f"head.sense_norms.{i}", f"{network}.{theirs}", bias=True)
    for name, theirs in (("mix", "block.mlp"), ("sense", "final_mlp")):
        for side, layer in (("in", "c_fc"), ("out", "c_proj")):
            ours[f"head.{name}_{side}"] = values[f"{network}.{theirs}.{layer}.weight"].T
            ours[f"head.b_{name}_{side}"] = values[f"{network}.{theirs}.{layer}.bias"]
    return ours


def crate(values: Values) -> dict[str, Tensor]:
    ours = {
        "embedding.weight": values["transformer.wte.weight"],
        "position.weight": values["transformer.wpe.weight"],
        **norm(values, "norm", "transformer.ln_f", bias=True),
    }
    for layer in range(2):
        block, theirs = f"blocks.{layer}", f"transformer.h.{layer}"
        ours |= norm(values, f"{block}.attention_norm", f"{theirs}.prenorm_1", bias=True)
        ours |= norm(values, f"{block}.mlp_norm", f"{theirs}.prenorm_2", bias=True)
        ours[f"{block}.attention.w_q"] = values[f"{theirs}.attn.c_attn.weight"]
        ours[f"{block}.attention.w_o"] = values[f"{theirs}.attn.c_proj.weight"]
        ours[f"{block}.attention.b_o"] = values[f"{theirs}.attn.c_proj.bias"]
        ours[f"{block}.mlp.w_dec"] = values[f"{theirs}.ista.weight"]
    return ours


def bilinear(values: Values) -> dict[str, Tensor]:
    """The original divides what attention writes by √(2 layers) = 2, and its norms have no gain."""
    gains = dict.fromkeys(
        ["norm.weight", *(f"blocks.{i}.{half}_norm.weight" for i in (0, 1) for half in HALVES)],
        values.absent(16) + 1,
    )
    ours = gains | {
        "embedding.weight": values["transformer.wte.weight"],
        "head.weight": values["lm_head.weight"],
    }
    for layer in range(2):
        block, theirs = f"blocks.{layer}", f"transformer.h.{layer}"
        for name, matrix in zip("qkv", values[f"{theirs}.attn.qkv.weight"].chunk(3), strict=True):
            ours[f"{block}.attention.w_{name}"] = matrix
        ours[f"{block}.attention.w_o"] = values[f"{theirs}.attn.o.weight"] / 2
        for name, matrix in zip(
            ("w_in", "w_up"), values[f"{theirs}.mlp.w.weight"].chunk(2), strict=True
        ):
            ours[f"{block}.mlp.{name}"] = matrix
        ours[f"{block}.mlp.w_out"] = values[f"{theirs}.mlp.p.weight"].T
    return ours


HALVES = ("attention", "mlp")
BIASED = ATTENTIONS["softmax"].Config(n_heads=2, bias=True)
CRATE = config(
    norm="layer",
    eps=1e-5,
    stream=STREAMS["crate"].Config(n_heads=2, bias=True),
    head=HEADS["unembed"].Config(tied=True),
)


def test_weight_sparse_transformers():
    """All eight sites of AbsTopK, sinks, a bigram table, RMSNorm and biases everywhere."""
    model = config(
        norm="rms",
        eps=torch.finfo(torch.float64).eps,
        attention=ATTENTIONS["softmax"].Config(n_heads=2, bias=True, sink=True),
        mlp=MLPS["dense"].Config(width=32),
        site_sparsity=SPARSITIES["abs_topk"].Config(share=0.25),
        head=HEADS["unembed"].Config(bigram=True),
    )
    check("weight_sparse", model, weight_sparse, 7, 1e-12)


def test_backpack():
    """GPT-2, the sense network and the weights of the senses."""
    model = config(
        norm="layer",
        eps=1e-5,
        attention=BIASED,
        mlp=MLPS["dense"].Config(),
        head=HEADS["backpack"].Config(n_senses=4),
    )
    check("backpack", model, backpack, 6, 1e-12)


def test_crate():
    """Blocks of CRATE-LM with an overcomplete dictionary."""
    check("crate", CRATE, crate, 2, 1e-11)


def test_bilinear_transformer():
    """Rotary attention and bilinear MLPs; the original has its rotations in float32."""
    model = config(
        norm="rms",
        eps=1e-8,
        position="rope",
        attention=ATTENTIONS["softmax"].Config(n_heads=2),
        mlp=MLPS["bilinear"].Config(width=24),
        head=HEADS["unembed"].Config(),
    )
    check("bilinear_model", model, bilinear, 5, 1e-6)


def test_one_weight_that_is_off_by_a_thousandth_is_noticed():
    def off(values: Values) -> dict[str, Tensor]:
        ours = crate(values)
        ours["blocks.0.attention.w_q"] = ours["blocks.0.attention.w_q"].clone()
        ours["blocks.0.attention.w_q"][3, 5] += 1 / 1024
        return ours

    with pytest.raises(AssertionError, match="crate: logits: the largest difference is"):
        check("crate", CRATE, off, 2, 1e-5)
