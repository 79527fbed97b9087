"""`match=dense by=params`: the configuration that is as large as another one, filled plainly.

The words of a run are kept, except those of slots that the dense baseline fills otherwise; the
width of its feed-forward half, and its depth where no width will do, are solved for.
"""

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from pellucid.config import RunConfig
from pellucid.errors import ConfigError
from pellucid.experiments import preset, split
from pellucid.experiments.match import COUNTS, Match, Times
from pellucid.models import Account, account
from pellucid.models.config import ModelConfig
from pellucid.run import RunFolder
from pellucid.settings.fields import declared, tag_of
from pellucid.settings.kinds import nearest, shown
from pellucid.settings.words import override

PLAIN = {
    "mlp": "dense",
    "attention": "softmax",
    "stream": "residual",
    "head": "unembed",
    "site_sparsity": "none",
    "constraint": "none",
    "gradient_rule": "none",
}
"""What fills the slots of a dense baseline; `position` and `norm` stay as they are."""

MEASURES = (*COUNTS, "tokens", "step_time")
CLOSE, CLOSE_IN_TIME = 0.01, 0.05
"""Largest relative difference that counts as matched."""
WIDEST = 2**22
STEPS = tuple(2**n for n in range(12))
"""Steps of the width that are tried: some fillings want a multiple."""
ROUNDS, WARMUP = 9, 2
"""Steps of each model that are timed in turns, after a few that are not."""
TRIES, TIMINGS = 5, 20
"""Widths of one depth that are timed beside the target, and at most of all depths together."""


def match(
    words: Sequence[str],
    tag: str,
    by: str,
    *,
    vocab_size: int | None = None,
    timed: Callable[[RunConfig, RunConfig], Times] | None = None,
) -> Match:
    """The run of feed-forward filling `tag` that matches the one which `words` describe.

    `dense` fills every slot plainly; any other filling changes the `mlp` slot alone, and keeps its
    words. `by` is one of `MEASURES`. Raises ConfigError for what cannot be matched: within 1 %,
    of times within 5 % (`timed(a, b)` measures them, by default on this machine).
    """
    table = declared(ModelConfig)["mlp"].table
    if tag not in table:
        raise ConfigError(
            f"match = {shown(tag)} is not a feed-forward filling{nearest(tag, table)}"
        )
    if by not in MEASURES:
        raise ConfigError(_unknown(by))
    name, changes = split(words)
    target = override(preset(name), changes)
    kept = kept_words(target, changes, tag)
    search = _Search(name, kept, vocab_size or target.data.vocab_size, tag, by)
    found, times = kept, None
    if by == "step_time":
        found, times = search.by_time(target, timed or _Timer())
    elif by != "tokens":
        found = search.by_count(COUNTS[by](search.account(target)))
    config = search.config(found)
    accounts = (search.account(target), search.account(config))
    to, words = (name, *changes), (name, *found)
    return Match(tag, by, to, target, config, words, accounts, times)


def begun_with(run: Path, words: Sequence[str], tag: str, by: str) -> dict[str, Any] | None:
    """What the run in a folder was matched with, where the same was asked; None where it was not."""
    folder = RunFolder(run)
    found = folder.read_manifest().get("matched") if folder.exists() else None
    name, changes = split(words)
    asked = {"filling": tag, "by": by, "to": [name, *changes]}
    return found if found and asked.items() <= found.items() else None


def _unknown(by: str) -> str:
    if by == "loss":
        return (
            "by = 'loss' is found by training: give a grid "
            "baselines={'dense': 'match=dense by=loss'}, and run it with pellucid sweep"
        )
    return f"by = {shown(by)} is not accepted{nearest(by, (*MEASURES, 'loss'))}"


def kept_words(target: RunConfig, words: Sequence[str], tag: str) -> list[str]:
    """The words of the run that its baseline shares."""
    slots = declared(ModelConfig)
    changed = {"mlp"}
    if tag == "dense":
        filled = {slot: tag_of(slots[slot].table, getattr(target.model, slot)) for slot in PLAIN}
        changed |= {slot for slot, plain in PLAIN.items() if filled[slot] != plain}
    # A filling that its words leave as it is keeps its settings, but not those of its size.
    if tag_of(slots["mlp"].table, target.model.mlp) == tag:
        kept = [word for word in words if not _of(word, changed - {"mlp"}, layers=tag == "dense")]
        kept = [word for word in kept if word.partition("=")[0] not in _WIDTH]
    else:
        kept = [word for word in words if not _of(word, changed, layers=tag == "dense")]
    plain = [f"{slot}={PLAIN[slot]}" for slot in sorted(changed - {"mlp"})]
    return [*kept, f"mlp={tag}", *plain]


_WIDTH = ("mlp.width", "model.mlp.width")


def _of(word: str, slots: set[str], *, layers: bool) -> bool:
    """Whether a word fills one of the slots, or (`layers`) a layer of one."""
    path = word.partition("=")[0].removeprefix("model.")
    slot, at, _ = path.partition("@")
    return (bool(at) and (layers or slot in slots)) or path.partition(".")[0] in slots


class _Timing(NamedTuple):
    """A candidate that was timed beside the target."""

    words: list[str]
    times: Times
    width: int
    depth: int

    @property
    def share(self) -> float:
        """Its median step, of the target's."""
        theirs, ours = map(statistics.median, self.times)
        return ours / theirs

    def rules_out(self, depth: int) -> bool:
        """Whether so many layers take too long however narrow: these were as narrow as can be.

        The rest of a step stays: half of the layers take half of the time at least.
        """
        return self.width == 1 and self.share * min(1, depth / self.depth) > 1 + CLOSE_IN_TIME


class _Search:
    """Solves for the width; where no width will do, for the depth or d_model too."""

    def __init__(self, name: str, kept: list[str], vocab_size: int, tag: str, by: str):
        self.name, self.kept, self.vocab_size, self.tag, self.by = name, kept, vocab_size, tag, by
        self.plain = self.config(kept).model
        if by != "tokens" and "width" not in declared(type(self.plain.mlp)):
            raise ConfigError(f"match = {tag} has no width to solve for; match=dense has")

    def config(self, words: Sequence[str]) -> RunConfig:
        return override(preset(self.name), list(words))

    def account(self, config: RunConfig) -> Account:
        return account(config.model, vocab_size=self.vocab_size)

    def words(self, width: int, depth: int, d_model: int) -> list[str]:
        """The words of a candidate; `kept` ones that it leaves as they are stay last to speak."""
        sizes = {"n_layers": depth, "d_model": d_model}
        changed = [f"{k}={v}" for k, v in sizes.items() if v != getattr(self.plain, k)]
        return [*self.kept, f"mlp.width={width}", *changed]

    def by_count(self, wanted: float) -> list[str]:
        """The words whose count comes within 1 % of what is wanted, as like the target as may be.

        The depth is changed before d_model, and both as little as will do.
        """
        plain = self.plain
        best = (math.inf, 0, plain.n_layers, plain.d_model)
        for d_model in self._d_models():
            for depth in self._depths():
                width, gap = self._width(wanted, depth, d_model)
                if gap <= CLOSE and d_model <= width <= 16 * d_model:
                    return self.words(width, depth, d_model)
                best = min(best, (gap, width, depth, d_model))
        if best[0] > CLOSE:
            raise ConfigError(
                f"no {self.tag} model matches {wanted:,.0f} {self.by}: the nearest, mlp.width="
                f"{best[1]} n_layers={best[2]} d_model={best[3]}, is {best[0]:.1%} off; "
                f"1 % is accepted"
            )
        return self.words(*best[1:])

    def _depths(self) -> list[int]:
        """The depth as it is, then those nearest to it."""
        depth = self.plain.n_layers
        return sorted(range(1, 2 * depth + 1), key=lambda n: abs(n - depth))

    def _d_models(self) -> list[int]:
        """d_model as it is, then smaller and larger ones that the heads divide, by octaves."""
        step = 2 * getattr(self.plain.attention, "n_heads", 4)
        sizes = [self.plain.d_model * factor for factor in (1, 0.75, 0.5, 0.25, 0.125, 1.5, 2, 4)]
        return list(dict.fromkeys(max(step, round(size / step) * step) for size in sizes))

    def _width(self, wanted: float, depth: int, d_model: int) -> tuple[int, float]:
        """The width whose count comes nearest, and by which share it is off."""

        @cache
        def at(width: int) -> float:
            try:
                words = self.words(width, depth, d_model)
                return COUNTS[self.by](self.account(self.config(words)))
            except ConfigError:
                return -math.inf  # too narrow for the filling's other settings

        step = next((n for n in STEPS if at(d_model * 64 + n) > 0), 0)
        if not step or at(step * (-(-d_model // step))) > wanted * (1 + CLOSE):
            return 0, math.inf
        width = step * _solve(lambda n: at(step * n), wanted)
        return width, abs(at(width) / wanted - 1)

    def by_time(self, target: RunConfig, timed: Callable) -> tuple[list[str], Times]:
        """The words whose step takes within 5 % of the target's; the depth is changed last."""
        tried: list[_Timing] = []
        for one in islice(self._timings(target, timed), TIMINGS):
            if abs(one.share - 1) <= CLOSE_IN_TIME:
                return one.words, one.times
            tried.append(one)
        best = min(tried, key=lambda one: abs(one.share - 1))
        raise ConfigError(
            f"no width of {self.tag} was found whose step takes as long, at other depths neither: "
            f"the nearest of {len(tried)}, mlp.width={best.width} n_layers={best.depth}, takes "
            f"{best.share:.2f} times the target's; 5 % is accepted"
        )

    def _timings(self, target: RunConfig, timed: Callable) -> Iterator[_Timing]:
        """Candidates timed in turns with the target: a search for the width at each depth."""
        tried: list[_Timing] = []
        for depth in self._depths():
            here: list[_Timing] = []
            while len(here) < TRIES and not any(one.rules_out(depth) for one in [*tried, *here]):
                width = _next_width(here) if here else 4 * self.plain.d_model
                words = self.words(width, depth, self.plain.d_model)
                try:
                    config = self.config(words)
                except ConfigError:
                    if not here and depth == self.plain.n_layers:
                        raise
                    break  # narrower or shallower than its other words allow
                here.append(_Timing(words, timed(target, config), width, depth))
                yield here[-1]
            tried += here


def _solve(value: Callable[[int], float], wanted: float) -> int:
    """The whole number at which a rising function comes nearest to a value."""
    low, high = 1, 2
    while value(high) < wanted and high < WIDEST:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if value(middle) < wanted else (low, middle)
    return min((low, high), key=lambda width: abs(value(width) - wanted))


def _next_width(tried: Sequence[_Timing]) -> int:
    """Where a line through the last two (width, share of the time) reaches 1."""
    width, share = tried[-1].width, tried[-1].share
    if len(tried) == 1:
        return max(1, round(width / share))
    before, earlier = tried[-2].width, tried[-2].share
    slope = (share - earlier) / (width - before) if width != before else 0.0
    if slope <= 0:
        return max(1, round(width / share))
    return max(1, round(width + (1 - share) / slope))


class _Timer:
    """Times the steps of two runs in turns; a target that comes again is built once."""

    def __init__(self) -> None:
        self.target: tuple[RunConfig, Any] | None = None

    def __call__(self, target: RunConfig, found: RunConfig) -> Times:
        """Seconds of the steps that both will take when they are trained."""
        from pellucid.experiments.steps import TimedSteps

        least = TIMINGS * (WARMUP + ROUNDS)
        if self.target is None or self.target[0] != target:
            self.target = target, TimedSteps(target, least)
        steps = self.target[1], TimedSteps(found, least)
        times: Times = ([], [])
        for turn in range(WARMUP + ROUNDS):
            for step, taken in zip(steps, times, strict=True):
                seconds = step()
                if turn >= WARMUP:
                    taken.append(seconds)
        return times
