"""Steering: does turning a unit up bring the label that it stands for, and nothing else?

The unit whose firing best announces tokens that realise a label on half A is moved further to the
side on which it announces them, by s times the 99th percentile of its activation there; s is chosen
on prompts of half A, the score is taken on B.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from pellucid.eval.bootstrap import Interval, mean
from pellucid.eval.capability.parts import by_part, nothing
from pellucid.eval.causal.chosen import Chosen, of_next, ranked
from pellucid.eval.causal.judge import SAID, Judge, judge_of, next_log_probs
from pellucid.eval.causal.passes import Rows, nats, rows_of
from pellucid.eval.causal.pushes import STRENGTHS, VECTORS, Push, Pusher
from pellucid.eval.causal.realising import log_odds, with_tokens
from pellucid.eval.causal.steered import NOTHING, Steered, steered
from pellucid.eval.causal.targeted_ablation import some_labels
from pellucid.eval.concepts.given import truth_of
from pellucid.eval.concepts.truth import Truth
from pellucid.eval.controls import System
from pellucid.eval.score import NO_INTERVAL, NoValue, Score
from pellucid.eval.still import said_of_all
from pellucid.eval.stream import Stream
from pellucid.eval.workbench import Workbench

LABELS, PROMPTS, LENGTH = 12, 24, 24
"""Labels, prompts of each half, and tokens of a prompt."""
PREFIXES, PREFIX = 4, 8
"""Prompt prefixes that are tried, and their tokens."""
NEUTRAL = 1024
"""Tokens of half B on which the cost of steering is measured, and of half A for means."""
COST = "cost"
PARTS = ("success", "fluency", "specificity")
UNIT, RANDOM_UNIT, PROMPT = "unit", "random_unit", "prompt_prefix"
METHODS = (*VECTORS, RANDOM_UNIT, PROMPT)
"""What steering by a unit is held against."""
_SAID = "what tokens tell of a label pushes nothing: prompt_prefix is steering by tokens"
MISSING = {
    "permutation_null": "a unit that was chosen without the labels is random_unit",
    **{f"floor_{name}": _SAID for name in ("always_on", "token_only", "five_gram", "best")},
    "ceiling_probe": "a probe pushes nothing: difference_in_means is the direction labels give",
}
"""What stands beside other label scores, and why it does not here."""


class Prompts(NamedTuple):
    """Stretches of the stream of equal length, and what is judged likely after them."""

    tokens: Integer[Tensor, "prompt token"]
    off: Bool[Tensor, "prompt label"]
    """labels that do not hold at the end"""
    judge: Float[Tensor, "prompt vocab"]


@dataclass(frozen=True)
class Subject:
    """What is steered to, and from where."""

    truth: Truth
    """of the next token"""
    realising: Bool[Tensor, "label vocab"]
    a: Prompts
    b: Prompts
    means: Rows
    """of half A"""
    neutral: Rows
    """of half B"""
    prefixes: list[Integer[Tensor, "prefix token"]]
    """of each label: stretches of half A at whose end it holds"""
    seed: int


def steering(bench: Workbench) -> list[Score]:
    """Steering by units to twelve labels, beside what needs no units."""
    subject = subject_of(bench, judge_of(bench))
    references = {method: _beside(bench.reader, subject, method) for method in METHODS}
    every = [None, *PARTS, COST, *subject.truth.names]
    references |= {name: dict.fromkeys(every, nothing(why)) for name, why in MISSING.items()}
    return by_part(
        bench,
        "steering",
        lambda system: measure(system, subject, UNIT),
        better=lambda part: "lower" if part == COST else "higher",
        references=references,
        flags=(SAID, *bench.ngram_flags, *said_of_all(bench.reader)),
        tokens=subject.a.tokens.numel() + subject.b.tokens.numel(),
    )


def _beside(system: System, subject: Subject, method: str) -> dict[str | None, Interval]:
    """What a method scores; its reason in the place of every number where it cannot be used."""
    try:
        found = measure(system, subject, method)
    except NoValue as reason:
        return dict.fromkeys([None, *PARTS, COST, *subject.truth.names], nothing(str(reason)))
    return {**found, COST: nothing("measured for units only")}


def subject_of(bench: Workbench, judge: Judge) -> Subject:
    """Labels with tokens that realise them, and prompts of both halves at whose end they are off."""
    stream, seed = bench.stream, bench.seed
    truth, realising = with_tokens(stream.tokens, truth_of(bench), bench.vocab_size)
    chosen = some_labels(truth, LABELS)
    realising = realising[[truth.names.index(name) for name in chosen.names]]
    following = of_next(chosen)
    kept = [chosen.names.index(name) for name in following.names]
    truth, realising = chosen.only(np.array(kept)), torch.from_numpy(realising[kept])
    about = {"context": bench.reader.context, "tokens": NEUTRAL, "seed": seed}
    length = min(LENGTH, bench.reader.context - PREFIX)
    return Subject(
        following,
        realising,
        *(prompts_of(stream, truth, judge, length, seed, which) for which in (0, 1)),
        rows_of(stream, following.half, which=0, **about),
        rows_of(stream, following.half, which=1, **about),
        [prefixes_of(stream, truth, label, seed) for label in range(len(truth.names))],
        seed,
    )


def prompts_of(
    stream: Stream, truth: Truth, judge: Judge, length: int, seed: int, which: int
) -> Prompts:
    """Prompts that end in a half of the text; NoValue where it is too short."""
    ends = np.flatnonzero(truth.half == which)
    ends = ends[ends >= length]
    if len(ends) < PROMPTS or length < 1:
        raise NoValue(f"half {'AB'[which]} of the text has no {PROMPTS} prompts of {length} tokens")
    ends = np.sort(np.random.default_rng([seed, which]).choice(ends, PROMPTS, replace=False))
    tokens = torch.from_numpy(stream.tokens[ends[:, None] + np.arange(1 - length, 1)])
    return Prompts(tokens, torch.from_numpy(~truth.holds[ends]), judge(tokens))


def prefixes_of(
    stream: Stream, truth: Truth, label: int, seed: int
) -> Integer[Tensor, "prefix token"]:
    """Stretches of half A at whose end a label holds."""
    ends = truth.a[truth.holds[truth.a, label]]
    ends = ends[ends >= PREFIX]
    chosen = np.random.default_rng([seed, label]).permutation(ends)[:PREFIXES]
    return torch.from_numpy(stream.tokens[chosen[:, None] + np.arange(1 - PREFIX, 1)])


def measure(system: System, subject: Subject, method: str) -> dict[str | None, Interval]:
    """Scores of a method: of all labels (None), the three parts, each label, and the cost.

    Raises NoValue for a system without units, and where no label can be steered to by the method.
    """
    best = ranked(system.harvest, subject.truth, most=1)
    steers = Steers(system, subject)
    found, costs, reasons = {}, [], []
    for label, name in enumerate(subject.truth.names):
        one = steers.one(label, best[label][0], method) if best[label] else "no unit announces it"
        if isinstance(one, str):
            reasons.append(one)
            continue
        found[name] = one
        if method == UNIT:
            costs.append(steers.cost(label, best[label][0]))
    if not found:
        raise NoValue(reasons[0])
    over = lambda values: mean(np.array(values), seed=subject.seed, what="labels")
    parts = {part: over([getattr(one, part) for one in found.values()]) for part in PARTS}
    paid = [cost for cost in costs if cost is not None]
    parts |= {COST: over(paid) if paid else nothing("no strength flips half of the prompts")}
    whole = {None: over([one.score for one in found.values()])}
    return whole | parts | {name: _alone(one.score) for name, one in found.items()}


def _alone(value: float) -> Interval:
    return Interval(value, None, None, PROMPTS, (f"{NO_INTERVAL}one label is one number",))


@dataclass
class Steers:
    """Steers one system; what prompts give without a push is read once."""

    system: System
    subject: Subject
    _clean: dict[int, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        about = self.subject
        self.pusher = Pusher(self.system, about.truth, about.means, about.realising, about.seed)

    def one(self, label: int, best: Chosen, method: str) -> Steered | str:
        """The score on prompts B at what is best on prompts A, or why there is none."""
        a, b = self.subject.a, self.subject.b
        if not (a.off[:, label].any() and b.off[:, label].any()):
            return "it holds at the end of every prompt"
        if method == PROMPT:
            tries = list(self.subject.prefixes[label])
            read = lambda prompts, prefix: self._read(_led(prompts, prefix), {})
        else:
            push = self._push(label, best, method)
            if isinstance(push, str):
                return push
            tries = list(STRENGTHS)
            read = lambda prompts, strength: self._read(prompts.tokens, push(strength))
        on_a = [self._compare(a, read(a, each), label).score for each in tries]
        if not on_a:
            return "no text stands before it"
        if max(on_a) == 0:
            return NOTHING
        return self._compare(b, read(b, tries[int(np.argmax(on_a))]), label)

    def cost(self, label: int, best: Chosen) -> float | None:
        """Nats added to neutral text at the strength that flips half of prompts A; None if none does.

        A prompt is flipped where tokens that realise the label are likelier than the others. Between
        strengths the flipped share is taken as a straight line, and so is the cost.
        """
        push, off = self.pusher.by_unit(best.unit, best.sign), self.subject.a.off[:, label]
        on, low, below = self.subject.realising[label], 0.0, 0.0
        for strength in STRENGTHS:
            after = self._read(self.subject.a.tokens, push(strength))[off]
            share = float((log_odds(after, on) > 0).float().mean())
            if share >= 0.5:
                at = low + (strength - low) * (0.5 - below) / max(share - below, 1e-9)
                return self._added(push(max(at, 0.0)))
            low, below = strength, share
        return None

    def _added(self, edits: Mapping) -> float:
        rows, stream = self.subject.neutral, self.system.stream
        both = [nats(self.system.model, rows, stream, e) for e in (lambda at: edits, None)]
        return float((both[0] - both[1])[rows.scored].mean())

    def _push(self, label: int, best: Chosen, method: str) -> Push | str:
        if method == UNIT:
            return self.pusher.by_unit(best.unit, best.sign)
        if method == RANDOM_UNIT:
            return self.pusher.by_random_unit(best.unit, label)
        return self.pusher.by_vector(method, best.unit, best.sign, label)

    def _read(self, tokens: Tensor, edits: Mapping) -> Tensor:
        return next_log_probs(self.system.model, tokens, edits)

    def _compare(self, prompts: Prompts, after: Tensor, label: int) -> Steered:
        if id(prompts) not in self._clean:
            self._clean[id(prompts)] = self._read(prompts.tokens, {})
        off = prompts.off[:, label]
        before = self._clean[id(prompts)][off]
        return steered(before, after[off], prompts.judge[off], self.subject.realising, label)


def _led(prompts: Prompts, prefix: Integer[Tensor, " token"]) -> Tensor:
    """The prompts with a prefix before each."""
    return torch.cat([prefix.expand(len(prompts.tokens), -1), prompts.tokens], dim=1)
