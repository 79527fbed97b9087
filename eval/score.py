"""`Score`: one number about a run with its interval and controls, and the file that holds them."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from pellucid.errors import RunError
from pellucid.eval.bootstrap import Interval

FORMAT = 1
NO_VALUE, NO_INTERVAL = "no value: ", "no interval: "
"""How the flags begin that say why a number is missing."""
AS_WELL = "a control scores as well: "
"""How the flag begins that names the controls which a score is not better than."""


class NoValue(Exception):
    """Why a metric has no value here, as a sentence: it becomes a score without one."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """A value that says how it was measured. It is finite, or None with a reason in `flags`."""

    metric: str
    """name of the metric, as in the table of `eval/suite.py`"""
    site: str | None = None
    """unit site the number is about; none where it is about the whole model"""
    unit_family: str | None = None
    """kind of the site's units"""
    split: str = "val"
    """split of the corpus it was measured on"""
    value: float | None
    """the number; none needs a flag that begins with `no value: `"""
    low: float | None = None
    """lower end of the 95 % interval; none needs a flag that begins with `no interval: `"""
    high: float | None = None
    """upper end of the 95 % interval"""
    n: int
    """independent draws behind the interval: documents, or units"""
    seconds: float
    """time taken by everything the number rests on, also where several numbers share it"""
    tokens: int
    """tokens it was measured on"""
    better: Literal["lower", "higher"] | None = None
    """which way is better; none where the number describes and ranks nothing"""
    controls: dict[str, float | str] = field(default_factory=dict)
    """value of each control, or the reason why it is missing"""
    flags: tuple[str, ...] = ()
    """what a reader must know, one sentence each"""

    def __post_init__(self) -> None:
        object.__setattr__(self, "flags", tuple(self.flags))
        for name in ("value", "low", "high", "seconds"):
            self._check_number(name, getattr(self, name))
        for name, value in self.controls.items():
            if not value and isinstance(value, str):
                raise ValueError(
                    f"{self.metric}: control {name} is empty: give a value or a reason"
                )
            if not isinstance(value, str):
                self._check_number(f"control {name}", value)
        if self.value is None:
            self._check_reason("value", NO_VALUE)
        elif self.low is None or self.high is None:
            self._check_reason("low, high", NO_INTERVAL)

    def _check_number(self, name: str, value: Any) -> None:
        """Plain floats only: numpy's would not read back from JSON as what was written."""
        if value is not None and (type(value) is not float or not math.isfinite(value)):
            raise ValueError(f"{self.metric}: {name} is {value!r}: a finite float is accepted")

    def _check_reason(self, name: str, prefix: str) -> None:
        if not any(flag.startswith(prefix) for flag in self.flags):
            raise ValueError(f"{self.metric}: {name} is missing: a flag {prefix!r} must say why")

    @classmethod
    def of(cls, found: Interval, *, flags: tuple[str, ...] = (), **fields: Any) -> "Score":
        """A score whose value and interval were found by resampling."""
        value, low, high, n, reasons = found
        return cls(value=value, low=low, high=high, n=n, flags=(*reasons, *flags), **fields)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"flags": list(self.flags)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Score":
        return cls(**{item.name: value[item.name] for item in fields(cls) if item.name in value})


def pack(
    scores: Sequence[Score],
    *,
    checkpoint: int,
    suite: str,
    data_fingerprint: str,
    test_openings: int = 0,
) -> dict[str, Any]:
    """What `scores.json` holds; `test_openings` counts how often the test split was opened."""
    head = {"format": FORMAT, "checkpoint": checkpoint, "suite": suite}
    head |= {"data_fingerprint": data_fingerprint, "test_openings": test_openings}
    return head | {"scores": [score.to_json() for score in scores]}


def unpack(value: dict[str, Any]) -> list[Score]:
    """The scores in what `scores.json` holds; raises RunError for a format it does not know."""
    if value.get("format") != FORMAT:
        found = value.get("format")
        raise RunError(f"scores.json has format {found!r}: format {FORMAT} is accepted")
    return [Score.from_json(score) for score in value["scores"]]
