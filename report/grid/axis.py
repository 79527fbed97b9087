"""An axis of a figure: numbers to places, and the ticks that a reader can read."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pellucid.report.wording import MINUS, count

WIDE = 4.0
"""Ratio of largest to smallest from which positive numbers are drawn on a logarithmic axis."""


@dataclass(frozen=True)
class Axis:
    """Numbers from `low` to `high` drawn from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    @classmethod
    def around(
        cls, values: Sequence[float], start: float, end: float, *, log: bool = False
    ) -> "Axis":
        """An axis that holds all values with a margin; logarithmic where asked and they are wide."""
        low, high = min(values), max(values)
        log = log and low > 0 and high / low >= WIDE
        if log:
            low, high = math.log10(low), math.log10(high)
        margin = 0.07 * (high - low) or 0.05 * abs(high) or 1.0
        return cls(low - margin, high + margin, start, end, log)

    def place(self, value: float) -> float:
        """Where a number is drawn, within the axis."""
        if self.log:
            value = math.log10(value) if value > 0 else self.low
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + min(1.0, max(0.0, share)) * (self.end - self.start), 1)

    def ticks(self) -> list[tuple[float, str]]:
        """Places and labels of a few round numbers."""
        values = self._decades() if self.log else _round(self.low, self.high)
        say = count if self.high >= 1e4 or (self.log and self.low >= 0) else _plain
        return [(self.place(value), say(value)) for value in values]

    def _decades(self) -> list[float]:
        decades = range(math.floor(self.low), math.ceil(self.high) + 1)
        steps = (1, 2, 5) if self.high - self.low < 2 else (1,)
        found = [step * 10.0**decade for decade in decades for step in steps]
        return [value for value in found if self.low <= math.log10(value) <= self.high]


def _plain(value: float) -> str:
    """A tick's number without digits that say nothing: 0.0015, 1.4."""
    return f"{value:.4g}".replace("-", MINUS)


def _round(low: float, high: float, wanted: int = 5) -> list[float]:
    """About as many round numbers as wanted between two."""
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw)
    first = math.ceil(low / step)
    digits = max(0, 2 - math.floor(math.log10(step)))
    return [round(i * step, digits) for i in range(first, math.floor(high / step) + 1)]
