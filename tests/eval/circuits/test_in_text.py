"""Contexts of a circuit's nodes: what they show is what the model does there."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view

from pellucid.eval.circuits import in_text as module
from pellucid.eval.circuits.in_text import BANDS, TOKENS, in_text
from pellucid.eval.circuits.nodes import nodes_of
from pellucid.eval.stream import sample
from pellucid.models import record

NAMES = {
    "channels": ["attn_in:3", "attention.qk:5", "attention.v:2", "attn_out:7"]
    + ["mlp_in:0", "mlp:9", "mlp_out:15"],
    "parts": ["attention:1", "mlp:9"],
}


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(module, "TOKENS", 1000)


def text_of(run):
    return sample(run.data.split("val"), eot=run.tokenizer.eot, tokens=module.TOKENS, seed=0)


@torch.no_grad()
def recorded(run, stream, site):
    """What the units of a site do on the whole text `(token, unit)`."""
    with record(run.model, [site]) as trace:
        whole = len(stream.tokens) // 32 * 32
        run.model(torch.from_numpy(stream.tokens[:whole].reshape(-1, 32)))
        every = [trace[site].to_dense().flatten(0, 1)]
        run.model(torch.from_numpy(stream.tokens[None, whole:]))
    return torch.cat([*every, trace[site].to_dense()[0]]).numpy()


def values_of(run, stream, name, part):
    """Values per token of a node, or of its query or key."""
    group, _, index = name.rpartition(":")
    if part:
        return recorded(run, stream, group.removesuffix("qk") + part)[:, int(index)]
    if group.endswith("attention"):  # a head: its four channels of the values
        mine = recorded(run, stream, f"{group}.v").reshape(len(stream.tokens), 4, 4)[:, int(index)]
        return np.sqrt((mine**2).mean(-1))
    return recorded(run, stream, group)[:, int(index)]


def place_of(found, stream, names, values):
    """Where in the text a context is: the one place at which tokens, document and values agree."""
    width = len(found["tokens"])
    texts, rows = (sliding_window_view(held, width) for held in (stream.tokens, values))
    near = np.isclose(rows, found["values"], rtol=6e-3, atol=1e-6)
    places = np.flatnonzero((near & (texts == found["tokens"])).all(1))
    assert len(places), found
    assert stream.names[stream.document[places[0]]] == names[found["document"]]
    return places[0] + found["center"]


@pytest.mark.parametrize("grain", NAMES)
def test_contexts_are_the_nodes_own_values_over_their_whole_range(make_run, grain):
    run = make_run("topk")
    names = [f"blocks.1.{name}" for name in NAMES[grain]]
    found, stream = in_text(run, nodes_of(run.model, grain), names, seed=0), text_of(run)
    assert list(found["nodes"]) == names and found["n_tokens"] == len(stream.tokens)
    for name, parts in found["nodes"].items():
        assert [part["part"] for part in parts] == (["q", "k"] if name.endswith("qk:5") else [""])
        for part in parts:
            values = values_of(run, stream, name, part["part"])
            strength = {band: [] for band in BANDS}
            for context in part["contexts"]:
                at = place_of(context, stream, found["documents"], values)
                strength[context["band"]].append(abs(values[at]))
            assert all(len(held) <= 2 for held in strength.values()), name
            assert max(strength["top"]) == abs(values).max()
            threshold = max(strength["silent"], default=0.0)
            assert threshold <= (abs(values).max() / 10 if part["signed"] else 0.0)
            bands = [strength[band] for band in BANDS if strength[band]]
            assert len(bands) >= 3
            for stronger, weaker in pairwise(bands):
                assert min(stronger) >= max(weaker), name
    used = {
        t for ps in found["nodes"].values() for p in ps for c in p["contexts"] for t in c["tokens"]
    }
    assert found["vocab"] == {str(token): run.tokenizer.token_text(token) for token in sorted(used)}


def test_no_more_is_read_than_was_said_and_of_one_long_document_its_beginning(
    make_run, monkeypatch
):
    run = make_run("topk")
    lengths = np.diff(run.data.split("val").offsets)
    monkeypatch.setattr(module, "TOKENS", int(lengths.min()) - 2)
    found = in_text(run, nodes_of(run.model), ["blocks.0.mlp:9"], seed=0)
    assert found["n_tokens"] == lengths.min() - 2 and TOKENS <= 32_768


def test_a_node_of_pairs_of_tokens_has_no_contexts(make_run):
    run = make_run("topk")
    nodes = nodes_of(run.model)
    heads = {"blocks.0.attention": torch.arange(4)}
    edges = nodes.groups[0]._replace(name="blocks.0.attention", places=heads)
    found = in_text(run, type(nodes)((edges,)), ["blocks.0.attention:1"], seed=0)
    assert found["nodes"] == {"blocks.0.attention:1": []} and found["vocab"] == {}
