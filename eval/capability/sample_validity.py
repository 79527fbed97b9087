"""Is what a model writes Python? Samples begun at the start of a file, judged by the parser.

A sample ends where the context does, so only its whole top-level statements are judged: what stands
before the last line that begins at the margin. A sample without one is not valid.
"""

import io
import tokenize
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from pellucid.data.tokenizer import Tokenizer
from pellucid.eval.bootstrap import Interval, mean, ratio
from pellucid.eval.capability.mutations import loaded_names, undefined
from pellucid.eval.capability.parts import by_part, nothing, tokenizer_of
from pellucid.eval.capability.texts import parsed
from pellucid.eval.labels.pieces import texts_of
from pellucid.eval.score import NoValue, Score
from pellucid.models.generate import generate

if TYPE_CHECKING:
    from pellucid.eval.workbench import Workbench

SAMPLES = 32
OPENS = {")": "(", "]": "[", "}": "{"}


def sample_validity(bench: "Workbench") -> list[Score]:
    """Share of samples that parse; with `balanced` brackets; and of names read, the `undefined`.

    Beside it held-out files, cut to the same number of tokens: what no model is meant to beat.
    """
    tokenizer, eot = tokenizer_of(bench), bench.stream.eot
    texts = texts_of(bench.stream, tokenizer.token_bytes)
    if not any(parsed(text) for text in texts):
        raise NoValue("the held-out text is not Python")

    def measure(system) -> dict[str | None, Interval]:
        written = write(system.model, tokenizer, eot=eot, context=system.context, seed=bench.seed)
        return judged(written, seed=bench.seed)

    held_out = beginnings(texts, tokenizer, bench.reader.context)
    better = lambda name: "lower" if name == "undefined" else "higher"
    references = {"ceiling_held_out_text": judged(held_out, seed=bench.seed)}
    written = SAMPLES * bench.reader.context
    return by_part(
        bench, "sample_validity", measure, better=better, references=references, tokens=written
    )


def write(
    model: nn.Module, tokenizer: Tokenizer, *, eot: int, context: int, seed: int
) -> list[str]:
    """Samples of a context's length at temperature 1, each to the eot if it writes one."""
    device = next(model.parameters()).device
    prompt = torch.full((SAMPLES, 1), eot, device=device)
    rows = generate(model, prompt, context - 1, seed=seed)[:, 1:].tolist()
    return [tokenizer.decode(row[: row.index(eot)] if eot in row else row) for row in rows]


def beginnings(texts: list[str], tokenizer: Tokenizer, context: int) -> list[str]:
    """The first tokens of held-out files, as many as a sample has."""
    return [tokenizer.decode(tokenizer.encode(text)[: context - 1]) for text in texts[:SAMPLES]]


def judged(samples: list[str], *, seed: int) -> dict[str | None, Interval]:
    """What share of samples is valid and balanced, and of their names undefined."""
    whole = [statements(sample) for sample in samples]
    trees = [parsed(text) for text in whole]
    valid = np.array([bool(tree and tree.body) for tree in trees])
    even = np.array([bool(text.strip()) and balanced(text) for text in whole])
    counts = [(len(undefined(t)), len(loaded_names(t))) for t in trees if t and loaded_names(t)]
    return {
        None: mean(valid.astype(float), seed=seed, what="samples"),
        "balanced": mean(even.astype(float), seed=seed, what="samples"),
        "undefined": ratio(*np.array(counts, float).T, seed=seed, what="samples")
        if counts
        else nothing("no valid sample reads a name"),
    }


def statements(sample: str) -> str:
    """The sample up to the last line that begins at the margin, which may be cut short.

    Lines that only close what an earlier one opened begin no statement.
    """
    lines = sample.split("\n")
    starts = [i for i, line in enumerate(lines) if line[:1].strip() and line[0] not in ")]}#"]
    return "\n".join(lines[: starts[-1]]) + "\n" if starts else ""


def balanced(text: str) -> bool:
    """Whether every bracket outside strings and comments is closed by its own kind."""
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (tokenize.TokenError, SyntaxError):
        return False
    open_ = []
    for token in tokens:
        if token.type == tokenize.OP and token.string in "([{":
            open_.append(token.string)
        closes = OPENS.get(token.string) if token.type == tokenize.OP else None
        if closes and (not open_ or open_.pop() != closes):
            return False
    return not open_
