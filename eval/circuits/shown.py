"""The nodes of a circuit as a reader sees them: what each is worth, does and writes."""

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from pellucid.eval.circuits.bases import Base
from pellucid.eval.circuits.measured import effects, estimated_effects
from pellucid.eval.circuits.nodes import Group
from pellucid.eval.circuits.objective import margins_of
from pellucid.eval.circuits.paths import HEADS, Part, Pass, place_of
from pellucid.models import record
from pellucid.models.stream.residual import Block

if TYPE_CHECKING:
    from pellucid.eval.circuits.content import Found

LISTED = 512
"""Nodes that are written, of those that matter most."""
WRITTEN = 5
"""Tokens of a node whose logits it raises most."""


def nodes_in(found: "Found", tokenizer: Any) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The circuit's nodes in the order of the pass, and in words what is missing of them."""
    circuit = found.circuit
    order = circuit.scores.argsort(descending=True, stable=True)
    chosen = order[circuit.kept[order]][:LISTED].sort().values
    worth, how = _worth(found)
    reasons = {"effect": how} if how else {}
    if circuit.size > LISTED:
        reasons["nodes"] = f"{LISTED} of {circuit.size} are listed: those that rank first"
    trace = _example(found)
    listed = []
    for first, group in found.nodes.starts():
        here = chosen[(chosen >= first) & (chosen < first + group.size)] - first
        values, base = _values(group, here, trace), _base(group, here, found.base)
        writes = _writes(found, group, here, tokenizer)
        for place, index in enumerate(here.tolist()):
            listed.append(
                {
                    "id": f"{group.name}:{index}",
                    "kind": group.kind,
                    "layer": group.layer,
                    "effect": worth.get(first + index),
                    "base": base[place],
                    "values": values[place],
                    "writes": writes[place],
                }
            )
    return listed, reasons


def _worth(found: "Found") -> tuple[dict[int, float], str]:
    """The rise of the loss without each node, by its number."""
    circuit = found.circuit
    about = (found.model, found.nodes, found.searched, circuit.kept, found.base, circuit.readout)
    if circuit.size <= found.settings.shown:
        numbers, rise = effects(*about) if circuit.size else (torch.zeros(0), torch.zeros(0))
        how = ""
    else:
        numbers, rise = estimated_effects(*about)
        how = f"to first order: more than {found.settings.shown} nodes are not ablated one by one"
    return dict(zip(numbers.tolist(), rise.tolist(), strict=True)), how


@torch.no_grad()
def _example(found: "Found") -> dict[str, Float[Tensor, "token unit"]]:
    """What all units do on the first prompt, in the model as it is."""
    with record(found.model, found.nodes.sites) as trace:
        found.model(_prompt(found))
    return {s: acts.to_dense()[0] for s, acts in trace.items() if acts.values.ndim == 3}


def _prompt(found: "Found") -> Integer[Tensor, "one token"]:
    return found.searched.tokens[:1, : int(found.searched.last[0]) + 1]


def _values(group: Group, here: Tensor, trace: dict[str, Tensor]) -> list[list[float]]:
    """Per node its values over the tokens; of several units, as of a head, their root mean square."""
    site, places = next(iter(group.places.items()))
    if site not in trace:
        return [[] for _ in here]
    units = trace[site].double().cpu()
    return [_together(units[:, places == index]).tolist() for index in here.tolist()]


def _base(group: Group, here: Tensor, base: Base) -> list[float]:
    """What each node is held at where it is left out."""
    site, places = next(iter(group.places.items()))
    held = torch.as_tensor(base[site]).double().cpu().expand(len(places))
    return [float(_together(held[None, places == index])) for index in here.tolist()]


def _together(units: Float[Tensor, "token unit"]) -> Float[Tensor, " token"]:
    return units[:, 0] if units.shape[1] == 1 else units.square().mean(-1).sqrt()


@torch.no_grad()
def _writes(found: "Found", group: Group, here: Tensor, tokenizer: Any) -> list[list]:
    """Per node the tokens whose logits it raises most: of nodes that write into the stream."""
    directions = _directions(found, group, here) if len(here) else None
    if directions is None:
        return [[] for _ in here]
    logits = found.model.direct_logits(directions).float()
    values, tokens = logits.topk(min(WRITTEN, logits.shape[1]))
    return [
        [[tokenizer.token_text(t), v] for t, v in zip(*pair, strict=True)]
        for pair in zip(tokens.tolist(), values.tolist(), strict=True)
    ]


def _directions(found: "Found", group: Group, here: Tensor) -> Float[Tensor, "some d_model"] | None:
    """What nodes write into the stream, for each unit of activation; of heads what they do write."""
    site, places = next(iter(group.places.items()))
    if group.kind == "head":
        return _of_heads(found, group, here)
    directions = found.model.sites()[site].write_directions()
    if directions is None or len(places) != group.size:
        return None
    return directions[here.to(directions.device)]


def _of_heads(found: "Found", group: Group, here: Tensor) -> Float[Tensor, "some d_model"] | None:
    """What heads write on the first prompt, each at the token where this is most.

    Beyond what it writes at its base; None of heads that write by no matrix of their own.
    """
    block = found.model.blocks[group.layer]
    if type(block) is not Block or type(block.attention) not in HEADS:
        return None
    at = f"blocks.{group.layer}.attention"
    with record(found.model, ["embed", at, f"{at}.v"]) as trace:
        found.model(_prompt(found))
    seen = Pass(found.model, trace, found.base, trace["embed"].values)
    parts = [Part(f"{group.name}:{i}", place_of(group), -1, i) for i in here.tolist()]
    written = torch.stack([-seen.change(part)[0] for part in parts])
    return written[torch.arange(len(parts)), written.norm(dim=-1).argmax(-1)]


@torch.no_grad()
def example_of(found: "Found", tokenizer: Any) -> dict[str, Any]:
    """The first prompt of the search, its two answers, and how much the circuit prefers the right."""
    asked, circuit = found.searched, found.circuit
    share = circuit.kept.to(next(found.model.parameters()))
    margins = margins_of(found.model, found.nodes, asked, share, found.base)
    text = tokenizer.token_text
    other = int(asked.second[0])
    return {
        "tokens": [text(t) for t in asked.tokens[0, : int(asked.last[0]) + 1].tolist()],
        "answer": text(int(asked.first[0])),
        "other": text(other) if other >= 0 else "all others",
        "margin": float(margins[0] * circuit.readout.scale + circuit.readout.shift),
    }
