"""The two planted end points of `h1`: a model whose units are the latents, and one that superposes them.

`python -m pellucid.experiments.plants grids/h1` scores both on the grid's text, by the grid's suite,
and writes `plants.json` beside `grid.json`, which the analysis of `h1` then reads.

Both read the corpus `latent` as its perfect reader does (`eval.latents.filtering`), and predict from
what they then believe of each automaton, as if they were independent of each other: they pay the same
bits, little more than the least. They differ in one layer alone:

- `latents`: unit i is latent i (an automaton in a state), where it is held likelier than not;
- `superposed`: a third as many units; each latent is a direction of three of them.
"""

import sys
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, Int64, Integer
from torch import Tensor, nn
from torch.nn.functional import one_hot

from pellucid.config import RunConfig
from pellucid.data import TokenData, prepare
from pellucid.data.latent import symbol_of_token
from pellucid.data.latent_process import Process
from pellucid.errors import RunError
from pellucid.eval.latents.filtering import DOCUMENTS, Filter
from pellucid.eval.latents.known import known_of
from pellucid.eval.latents.labels import table_of
from pellucid.eval.reader import Reader
from pellucid.eval.score import Score
from pellucid.eval.stream import sample
from pellucid.eval.suite import METRICS, SUITES
from pellucid.eval.taking import taken
from pellucid.eval.workbench import Workbench
from pellucid.experiments import analysis
from pellucid.experiments.h1 import FILE, PLANTS, REGRET, SUPERPOSED, TESTED, TRUTH
from pellucid.models import Activations, UnitSite
from pellucid.models.transformer import Output
from pellucid.report.reading import read_json
from pellucid.run import RunFolder
from pellucid.settings import fields
from pellucid.storage import files

SPREAD, FEWER = 3, 3
"""Units that hold a latent of `superposed`, and latents for each of its units."""
LEAST = 1e-6
"""Probability that a symbol has at least, and all tokens that are none together."""
ANOTHER = 2**31
"""The seed of a language that is no corpus's."""


class Planted(nn.Module):
    """A reader of the corpus `latent` with one site, `blocks.0.mlp`, of planted units.

    `symbols (token,)` is the symbol of each token of the vocabulary, -1 for none. Only what the units
    hold of the latents passes through the site; the rest of what is believed passes by it. What is
    believed after rows of tokens is kept in `remembered`, which plants of one process may share.
    """

    def __init__(
        self,
        process: Process,
        symbols: Integer[np.ndarray, " token"],
        *,
        eot: int,
        length: int,
        plant: str,
        remembered: dict[bytes, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.vocab_size, self.eot, self.process = len(symbols), eot, process
        self.sizes = process.sizes
        self.remembered = {} if remembered is None else remembered
        self._tables(torch.from_numpy(symbols), 1 / (length + 1))
        mixed = mixing(sum(self.sizes)) if plant == SUPERPOSED else np.eye(sum(self.sizes))
        mixed = torch.tensor(mixed, dtype=torch.float32)
        self.register_buffer("encode", mixed)
        self.register_buffer("decode", torch.linalg.pinv(mixed))
        write = lambda: self.decode.T
        self.site = UnitSite("mlp", len(mixed), signed=False, exactness="none", write=write)
        self.site.name, self.site.layer = "blocks.0.mlp", 0

    def _tables(self, symbols: Tensor, ends: float) -> None:
        count, size = len(self.sizes), max(self.sizes)
        is_state = torch.arange(size) < torch.tensor(self.sizes)[:, None]
        moves, starts = torch.zeros(count, size, size), torch.zeros(count, size)
        spoken = torch.zeros(self.process.n_symbols, count, size, size)
        for k, automaton in enumerate(self.process.automata):
            own, other = automaton.size, self.sizes[self.process.listener(k)]
            moves[k, :own, :own] = torch.from_numpy(automaton.move)
            starts[k, :own] = torch.from_numpy(automaton.start)
            spoken[:, k, :own, :other] = torch.from_numpy(self.process.spoken[k])
        self.register_buffer("symbols", symbols)
        self.register_buffer("is_state", is_state)
        self.register_buffer("moves", moves)
        self.starts = nn.Parameter(starts, requires_grad=False)
        self.register_buffer("spoken", spoken)
        there = symbols >= 0
        share = torch.where(there, torch.tensor(1 - ends), torch.tensor(LEAST / len(symbols)))
        share[self.eot] = ends
        self.register_buffer("share", share)

    def sites(self) -> dict[str, UnitSite]:
        return {self.site.name: self.site}

    def forward(self, tokens: Int[Tensor, "batch token"]) -> Output:
        believed = self.believed(tokens)
        held = believed[..., self.is_state]
        units = torch.where(held > 0.5, held, 0.0) @ self.encode.T
        seen = self.site(Activations(units, None, units.shape[-1])).to_dense()
        moved = torch.zeros_like(believed)
        moved[..., self.is_state] = (seen - units) @ self.decode.T
        return Output(self.predicted((believed + moved).clamp_min(0)), {})

    def believed(
        self, tokens: Int[Tensor, "batch token"]
    ) -> Float[Tensor, "batch token latent state"]:
        """The probability of each state of each automaton after each token; all start anew at eot.

        What was read once is remembered: no edit changes it, and metrics read the same rows often.
        """
        rows = [row.tobytes() for row in tokens.cpu().numpy()]
        new = list(dict.fromkeys(row for row in rows if row not in self.remembered))
        for first in range(0, len(new), DOCUMENTS):
            some = new[first : first + DOCUMENTS]
            read = self._read(np.stack([np.frombuffer(row, dtype=np.int64) for row in some]))
            self.remembered |= dict(zip(some, read, strict=True))
        return torch.stack([self.remembered[row] for row in rows]).to(tokens.device)

    def _read(
        self, tokens: Int64[np.ndarray, "batch token"]
    ) -> Float[Tensor, "batch token latent state"]:
        steps, symbols = Filter(self.process, np.float32), self.symbols.cpu().numpy()
        found = torch.zeros(*tokens.shape, *self.is_state.shape)
        belief = steps.start(len(tokens))
        for place, column in enumerate(tokens.T):
            belief, symbol = steps.move(belief), symbols[column]
            tells = symbol >= 0
            if tells.any():
                belief[tells], _ = steps.hear(belief[tells], symbol[tells])
            belief[column == self.eot] = steps.start(1)
            for latent, marginal in enumerate(steps.marginals(belief)):
                found[:, place, latent, : self.sizes[latent]] = torch.from_numpy(marginal)
        return found

    def predicted(
        self, believed: Float[Tensor, "batch token latent state"]
    ) -> Float[Tensor, "batch token vocab"]:
        """Logits of the next token."""
        moved = torch.einsum("bnks,kst->bnkt", believed, self.moves)
        said = torch.einsum("bnks,vkst,bnkt->bnv", moved, self.spoken, moved.roll(-1, 2))
        said = said.clamp_min(LEAST)
        log = (said / said.sum(-1, keepdim=True)).log()
        of_symbol = one_hot(self.symbols.clamp_min(0), len(self.spoken)).to(log)
        of_symbol = of_symbol * (self.symbols >= 0)[:, None]
        return log @ of_symbol.T + self.share.log()

    def direct_logits(
        self, directions: Float[Tensor, "unit latent"]
    ) -> Float[Tensor, "unit vocab"]:
        """What a direction of the latents does to the logits, to first order in what is believed."""
        logits = lambda believed: self.predicted(believed[None, None])[0, 0]
        slopes = torch.func.jacrev(logits)(self.starts)
        return directions @ slopes[:, self.is_state].T


def mixing(latents: int) -> Float32[np.ndarray, "unit latent"]:
    """Directions of unit length, each of three units, no two alike."""
    units = max(2 * SPREAD, latents // FEWER)
    every = np.array(list(combinations(range(units), SPREAD)))
    drawn = np.random.default_rng(0).permutation(every)[:latents]
    found = np.zeros((units, latents), dtype=np.float32)
    np.put_along_axis(found, drawn.T, SPREAD**-0.5, axis=0)
    return found


def benches_of(
    data: TokenData, *, context: int, suite: str = "standard", split: str = "val"
) -> dict[str, Workbench]:
    """Both plants, each with the held-out text and a random twin, which reads another language.

    Raises RunError for data that are not of the corpus `latent`, or that no exact reader can read.
    """
    limits, eot = SUITES[suite], data.tokenizer.eot
    stream = sample(data.split(split), eot=eot, tokens=limits.tokens, seed=0)
    known = known_of(data, split, stream)
    if isinstance(known, str):
        raise RunError(f"plants read the corpus `latent` alone: {known}")
    if not known.is_exact:
        raise RunError(f"plants are exact readers: {known.process.n_states:,} states are too many")
    process, symbols = known.process, symbol_of_token(data.tokenizer.token_bytes)
    other = {"n_symbols": process.n_symbols, "noise": process.noise, "seed": ANOTHER}
    readers: dict[str, list[Reader]] = {plant: [] for plant in PLANTS}
    for spoken in (process, Process.of(process.automata, **other)):
        about = {"eot": eot, "length": known.length, "remembered": {}}
        for plant, made in readers.items():
            model = Planted(spoken, symbols, plant=plant, **about).eval()
            made.append(Reader(model, stream, context, keep_inputs=True))
    shared = {
        "train": np.asarray(data.split("train").tokens[: limits.ngram_tokens]),
        "vocab_size": data.vocab_size,
        "split": split,
        "seed": 0,
        "labelled": lambda: table_of(known),
        "latents": known,
        "tokenizer": data.tokenizer,
        "rules": limits.rules,
    }
    return {plant: Workbench(*made, **shared) for plant, made in readers.items()}


def scores_of(bench: Workbench, metrics: Iterable[str]) -> list[Score]:
    """What a plant scores; a metric in parts is asked for by the name before the colon."""
    names = dict.fromkeys(metric.partition(":")[0] for metric in metrics)
    return [one for name in names for one in taken(bench, name, METRICS[name])]


def planted(folder: Path) -> str:
    """Score both plants on the text of a grid's first cell that is there, and write them beside it.

    Returns a sentence. RunError: no grid, or none of its cells is begun.
    """
    grid = read_json(Path(folder) / "grid.json")
    if grid is None:
        raise RunError(f"{folder} is not a grid: it has no grid.json")
    begun = [RunFolder(Path(folder) / "cells" / name) for name in grid["cells"]]
    begun = [run for run in begun if run.exists()]
    if not begun:
        raise RunError(f"{folder}: no cell is begun, whose text the plants could read")
    config = fields.from_json(RunConfig, begun[0].read_config())
    about = {"context": config.model.context, "suite": grid["suite"], "split": grid["split"]}
    data, found = prepare(config.data), {}
    for plant, bench in benches_of(data, **about).items():
        found[plant] = [one.to_json() for one in scores_of(bench, (*TESTED, TRUTH, REGRET))]
    held = {"data_fingerprint": data.fingerprint, "plants": found}
    files.write_json(Path(folder) / FILE, held, RunError)
    return f"both plants are scored: {Path(folder) / FILE}"


if __name__ == "__main__":
    sys.exit(analysis(planted, sys.argv[1:]))
