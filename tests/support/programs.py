"""Programs compiled into transformers, each with the circuit that computes it and with decoys.

Token 0 begins every row. What a program says at a position is the token of the largest logit there;
`answer` is the same in plain Python. Decoys are heads and neurons that are active and write where
nobody reads: no part of any circuit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from support.compiled import EMBED, LOGITS, ONE, Compiled, Node

from pellucid.models import Transformer

SURE, RECENT, EXACT = 4000.0, 40.0, 60.0
"""Scores: of a match, of each token nearer, and of one that counts all matches evenly."""
DECOYS = 4


@dataclass(frozen=True)
class Program:
    """A model, what it computes, and by which of its parts."""

    name: str
    model: Transformer
    answer: Callable[[Sequence[int]], int | None]
    """the token said after a row of tokens; None where the program says nothing of interest"""
    draw: Callable[[np.random.Generator], list[int]]
    """a row of tokens"""
    edges: frozenset[tuple[Node, Node]]
    """the circuit: which part reads which"""

    @property
    def nodes(self) -> frozenset[Node]:
        """The heads and neurons of the circuit."""
        ends = {node for edge in self.edges for node in edge}
        return frozenset(ends - {EMBED, LOGITS})

    def candidates(self) -> frozenset[Node]:
        """All heads and neurons of the model."""
        kinds = ("attention", "mlp")
        sites = {n: s for n, s in self.model.sites().items() if n.rpartition(".")[2] in kinds}
        return frozenset(
            (name, unit) for name, site in sites.items() for unit in range(site.n_units)
        )


def at(layer: int, half: str, unit: int = 0) -> Node:
    """The node of a head (`attention`) or neuron (`mlp`)."""
    return f"blocks.{layer}.{half}", unit


def _blank(names: list[str], *, vocab: int, context: int, layers: int, steps: int, mlp: str):
    """A model with room for `steps` steps, and decoys in each layer."""
    width = 2 * steps + DECOYS
    scratch = ["scratch0", "scratch1"]
    about = {"vocab": vocab, "context": context, "layers": layers, "width": width, "mlp": mlp}
    made = Compiled.blank([*names, *scratch], **about)
    for layer in range(layers):
        made.head(layer, 1, [("tok1", "tok2", 1.0)], [("tok1", "scratch0", 1.0)])
        for unit in range(DECOYS):
            reads = {f"tok{unit % vocab}": 1.0, "tok1": 0.5}
            made.neuron(layer, 2 * steps + unit, reads, 0.25, {scratch[unit % 2]: 1.0})
    return made


def _outputs(vocab: int) -> tuple[list[str], dict[int, str]]:
    names = [f"out{v}" for v in range(vocab)]
    return names, dict(enumerate(names))


def _counted(made: Compiled, steps: Sequence[dict[str, float]]) -> frozenset[tuple[Node, Node]]:
    """Says how many of the steps are up, of which each is up only with those before it."""
    for number, reads in enumerate(steps):
        made.step(0, 2 * number, reads, {f"out{number + 1}": 1.0, f"out{number}": -1.0})
    made.model.embedding.weight[:, made.channels["out0"]] = 1.0
    head, neurons = at(0, "attention"), [at(0, "mlp", unit) for unit in range(2 * len(steps))]
    inner = {(head, neuron) for neuron in neurons} | {(neuron, LOGITS) for neuron in neurons}
    return frozenset({(EMBED, head), (EMBED, LOGITS)} | inner)


def histogram(*, letters: int = 3, context: int = 8, mlp: str = "dense") -> Program:
    """How often the current token has occurred so far, itself included, as token 1, 2, …"""
    most = context - 1
    vocab = max(letters, most) + 1
    outputs, logits = _outputs(vocab)
    made = _blank(["share", *outputs], vocab=vocab, context=context, layers=1, steps=most, mlp=mlp)
    matches = [(f"tok{v}", f"tok{v}", EXACT) for v in range(1, letters + 1)]
    # The first token scores as high as each match: m matches leave it a share of 1 / (m + 1).
    made.head(0, 0, [*matches, (ONE, "tok0", EXACT)], [("tok0", "share", 1.0)])
    steps = []
    for count in range(1, most + 1):
        gap = 1 / count - 1 / (count + 1)
        steps.append({"share": -2 / gap, ONE: 2 / gap / count - 0.5})
    edges = _counted(made, steps)
    made.read_out(logits)
    answer = lambda row: list(row).count(row[-1]) if row[-1] else 0

    def draw(rng: np.random.Generator) -> list[int]:
        shares = rng.dirichlet(np.full(letters, 0.3))
        return [0, *(1 + rng.choice(letters, context - 1, p=shares)).tolist()]

    return Program("histogram", made.model, answer, draw, edges)


def depth(*, deepest: int = 3, context: int = 10, mlp: str = "dense") -> Program:
    """How many brackets are open, as token 0, 1, …; 1 opens, 2 closes, 3 does nothing."""
    vocab = max(4, deepest + 1)
    outputs, logits = _outputs(vocab)
    names = ["open", "share", *outputs]
    made = _blank(names, vocab=vocab, context=context, layers=1, steps=deepest, mlp=mlp)
    made.head(0, 0, [], [("tok1", "open", 1.0), ("tok2", "open", -1.0), ("tok0", "share", 1.0)])
    # Of n tokens `open` is depth / n, and `share`, of the first token, is 1 / n.
    steep = 2.0 * context
    steps = [{"open": steep, "share": -steep * (level - 0.5)} for level in range(1, deepest + 1)]
    edges = _counted(made, steps)
    made.read_out(logits)

    def answer(row: Sequence[int]) -> int:
        return list(row).count(1) - list(row).count(2)

    def draw(rng: np.random.Generator) -> list[int]:
        row, level = [0], 0
        while len(row) < context:
            token = rng.choice(
                [t for t, d in ((1, 1), (2, -1), (3, 0)) if 0 <= level + d <= deepest]
            )
            level += int(token == 1) - int(token == 2)
            row.append(int(token))
        return row

    return Program("depth", made.model, answer, draw, edges)


def quote(*, context: int = 10, mlp: str = "dense") -> Program:
    """Which of the quotes 1 and 2 was read last, so which one closes; 0 before any."""
    vocab = 5
    outputs, logits = _outputs(vocab)
    made = _blank(outputs, vocab=vocab, context=context, layers=1, steps=0, mlp=mlp)
    marks = [(ONE, "tok1", SURE), (ONE, "tok2", SURE), (ONE, "tok0", SURE / 2)]
    made.head(0, 0, [*marks, (ONE, "when", RECENT)], [(f"tok{v}", f"out{v}", 1) for v in (0, 1, 2)])
    made.read_out(logits)
    answer = lambda row: next((token for token in reversed(row) if token in (1, 2)), 0)
    draw = lambda rng: [0, *rng.choice([1, 2, 3, 4], context - 1, p=[0.1, 0.1, 0.4, 0.4]).tolist()]
    head = at(0, "attention")
    return Program("quote", made.model, answer, draw, frozenset({(EMBED, head), (head, LOGITS)}))


def _looks_back(made: Compiled, names: range) -> None:
    """Layer 0: every token learns which token stands before it."""
    context = made.model.config.context
    before = [(f"pos{p}", f"pos{p - 1}", EXACT) for p in range(1, context)]
    made.head(0, 0, before, [(f"tok{v}", f"prev{v}", 1.0) for v in names])


def _two_layers() -> frozenset[tuple[Node, Node]]:
    first, second = at(0, "attention"), at(1, "attention")
    return frozenset({(EMBED, first), (first, second), (EMBED, second), (second, LOGITS)})


def induction(*, letters: int = 4, context: int = 10, mlp: str = "dense") -> Program:
    """The token that followed the current one when it occurred last; 0 if it did not."""
    vocab, seen = letters + 1, range(1, letters + 1)
    outputs, logits = _outputs(vocab)
    names = [f"prev{v}" for v in seen]
    made = _blank([*names, *outputs], vocab=vocab, context=context, layers=2, steps=0, mlp=mlp)
    _looks_back(made, seen)
    same = [(f"tok{v}", f"prev{v}", SURE) for v in seen]
    fall_back = [(ONE, "tok0", SURE / 2), (ONE, "when", RECENT)]
    made.head(1, 0, [*same, *fall_back], [(f"tok{v}", f"out{v}", 1.0) for v in range(vocab)])
    made.read_out(logits)

    def answer(row: Sequence[int]) -> int:
        places = [p for p in range(1, len(row)) if row[p - 1] == row[-1] and row[-1]]
        return row[places[-1]] if places else 0

    draw = lambda rng: [0, *rng.integers(1, letters + 1, context - 1).tolist()]
    return Program("induction", made.model, answer, draw, _two_layers())


def variable(*, names: int = 2, values: int = 3, context: int = 11, mlp: str = "dense") -> Program:
    """Pairs of a name and a value, or of a name and 1, which asks for the value it got last.

    Names are 2 …, values come after them; 0 is said of a name that has no value.
    """
    named = range(2, 2 + names)
    valued = range(2 + names, 2 + names + values)
    vocab = 2 + names + values
    outputs, logits = _outputs(vocab)
    before = [f"prev{v}" for v in named]
    made = _blank([*before, *outputs], vocab=vocab, context=context, layers=2, steps=0, mlp=mlp)
    _looks_back(made, named)
    same = [(f"prev{v}", f"prev{v}", SURE) for v in named]
    others = [(ONE, "tok1", -SURE), (ONE, "tok0", SURE / 2), (ONE, "when", RECENT)]
    made.head(1, 0, [*same, *others], [(f"tok{v}", f"out{v}", 1.0) for v in (0, *valued)])
    made.read_out(logits)

    def answer(row: Sequence[int]) -> int | None:
        if row[-1] != 1:
            return None
        pairs = zip(row[1::2], row[2::2], strict=False)
        found = [value for name, value in pairs if name == row[-2] and value != 1]
        return found[-1] if found else 0

    def draw(rng: np.random.Generator) -> list[int]:
        row = [0]
        while len(row) + 2 <= context:
            row += [int(rng.choice(named)), int(rng.choice([1, *valued]))]
        return row

    return Program("variable", made.model, answer, draw, _two_layers())


PROGRAMS = {
    "histogram": histogram,
    "induction": induction,
    "depth": depth,
    "quote": quote,
    "variable": variable,
}
