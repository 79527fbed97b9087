"""A planted model of one layer whose circuit is known, and circuits of all nodes."""

import torch

from pellucid.eval.circuits.circuit import Circuit
from pellucid.eval.circuits.nodes import Nodes, nodes_of
from pellucid.eval.circuits.objective import Asked
from pellucid.models import ModelConfig, Transformer
from pellucid.models.attention import ATTENTIONS
from pellucid.models.mlp import MLPS
from pellucid.models.norm import NORMS
from pellucid.models.position import POSITIONS


def everything(nodes: Nodes, **changes) -> Circuit:
    """A circuit of all nodes."""
    kept = torch.ones(len(nodes), dtype=torch.bool)
    about = {"loss": 0.0, "target": 0.15} | changes
    return Circuit("t", kept, torch.zeros(len(nodes)), **about)


def planted(mlp: str = "dense", **fields) -> tuple[Transformer, Nodes, Asked]:
    """One relu neuron reads one channel and writes the answer; a twin pair makes up for each other.

    Tokens 1 and 2 stand in channel 0 as +1 and -1; the logits of tokens 3 and 4 read channel 1.
    """
    config = ModelConfig(
        n_layers=1,
        d_model=4,
        context=4,
        mlp=MLPS[mlp].Config(activation="relu", width=4, **fields),
        attention=ATTENTIONS["softmax"].Config(n_heads=1),
        position=POSITIONS["none"].Config(),
        norm=NORMS["rms"].Config(eps=1e-12),
    )
    model = Transformer(config, vocab_size=5).double().eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        parameter.fill_(1.0 if "norm" in name else 0.0)
    model.embedding.weight[:, 3] = 10.0
    model.embedding.weight[1, 0], model.embedding.weight[2, 0] = 1.0, -1.0
    mlp = model.blocks[0].mlp
    mlp.w_in[0, 0], mlp.w_out[0, 1] = 4.0, 4.0  # the circuit
    mlp.w_in[1, 0], mlp.w_out[1, 2] = 2.0, 2.0  # active, and read by nobody
    model.head.weight[3, 1], model.head.weight[3, 3] = 20.0, -0.1
    tokens = torch.tensor([[0, 1], [0, 2]])
    ends = torch.tensor([1, 1])
    asked = Asked(tokens, ends, torch.tensor([3, 3]), torch.tensor([4, 4]), torch.arange(2) < 1)
    return model, nodes_of(model), asked
