"""A circuit file as parts one can rely on: nothing of it is believed before it was looked at."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from pellucid.errors import RunError
from pellucid.report.circuit.checked import Checked
from pellucid.report.circuit.quotes import Quotes, quotes
from pellucid.report.wording import words

_SLUG = re.compile(r"(.*?)(?:@(\d{1,9}))?(?:\.step(\d{1,15}))?", re.DOTALL | re.ASCII)
KINDS = ("read", "query_key", "value", "head", "unit", "neuron", "write")
ENDS = {"embed": -2, "logits": -1}
"""What edges between parts begin and end with, which no circuit can leave out; their layers."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """One node of a circuit."""

    id: str
    """`blocks.0.mlp:17`"""
    kind: str
    layer: int
    """-1 outside the blocks; -2 before them"""
    effect: float | None
    """rise of the task's loss, in nats, when this node alone is ablated in the circuit"""
    base: float | None
    """what the node is held at where it is left out"""
    values: tuple[float, ...]
    """per token of the shown example; empty where none is known"""
    writes: tuple[tuple[str, float], ...]
    """tokens it makes likelier, with their logits"""

    @property
    def group(self) -> str:
        """`blocks.0.mlp`"""
        return self.id if self.is_end else self.id.rpartition(":")[0]

    @property
    def index(self) -> int:
        """The node's number within its group."""
        return 0 if self.is_end else int(self.id.rpartition(":")[2])

    def peak(self, tokens: int) -> int | None:
        """The first of so many tokens where it departs most from its base; None without values."""
        values, base = self.values[:tokens], self.base or 0.0
        return max(range(len(values)), key=lambda i: abs(values[i] - base), default=None)

    @property
    def is_end(self) -> bool:
        """Whether it is the embedding or the logits, and no node of the circuit."""
        return self.kind in ENDS

    @property
    def half(self) -> str:
        """Which half of a block it belongs to: `attention` or `mlp`."""
        place = self.group.split(".", 2)[-1]
        return "attention" if place.startswith(("attn", "attention")) else "mlp"


@dataclass(frozen=True, kw_only=True)
class Edge:
    """One edge between two nodes, given by their places in the list of nodes and then ends."""

    source: int
    target: int
    weight: float | None
    effect: float | None
    through: str
    """by which matrix, or which read of a head (`q`, `k`, `v`); empty where there is one way"""

    @property
    def strength(self) -> float:
        """What edges are ranked by: the weight's magnitude, or the effect's where there is none."""
        return abs(self.weight if self.weight is not None else self.effect or 0.0)


@dataclass(frozen=True, kw_only=True)
class CircuitFile:
    """A circuit as its file tells it."""

    slug: str
    """the file's name without its ending"""
    task: str
    nodes: tuple[Node, ...]
    ends: tuple[Node, ...]
    """the embedding and the logits, where edges name them"""
    edges: tuple[Edge, ...]
    tokens: tuple[str, ...]
    """of the shown example; empty where there is none"""
    quotes: Quotes
    """where nodes are active in held-out text; empty where the file beside is missing"""
    content: Mapping[str, Any]
    """the whole file, for what is only printed"""

    @property
    def place(self) -> tuple[str, int, bool, int]:
        """What circuits are ordered by: name, distance, and step; first that of the newest."""
        name, distance, step = _SLUG.fullmatch(self.slug).groups()
        return name, int(distance or 0), step is not None, int(step or 0)

    @property
    def title(self) -> str:
        """The task as its file is named: `var_if@32.step500`."""
        return self.task + self.slug.removeprefix(self.place[0])

    @property
    def label(self) -> str:
        """The task, with the distance and the earlier step that its file is named for."""
        _, distance, earlier, step = self.place
        at = f" · distance {distance}" if distance else ""
        return f"{words(self.task)}{at}{f' · step {step:,}' if earlier else ''}"

    def inner(self) -> Self:
        """The circuit without the edges of embedding and logits."""
        n = len(self.nodes)
        edges = tuple(edge for edge in self.edges if max(edge.source, edge.target) < n)
        return replace(self, ends=(), edges=edges)

    def part(self, name: str) -> Mapping[str, Any]:
        """An object of the file, such as its sizes; empty where it has none."""
        return self.content.get(name) or {}


def parse(slug: str, content: Mapping[str, Any]) -> CircuitFile:
    """Read the content of `circuits/<slug>.json`, with that of `<slug>.contexts.json` as `contexts`.

    RunError names what is not as it should be.
    """
    file = Checked(f"circuits/{slug}.json", content)
    for name in ("sizes", "reasons", "faithful", "losses", "accuracy", "mib", "example"):
        file.mapping(name)
    nodes = tuple(_node(file, i, held) for i, held in enumerate(file.mappings("nodes")))
    places = {node.id: i for i, node in enumerate(nodes)}
    if len(places) < len(nodes):
        raise RunError(f"{file.name}: nodes holds an id twice; each node is listed once")
    listed = file.mappings("edges")
    ends = tuple(_end(name) for name in ENDS if any(name in _ends(held) for held in listed))
    places |= {end.id: len(nodes) + i for i, end in enumerate(ends)}
    edges = (_edge(file, i, held, places) for i, held in enumerate(listed))
    for name in ("battery", "strata"):
        file.mappings(name)
    tokens = file.items("example.tokens", (file.mapping("example") or {}).get("tokens"))
    return CircuitFile(
        slug=slug,
        task=file.text("task", content.get("task", slug)),
        nodes=nodes,
        ends=ends,
        edges=tuple(edges),
        tokens=tuple(file.text(f"example.tokens[{i}]", t) for i, t in enumerate(tokens)),
        quotes=quotes(slug, content.get("contexts")),
        content=content,
    )


def _node(file: Checked, i: int, held: Mapping[str, Any]) -> Node:
    at = f"nodes[{i}]"
    name, kind, layer = (held.get(key) for key in ("id", "kind", "layer"))
    group, _, index = file.text(f"{at}.id", name).rpartition(":")
    if not group or not (index.isascii() and index.isdecimal()) or len(index) > 9:
        file.refuse(f"{at}.id", name, "a name such as blocks.0.mlp:17")
    if kind not in KINDS:
        file.refuse(f"{at}.kind", kind, f"one of {', '.join(KINDS)}")
    if not isinstance(layer, int) or isinstance(layer, bool) or not -1 <= layer < 10_000:
        file.refuse(f"{at}.layer", layer, "the number of a layer, or -1 outside the blocks")
    values = file.items(f"{at}.values", held.get("values"))
    writes = file.items(f"{at}.writes", held.get("writes"))
    return Node(
        id=name,
        kind=kind,
        layer=layer,
        effect=file.number(f"{at}.effect", held.get("effect")),
        base=file.number(f"{at}.base", held.get("base")),
        values=tuple(file.number(f"{at}.values", value) or 0.0 for value in values),
        writes=tuple(_pair(file, f"{at}.writes", pair) for pair in writes),
    )


def _ends(edge: Mapping[str, Any]) -> tuple[Any, Any]:
    return edge.get("source"), edge.get("target")


def _end(name: str) -> Node:
    unknown = {"effect": None, "base": None, "values": (), "writes": ()}
    return Node(id=name, kind=name, layer=ENDS[name], **unknown)


def _pair(file: Checked, where: str, held: Any) -> tuple[str, float]:
    if not isinstance(held, list) or len(held) != 2 or not isinstance(held[0], str):
        file.refuse(where, held, "pairs of a token's text and a number")
    return held[0], file.number(where, held[1]) or 0.0


def _edge(file: Checked, i: int, held: Mapping[str, Any], places: Mapping[str, int]) -> Edge:
    ends = []
    for end in ("source", "target"):
        name = file.text(f"edges[{i}].{end}", held.get(end))
        if name not in places:
            file.refuse(f"edges[{i}].{end}", name, "the id of one of its nodes")
        ends.append(places[name])
    weight, effect = (file.number(f"edges[{i}].{k}", held.get(k)) for k in ("weight", "effect"))
    through = file.text(f"edges[{i}].through", held.get("through") or "")
    return Edge(source=ends[0], target=ends[1], weight=weight, effect=effect, through=through)
