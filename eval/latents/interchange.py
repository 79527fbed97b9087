"""Do few units hold a latent? One automaton of the generator is reset, and units are interchanged.

Two texts share all but the states of one automaton after a token, and what it then says. Each has a
symbol that a perfect reader holds for likelier than the other text's. A model reads the latent from
those units that, taken from one text into the other, turn its choice (interchange accuracy, MIB, arXiv
2504.13151, with the generator's own intervention as the cue).
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64, Int64

from pellucid.data.automata import LATENTS
from pellucid.data.latent import symbol_of_token
from pellucid.data.latent_process import Process, Put
from pellucid.eval.bootstrap import Interval, mean
from pellucid.eval.capability.parts import by_part, nothing, tokenizer_of
from pellucid.eval.causal.interchange import MOST, Rates, of_task
from pellucid.eval.causal.prompts import Prompts
from pellucid.eval.controls import System
from pellucid.eval.latents.filtering import DOCUMENTS, Filter
from pellucid.eval.latents.known import Known
from pellucid.eval.score import NoValue, Score
from pellucid.eval.workbench import Workbench

METRIC, SOLVED = "latent_interchange", "solved"
PAIRS, TRIES = 24, 4
"""Pairs of each automaton, and how many times as many are drawn at most."""
LONGEST, SHORTEST = 48, 8
"""Symbols of a text; the automaton is reset after half of them."""
CLEAR = np.log(2.0)
"""By how much a perfect reader prefers a text's own symbol at least, in nats."""


class Reset(NamedTuple):
    """Texts of pairs (first side: as drawn; second: with an automaton reset), and their answers."""

    symbols: Int64[np.ndarray, "side pair token"]
    answers: Int64[np.ndarray, "side pair"]


def latent_interchange(bench: Workbench) -> list[Score]:
    """Interchange accuracy of at most four units for each automaton, and in the mean over them."""
    known = bench.latents
    if isinstance(known, str):
        raise NoValue(known)
    prompts = prompts_of(bench, known)
    read = sum(one.tokens.numel() for one in prompts.values())
    return by_part(
        bench,
        METRIC,
        lambda system: measured(system, prompts),
        better=lambda part: None if part == SOLVED else "higher",
        tokens=read,
        flags=(f"units are chosen on half of the pairs, {MOST} at most, and scored on the other",),
    )


def measured(system: System, prompts: dict[str, Prompts]) -> dict[str | None, Interval]:
    """Accuracy over the pairs of all automata (None) and of each; NoValue for a system of no units."""
    if not system.sites():
        raise NoValue("the model has no site with units of its own")
    rates = {name: of_task(system, one) for name, one in prompts.items()}
    every = Rates(*(np.concatenate(each) for each in zip(*rates.values(), strict=True)))
    over = lambda values: mean(values, seed=0, what="pairs")
    found: dict[str | None, Interval] = {None: over(every.flipped), SOLVED: over(every.solved)}
    parts = {name: over(rates[name].flipped) for name in rates}
    return found | parts | {name: nothing(TOO_FEW) for name in LATENTS if name not in rates}


TOO_FEW = "too few resets of it change what a perfect reader expects"


def prompts_of(bench: Workbench, known: Known) -> dict[str, Prompts]:
    """By automaton, prompts that end where its state decides; NoValue where no automaton has any."""
    if not known.is_exact:
        raise NoValue("resets need a perfect reader that is exact")
    length = min(LONGEST, bench.reader.context - 1)
    if length < SHORTEST:
        raise NoValue(f"the context is {length + 1} tokens; {SHORTEST + 1} are needed")
    symbols = symbol_of_token(tokenizer_of(bench).token_bytes)
    token_of = np.full(known.process.n_symbols, -1)
    here = np.flatnonzero((symbols >= 0) & (symbols < len(token_of)))
    token_of[symbols[here]] = here
    found = {}
    for latent, name in enumerate(LATENTS):
        seed = [bench.seed, latent, *bench.split.encode()]
        pairs = resets(known.process, latent, length=length, seed=seed)
        if pairs is not None:
            found[name] = _prompts(pairs, token_of, bench.stream.eot)
    if not found:
        raise NoValue(TOO_FEW)
    return found


def _prompts(pairs: Reset, token_of: np.ndarray, eot: int) -> Prompts:
    rows = token_of[pairs.symbols.reshape(-1, pairs.symbols.shape[-1])]
    tokens = np.concatenate([np.full((len(rows), 1), eot), rows], axis=1)
    own, other = token_of[pairs.answers], token_of[pairs.answers[::-1]]
    last = torch.full((len(rows),), tokens.shape[1] - 1)
    answers = (torch.from_numpy(each.reshape(-1)) for each in (own, other))
    return Prompts(torch.from_numpy(tokens), last, *answers)


def resets(process: Process, latent: int, *, length: int, seed: list[int]) -> Reset | None:
    """Pairs whose answers a perfect reader tells apart; None where too few are found."""
    if process.sizes[latent] < 2:
        return None
    generator, kept = np.random.default_rng(seed), []
    for _ in range(TRIES):
        kept.append(_drawn(process, latent, length, generator))
        if sum(pairs.answers.shape[1] for pairs in kept) >= PAIRS:
            together = (np.concatenate(each, axis=1)[:, :PAIRS] for each in zip(*kept, strict=True))
            return Reset(*together)
    return None


def _drawn(process: Process, latent: int, length: int, generator: np.random.Generator) -> Reset:
    """As many pairs as are wanted, less those whose answers are not clear."""
    uniform = generator.random((PAIRS, length, len(process.automata) + 2))
    states, symbols = process.draw(uniform)
    size, at = process.sizes[latent], length // 2
    state = (states[:, at, latent] + generator.integers(1, size, PAIRS)) % size
    _, after = process.draw(uniform, Put(latent, at, state))
    both = np.stack([symbols, after])
    log = np.log(np.stack([expected(process, side) for side in both]))
    pair, change = np.arange(PAIRS), log[0] - log[1]
    answers = np.stack([change.argmax(1), change.argmin(1)])
    prefers = [
        log[side, pair, answers[side]] - log[side, pair, answers[1 - side]] for side in (0, 1)
    ]
    clear = np.minimum(*prefers) >= CLEAR
    return Reset(both[:, clear], answers[:, clear])


def expected(
    process: Process, symbols: Int64[np.ndarray, "document token"]
) -> Float64[np.ndarray, "document symbol"]:
    """What a perfect reader expects after each text."""
    steps, found = Filter(process), []
    for first in range(0, len(symbols), DOCUMENTS):
        read = symbols[first : first + DOCUMENTS]
        belief = steps.start(len(read))
        for token in range(read.shape[1]):
            belief, _ = steps.hear(steps.move(belief) if token else belief, read[:, token])
        found.append(steps.predict(steps.move(belief)))
    return np.concatenate(found)
