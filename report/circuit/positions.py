"""The same nodes by position: columns are the tokens of the shown prompt.

A circuit's nodes are shared by all positions. A node stands where it departs most from what it is
held at when it is left out, as in the exported graph. Layers are rows, and within a row each kind of
node has lines of its own, in the order of the pass from the bottom up.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import groupby

from pellucid.report.circuit import layout as kinds
from pellucid.report.circuit.layout import CHIP_HEIGHT, LINE, WIDTH, Column, Layout, Row
from pellucid.report.circuit.reading import CircuitFile, Node
from pellucid.report.wording import shown

LEFT, RIGHT, TOP, BOTTOM = 124, 58, 132, 40
GAP, WIDEST_GAP, NARROW = 8, 46, 16
LINE_GAP, ROW_GAP = 8, 18
LOW = 2
"""Lines of a cell that is low enough to leave its column as narrow as it is."""
EMPTY = 2
"""Most neighbouring tokens without a node that each have a column; more share one."""
LONGEST = 14
"""Characters of a token that stand over its column."""
NOWHERE = -1
"""The column of nodes that have no values on the prompt."""

Cell = tuple[tuple[int, int], int]
"""A step of the pass, and a token"""


def lay_out_by_position(circuit: CircuitFile) -> Layout | None:
    """Give every node that is drawn its place; None where no node has values on a prompt."""
    nodes, edges = kinds.drawn(circuit)
    peaks = [_token(node, len(circuit.tokens)) for node in nodes]
    if all(token == NOWHERE for node, token in zip(nodes, peaks, strict=True) if not node.is_end):
        return None
    cells: dict[Cell, list[int]] = defaultdict(list)
    for i, (node, token) in enumerate(zip(nodes, peaks, strict=True)):
        cells[kinds.step(node), token].append(i)
    chip = kinds.chip_width(nodes)
    counts = {cell: len(members) for cell, members in cells.items()}
    columns = _columns(counts, circuit.tokens, chip)
    per_line = {column.token: column.per_line for column in columns}
    rows, tops, height = _rows(counts, per_line)
    x, y = [0.0] * len(nodes), [0.0] * len(nodes)
    left = {column.token: column for column in columns}
    for (at, token), members in cells.items():
        column = left[token]
        width = min(len(members), column.per_line) * (chip + 4) - 4
        for i, number in enumerate(members):
            line, place = divmod(i, column.per_line)
            start = column.x + (column.width - width) / 2
            x[number] = round(start + place * (chip + 4) + chip / 2, 1)
            y[number] = round(tops[at] + line * LINE + LINE / 2, 1)
    return Layout(
        nodes=nodes,
        edges=edges,
        stream=tuple(kinds.stream(nodes)),
        x=tuple(x),
        y=tuple(y),
        chip=chip,
        columns=columns,
        rows=rows,
        width=max(WIDTH, columns[-1].x + columns[-1].width + RIGHT),
        height=height,
        by_position=True,
    )


def _token(node: Node, tokens: int) -> int:
    """Logits are read at the last token, and the embedding is of all."""
    if node.kind == "logits" and tokens:
        return tokens - 1
    peak = node.peak(tokens)
    return NOWHERE if peak is None else peak


def _columns(counts: Mapping[Cell, int], tokens: Sequence[str], chip: float) -> tuple[Column, ...]:
    """A column for each token; the fullest get more chips a line for as long as there is room."""
    tallest: Counter[int] = Counter()
    for (_, token), n in counts.items():
        tallest[token] = max(tallest[token], n)
    titles = _titles(tokens, set(tallest))
    pitch, per_line = chip + 4, dict.fromkeys(tallest, 1)
    fixed = sum(NARROW for token, _ in titles if token not in tallest) + GAP * (len(titles) - 1)
    room = (WIDTH - LEFT - RIGHT - fixed) / pitch - len(tallest)
    for _ in range(max(0, int(room))):
        fullest = max(tallest, key=lambda token: math.ceil(tallest[token] / per_line[token]))
        if math.ceil(tallest[fullest] / per_line[fullest]) <= LOW:
            break
        per_line[fullest] += 1
    widths = [per_line[t] * pitch - 4 if t in tallest else NARROW for t, _ in titles]
    spare = (WIDTH - LEFT - RIGHT - sum(widths)) / max(1, len(titles) - 1)
    gap, x, found = min(max(GAP, spare), WIDEST_GAP), float(LEFT), []
    for (token, title), width in zip(titles, widths, strict=True):
        about = {"key": (str(token), "token"), "token": token}
        chips = per_line.get(token, 1)
        found.append(Column(title=title, x=round(x, 1), width=width, per_line=chips, **about))
        x += width + gap
    return tuple(found)


def _titles(tokens: Sequence[str], occupied: set[int]) -> list[tuple[int, str]]:
    """(token, heading) of each column; a long stretch without a node is one column."""
    found = [(NOWHERE, "no one token")] if NOWHERE in occupied else []
    for empty, stretch in groupby(range(len(tokens)), key=lambda i: i not in occupied):
        some = list(stretch)
        if empty and len(some) > EMPTY:
            found.append((some[0], f"… {len(some)} more"))
        else:
            found += [(i, _heading(tokens[i])) for i in some]
    return found


def _heading(token: str) -> str:
    told = shown(token, quoted=False).replace(" ", "·")
    return told if len(told) <= LONGEST else told[: LONGEST - 1] + "…"


def _rows(
    counts: Mapping[Cell, int], per_line: Mapping[int | None, int]
) -> tuple[tuple[Row, ...], dict[tuple[int, int], float], float]:
    """Rows from the last layer, at the top; the top of each step's lines; the height of everything."""
    lines: Counter[tuple[int, int]] = Counter()
    for (at, token), n in counts.items():
        lines[at] = max(lines[at], math.ceil(n / per_line[token]))
    titles = list(kinds.COLUMNS.values())
    found, tops, y = [], {}, float(TOP)
    for layer in sorted({layer for layer, _ in lines}, reverse=True):
        begin, told = y, []
        y += ROW_GAP / 2
        for at in sorted((at for at in lines if at[0] == layer), reverse=True):
            tops[at] = y
            told.append((titles[at[1]], y + (lines[at] * LINE + CHIP_HEIGHT / 2) / 2))
            y += lines[at] * LINE + LINE_GAP
        y += ROW_GAP / 2 - LINE_GAP
        row = {"layer": layer, "title": kinds.layer_title(layer), "y": begin, "height": y - begin}
        found.append(Row(lines=tuple(told), **row))
    return tuple(found), tops, y + BOTTOM
