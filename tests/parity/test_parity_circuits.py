"""Scores of circuits against what public implementations gave for the same models and prompts."""

import numpy as np
import pytest
import torch
from support.originals import Original, Values, fill, recorded, same

from pellucid.eval.circuits.attribution import node_scores
from pellucid.eval.circuits.bases import resampled
from pellucid.eval.circuits.mib import SHARES, areas, measure
from pellucid.eval.circuits.nodes import Nodes, nodes_of, whole_heads
from pellucid.eval.circuits.objective import Asked, margins_of
from pellucid.eval.circuits.path_effects import edge_scores
from pellucid.models import ModelConfig, Transformer
from pellucid.models.attention import ATTENTIONS
from pellucid.models.mlp import MLPS
from pellucid.models.position import POSITIONS


def made(original: Original, weights: Values) -> Transformer:
    """Our model with the recorded weights: one neuron a layer, so that an MLP is a node."""
    settings = original.header["settings"]
    config = ModelConfig(
        n_layers=settings["n_layers"],
        d_model=settings["d_model"],
        context=weights["position"].shape[0],
        mlp=MLPS["dense"].Config(activation="relu", width=1),
        attention=ATTENTIONS["softmax"].Config(n_heads=settings["n_heads"]),
        position=POSITIONS["learned"].Config(),
    )
    model = Transformer(config, vocab_size=len(weights["embed"]), seed=0).double().eval()
    ours = {
        "embedding.weight": weights["embed"],
        "position.weight": weights["position"],
        "norm.weight": weights["norm"],
        "head.weight": weights["unembed"],
    }
    width = settings["d_model"]
    for layer in range(settings["n_layers"]):
        at = f"blocks.{layer}"
        for name in ("attention_norm", "mlp_norm"):
            ours[f"{at}.{name}.weight"] = weights[f"{layer}.{name}"]
        for part, names in (("attention", "qkvo"), ("mlp", ("in", "out"))):
            ours |= {f"{at}.{part}.w_{name}": weights[f"{layer}.w_{name}"] for name in names}
        ours |= {f"{at}.mlp.b_in": torch.zeros(1), f"{at}.mlp.b_out": torch.zeros(width)}
    fill(model, ours)
    return model


def asked_of(original: Original) -> Asked:
    """All prompts A, then all prompts B; every other row's partner is half the rows away."""
    given = original.inputs
    tokens, rows = given["tokens"], len(given["tokens"])
    last = torch.full((rows,), tokens.shape[1] - 1)
    return Asked(tokens, last, given["first"], given["second"], torch.arange(rows) < rows // 2)


def test_areas_are_those_of_the_benchmark():
    original = recorded("cpr_cmd")
    ours = [areas(SHARES, curve) for curve in original.inputs["curves"].tolist()]
    same("areas", torch.tensor(ours, dtype=torch.float64), original.outputs["areas"], 1e-14)


def evened(weights: Values, kind: str) -> Values:
    """The weights as they are, or with queries of 0: attention is then even."""
    return Values(
        {n: w * (0 if kind == "even" and n.endswith("w_q") else 1) for n, w in weights.items()}
    )


@pytest.mark.parametrize("kind", ["even", "full"])
def test_faithfulness_cpr_and_cmd_are_those_of_the_benchmark(kind):
    """Its own evaluation of its own graph, nodes cut in the order of the same scores."""
    original = recorded("cpr_cmd")
    model, asked = made(original, evened(original.weights, kind)), asked_of(original)
    nodes, theirs = whole_heads(model, nodes_of(model, "parts")), original.outputs
    base = resampled(model, nodes, asked.tokens, asked.partner, asked.last)
    found = measure(model, nodes, asked, original.inputs["scores"], base)
    for area in ("cpr", "cmd"):
        ours = torch.tensor(found[area], dtype=torch.float64)
        same(f"{kind} {area}", ours, theirs[f"{kind} {area}"], 1e-12)
    points = torch.tensor([f for _, f in found["points"]], dtype=torch.float64)
    assert len(points.round(decimals=3).unique()) >= 6
    if kind == "even":
        same("faithfulness", points, theirs["even faithful"], 1e-12)
        margins = margins_of(model, nodes, asked).detach()
        right = torch.where(asked.wants_first, margins, -margins)
        same("margins of the whole model", right, theirs["even margins"], 1e-13)


class Scored:
    """One of the two models of the recording of EAP-IG: attention as it is, or even."""

    def __init__(self, kind: str):
        original = recorded("eap_ig")
        self.model = made(original, evened(original.weights, kind))
        self.asked = asked_of(original)
        self.nodes: Nodes = nodes_of(self.model, "parts")
        self.base = resampled(
            self.model, self.nodes, self.asked.tokens, self.asked.partner, self.asked.last
        )
        self.found = {
            name.removeprefix(f"{kind} "): value
            for name, value in original.outputs.items()
            if name.startswith(kind)
        }
        names = self.nodes.names()
        self.edges = [(a, b) for a in ("embed", *names) for b in (*names, "logits")]
        self.kind = kind

    def edges_of(self, recording: str) -> dict[tuple[str, str], float]:
        """The original's scores of all edges; those of heads only where attention is even."""
        flat = self.found[recording].flatten().tolist()
        pairs = dict(zip(self.edges, flat, strict=True))
        skipped = "attention" if self.kind == "full" else "nothing"
        return {pair: score for pair, score in pairs.items() if skipped not in pair[0]}

    def ours(self, steps: int) -> dict[tuple[str, str], float]:
        """A head's three reads of a source together, as they were recorded."""
        found: dict[tuple[str, str], float] = {}
        scores = edge_scores(self.model, self.nodes, self.asked, self.base, steps)
        for (source, target, _), score in scores.items():
            found[source, target] = found.get((source, target), 0.0) + score
        return found


@pytest.fixture(scope="module", params=["full", "even"])
def scored(request) -> Scored:
    return Scored(request.param)


def compared(scored: Scored, ours: dict, theirs: dict) -> None:
    pairs = ours.keys() & theirs.keys()
    assert len(pairs) > 10 and max(abs(theirs[pair]) for pair in pairs) > 0.01
    gaps = [abs(ours[pair] - theirs[pair]) for pair in pairs]
    print(f"{scored.kind}: {len(pairs)} edges, {max(gaps):.1e}")
    assert max(gaps) < 1e-12


def test_edge_attribution_is_that_of_the_original(scored):
    compared(scored, scored.ours(1), scored.edges_of("edges eap"))


def test_edge_attribution_by_steps_is_that_of_the_original_shifted_by_one(scored):
    """The original's steps for edges are 0 … m - 1, the paper's and ours 1 … m."""
    theirs, first = (scored.edges_of(f"edges ig {m}") for m in (5, 1))
    last = scored.edges_of("edges eap")
    shifted = {pair: theirs[pair] + (last[pair] - first[pair]) / 5 for pair in theirs}
    compared(scored, scored.ours(5), shifted)
    assert max(abs(first[pair] - last[pair]) for pair in theirs) > 0.01


def test_node_attribution_is_that_of_the_original_for_heads():
    """For an MLP the original multiplies by the gradient of what it reads, not of what it writes."""
    scored = Scored("even")
    ours = node_scores(scored.model, scored.nodes, scored.asked, scored.base, 5)
    theirs = scored.found["nodes ig 5"][1:]
    heads = torch.tensor(["attention" in name for name in scored.nodes.names()])
    same("heads", ours[heads], theirs[heads], 1e-12)
    assert np.abs((ours - theirs)[~heads].numpy()).max() > 0.01
