"""How few tokens a unit fires on: the entropy of the tokens there, beside that of chance.

A unit that fires ten times meets ten tokens at most, whatever it responds to: entropies are compared
at matched density, with those of as many tokens drawn at random.
"""

import numpy as np
from jaxtyping import Integer

from pellucid.eval.bootstrap import Interval, mean
from pellucid.eval.controls import System, under_controls
from pellucid.eval.rules.fit import portions
from pellucid.eval.rules.predictions import chosen
from pellucid.eval.score import NO_VALUE, Score
from pellucid.eval.workbench import Workbench

FEWEST, DRAWS = 10, 8
"""Tokens on which a unit has to fire to be judged, and samples of as many that are drawn at random."""


def entropy(tokens: Integer[np.ndarray, " token"]) -> float:
    """Entropy in bits of the kinds of tokens in a sample, as they are counted."""
    _, counts = np.unique(tokens, return_counts=True)
    share = counts / counts.sum()
    return float(-(share * np.log2(share)).sum())


def concentration(
    text: Integer[np.ndarray, " token"], places: Integer[np.ndarray, " active"], *, seed: list[int]
) -> float | None:
    """1 - H(token | active) / H_n, where H_n is the mean entropy of n = |active| tokens at random.

    1: always the same token; 0: any, as they come. None where it fires on too few tokens to tell, or
    a text has no two kinds of token.
    """
    if len(places) < FEWEST:
        return None
    dice = np.random.default_rng(seed)
    drawn = (dice.choice(len(text), len(places), replace=False) for _ in range(DRAWS))
    chance = float(np.mean([entropy(text[some]) for some in drawn]))
    return 1 - entropy(text[places]) / chance if chance > 0 else None


def token_entropies(bench: Workbench) -> list[Score]:
    """How much less varied the tokens are on which units fire than as many tokens at random."""
    tokens, most = bench.stream.tokens, bench.rules.sampled

    def measure(system: System) -> dict[str | None, Interval]:
        return {
            name: _of_site(system, name, tokens, most=most, seed=bench.seed)
            for name in system.sites()
        }

    flags = dict.fromkeys(bench.reader.sites(), ("the interval is over units, not documents",))
    return under_controls(bench, "token_entropy", measure, better="higher", flags=flags)


def _of_site(
    system: System, name: str, tokens: np.ndarray, *, most: int | None, seed: int
) -> Interval:
    kept, signed = system.harvest[name], system.sites()[name].signed
    least = system.end_to_end.moments[name].threshold(signed=signed)
    units, found = chosen(kept.n_units, most, seed), []
    for some in portions(units, kept.n_tokens):
        for unit, values in zip(some, kept.columns(some).T, strict=True):
            places = np.flatnonzero(np.abs(values) > least[unit])
            found.append(concentration(tokens, places, seed=[seed, int(unit)]))
    judged = [one for one in found if one is not None]
    if not judged:
        none = NO_VALUE + f"no sampled unit fires on {FEWEST} tokens"
        return Interval(None, None, None, 0, (none,))
    drawn = "" if len(units) == kept.n_units else f", drawn from {kept.n_units},"
    flag = f"{len(judged)} of {len(units)} units{drawn} fire on {FEWEST} tokens or more"
    interval = mean(np.array(judged), seed=seed, what="units")
    return interval._replace(flags=(*interval.flags, flag))
