"""Where the nodes of a circuit stand: layers are rows, the first at the bottom; kinds are columns.

`positions.py` has the tokens of a prompt for columns instead.

Within a row the pass runs from left to right, so that every edge goes right or up.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pellucid.report.circuit.reading import CircuitFile, Edge, Node

DRAWN_NODES, DRAWN_EDGES = 512, 2000
"""Most of each that are drawn: those of the largest effect, then the strongest between them."""

WIDTH = 820
LEFT, RIGHT, TOP, BOTTOM = 72, 14, 86, 40
CHIP_HEIGHT, LINE, ROW_GAP, COLUMN_GAP = 18, 22, 30, 30
WIDEST_GAP = 280
LOW = 4
"""Lines of a cell that is low enough: beside each other, chips would hide each other's edges."""

COLUMNS = {
    ("embed", "mlp"): "",
    ("read", "attention"): "Read",
    ("query_key", "attention"): "Q · K",
    ("value", "attention"): "Value",
    ("head", "attention"): "Head",
    ("unit", "attention"): "Unit",
    ("write", "attention"): "Write",
    ("read", "mlp"): "Read",
    ("neuron", "mlp"): "Neuron",
    ("unit", "mlp"): "Unit",
    ("write", "mlp"): "Write",
    ("logits", "mlp"): "",
}
"""Columns in the order of the pass, by kind and half of the block."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One kind of node in one half of the blocks, or one token."""

    key: tuple[str, str]
    title: str
    x: float
    width: float
    per_line: int
    token: int | None = None
    """its number in the prompt, where columns are tokens"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One layer."""

    layer: int
    title: str
    y: float
    height: float
    lines: tuple[tuple[str, float], ...] = ()
    """kinds of node and their heights, where kinds are no columns"""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Places of what is drawn; x and y are middles of chips, in pixels from the upper left."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    """strongest first; their ends count in `nodes`"""
    stream: tuple[tuple[int, int], ...]
    """writes and the later reads of the same channel"""
    x: tuple[float, ...]
    y: tuple[float, ...]
    chip: float
    """width of a chip"""
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    width: float
    height: float
    by_position: bool = False
    """whether columns are tokens"""


def lay_out(circuit: CircuitFile) -> Layout:
    """Give every node that is drawn its place."""
    nodes, edges = drawn(circuit)
    cells: dict[tuple[int, tuple[str, str]], list[int]] = defaultdict(list)
    for number, node in enumerate(nodes):
        cells[_order(node.layer), _column(node)].append(number)
    chip = chip_width(nodes)
    counts = {cell: len(members) for cell, members in cells.items()}
    columns = _columns(counts, chip)
    rows, height = _rows(counts, columns)
    x, y = _places(nodes, cells, columns, rows, chip)
    return Layout(
        nodes=nodes,
        edges=edges,
        stream=tuple(stream(nodes)),
        x=x,
        y=y,
        chip=chip,
        columns=columns,
        rows=rows,
        width=WIDTH if not columns else max(WIDTH, columns[-1].x + columns[-1].width + RIGHT),
        height=height,
    )


def chip_width(nodes: Sequence[Node]) -> float:
    """Room for the longest number."""
    digits = max((len(str(node.index)) for node in nodes), default=1)
    return 12 + 6.7 * max(digits, 2)


def layer_title(layer: int) -> str:
    """What a row is called."""
    return {10_000: "Output", -2: "Input"}.get(layer, f"Layer {layer}")


def step(node: Node) -> tuple[int, int]:
    """A node's place in the order of the pass: what is later never feeds what is earlier."""
    return _order(node.layer), list(COLUMNS).index(_column(node))


def _order(layer: int) -> int:
    """What stands outside the blocks comes after all of them, but for the embedding."""
    return 10_000 if layer == -1 else layer


def _column(node: Node) -> tuple[str, str]:
    key = (node.kind, node.half)
    halves = dict(COLUMNS)
    return key if key in COLUMNS else (node.kind, halves[node.kind])


def drawn(circuit: CircuitFile) -> tuple[tuple[Node, ...], tuple[Edge, ...]]:
    """The nodes of the largest effect in the order of the pass, and the strongest edges of these."""
    every = (*circuit.nodes, *circuit.ends)
    ranked = sorted(
        range(len(circuit.nodes)), key=lambda i: (-abs(every[i].effect or 0.0), step(every[i]))
    )
    chosen = (*ranked[:DRAWN_NODES], *range(len(circuit.nodes), len(every)))
    kept = sorted(chosen, key=lambda i: (step(every[i]), every[i].index))
    place = {old: new for new, old in enumerate(kept)}
    edges = [
        replace(edge, source=place[edge.source], target=place[edge.target])
        for edge in circuit.edges
        if edge.source in place and edge.target in place
    ]
    edges.sort(key=lambda edge: -edge.strength)
    return tuple(every[i] for i in kept), tuple(edges[:DRAWN_EDGES])


def _columns(counts: dict[tuple[int, tuple[str, str]], int], chip: float) -> tuple[Column, ...]:
    """Columns in order; the fullest get more chips a line for as long as there is room."""
    keys = [key for key in COLUMNS if any(cell[1] == key for cell in counts)]
    tallest = {key: max(n for cell, n in counts.items() if cell[1] == key) for key in keys}
    per_line = dict.fromkeys(keys, 1)
    pitch = chip + 4
    room = (WIDTH - LEFT - RIGHT - COLUMN_GAP * (len(keys) - 1)) // pitch - len(keys)
    for _ in range(max(0, int(room)) if keys else 0):
        fullest = max(keys, key=lambda key: math.ceil(tallest[key] / per_line[key]))
        if math.ceil(tallest[fullest] / per_line[fullest]) <= LOW:
            break
        per_line[fullest] += 1
    used = sum(per_line.values()) * pitch
    gap = COLUMN_GAP
    if len(keys) > 1:
        gap = (WIDTH - LEFT - RIGHT - used) / (len(keys) - 1)
        gap = min(max(COLUMN_GAP, gap), WIDEST_GAP)
    spare = WIDTH - LEFT - RIGHT - used - gap * (len(keys) - 1)
    found, x = [], LEFT + max(0.0, spare) / 2
    for key in keys:
        width = per_line[key] * pitch - 4
        found.append(Column(key=key, title=COLUMNS[key], x=x, width=width, per_line=per_line[key]))
        x += width + 4 + gap
    return tuple(found)


def _rows(
    counts: dict[tuple[int, tuple[str, str]], int], columns: Sequence[Column]
) -> tuple[tuple[Row, ...], float]:
    """Rows from the last layer, at the top, to the first, and the height of everything."""
    per_line = {column.key: column.per_line for column in columns}
    lines: Counter[int] = Counter()
    for (layer, key), n in counts.items():
        lines[layer] = max(lines[layer], math.ceil(n / per_line[key]))
    found, y = [], float(TOP)
    for layer in sorted(lines, reverse=True):
        height = lines[layer] * LINE + ROW_GAP
        found.append(Row(layer=layer, title=layer_title(layer), y=y, height=height))
        y += height
    return tuple(found), y + BOTTOM


def _places(
    nodes: Sequence[Node],
    cells: dict[tuple[int, tuple[str, str]], list[int]],
    columns: Sequence[Column],
    rows: Sequence[Row],
    chip: float,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Chips stand in lines, the middle of each cell on the middle of its row."""
    x, y = [0.0] * len(nodes), [0.0] * len(nodes)
    by_key = {column.key: column for column in columns}
    by_layer = {row.layer: row for row in rows}
    for (layer, key), members in cells.items():
        column, row = by_key[key], by_layer[layer]
        lines = math.ceil(len(members) / column.per_line)
        top = row.y + (row.height - lines * LINE) / 2 + LINE / 2
        for i, number in enumerate(members):
            line, at = divmod(i, column.per_line)
            x[number] = round(column.x + at * (chip + 4) + chip / 2, 1)
            y[number] = round(top + line * LINE, 1)
    return tuple(x), tuple(y)


def stream(nodes: Sequence[Node]) -> list[tuple[int, int]]:
    """A channel that is written is seen by every later read of it."""
    writes = [(i, node) for i, node in enumerate(nodes) if node.kind == "write"]
    reads = [(i, node) for i, node in enumerate(nodes) if node.kind == "read"]
    by_channel: dict[int, list[tuple[int, Node]]] = defaultdict(list)
    for i, node in reads:
        by_channel[node.index].append((i, node))
    found = [
        (i, j)
        for i, write in writes
        for j, read in by_channel[write.index]
        if step(write) < step(read)
    ]
    return found[:DRAWN_EDGES]
