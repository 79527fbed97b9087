"""Answers that mean nothing: can a circuit be found for what the model does not do?

A pruner that finds as small a circuit for nonsense builds circuits instead of finding them: so did
a re-training of the weight-sparse transformers, with "is" and "when" for answers.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor

from pellucid.eval.circuits.battery.case import Case
from pellucid.eval.circuits.battery.check import Check, missing
from pellucid.eval.circuits.battery.searched import compared, searched
from pellucid.eval.circuits.objective import Asked, margins_of

NONSENSE = "nonsense_mapping"
TRIED = 32
"""Pairs of tokens that are drawn for a mapping, before it is given up."""


def nonsense(case: Case) -> list[Check]:
    """Circuits for two arbitrary tokens, for the answers swapped, and for answers dealt by lot."""
    found = [_mapping(case), _swapped(case)]
    return [*found, _permuted(case)] if case.repeats.permutations else found


def _mapping(case: Case) -> Check:
    name, rng = NONSENSE, case.rng("mapping")
    asked = [_nonsense(case, rng) for _ in range(case.repeats.mappings)]
    usable = [each for each in asked if each is not None]
    if not usable:
        return missing(
            name,
            "ratio",
            f"by each of {TRIED} pairs of tokens the model tells the prompts apart already, or the "
            "text has too few tokens, so that there is no nonsense to ask for",
        )
    empty = [searched(case, each, number) for number, each in enumerate(usable)]
    return compared(case, name, "two arbitrary tokens for answers take", empty)


def _nonsense(case: Case, rng: torch.Generator) -> Asked | None:
    """The prompts with two tokens of the text for answers, which the model does not give."""
    tokens = torch.cat([rows.flatten().cpu() for rows in case.text]).unique()
    answers = torch.cat([case.asked.first, case.asked.second, case.asked.tokens[0, :1]]).cpu()
    tokens = tokens[~torch.isin(tokens, answers)]
    if len(tokens) < 2:
        return None
    for _ in range(TRIED):
        first, second = tokens[torch.randperm(len(tokens), generator=rng)[:2]].tolist()
        made, unseen = (_answered(asked, first, second) for asked in (case.asked, case.unseen))
        if _loss(case, made, unseen) > case.target:
            return made
    return None


def _answered(asked: Asked, first: int, second: int) -> Asked:
    like = torch.ones_like(asked.first)
    return replace(asked, first=first * like, second=second * like)


@torch.no_grad()
def _loss(case: Case, asked: Asked, unseen: Asked) -> float:
    """Of the whole model."""
    seen, new = (margins_of(case.model, case.nodes, each)[None] for each in (asked, unseen))
    return case.scored(seen, new).item()


def _swapped(case: Case) -> Check:
    everything = torch.ones(len(case.asked) // 2, dtype=torch.bool)
    empty = searched(case, exchanged(case.asked, everything), 0)
    return compared(case, "swapped_labels", "the answers swapped take", [empty])


def _permuted(case: Case) -> Check:
    name, pairs, rng = "permuted_labels", len(case.asked) // 2, case.rng("permuted")
    if pairs < 2:
        reason = f"half of the pairs are swapped, and there is {pairs}: 2 or more are needed"
        return missing(name, "ratio", reason)
    draw: Callable[[], Tensor] = lambda: torch.randperm(pairs, generator=rng) < pairs // 2
    empty = [
        searched(case, exchanged(case.asked, draw()), number)
        for number in range(case.repeats.permutations)
    ]
    return compared(case, name, "answers dealt by lot take", empty)


def exchanged(asked: Asked, chosen: Bool[Tensor, " pair"]) -> Asked:
    """The same prompts; in the chosen pairs answer A is right after prompt B, and B after A."""
    rows = torch.arange(len(asked), device=asked.tokens.device)
    rows = torch.where(chosen.to(rows.device).repeat(2), asked.partner, rows)
    return replace(asked, tokens=asked.tokens[rows], last=asked.last[rows])
