"""Times of variants that take turns, by the device's own clock.

Within a round every variant is called once, so that changes of clock and other programs fall on all
alike. The first variant is called again at the end of each round: how far its two times lie apart
is the noise of the whole table.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

WARMUP = 3
FILLER_BYTES = 1 << 31
"""Written before each timed call on a GPU, or a sixteenth of its memory if that is less. It empties
the second-level cache, and takes long enough for the host to queue what is timed."""

AGAIN = " again"

Stage = Callable[[Any], Any]
Variant = Mapping[str, Stage]
"""Stages in order: the first takes the number of the round, each other what the one before gave.
The time of a stage whose name begins with an underscore is not kept."""

Spread = list[float]
"""Milliseconds as [median, 20th percentile, 80th percentile]."""


class HostClock:
    """Times of a device that works while it is asked to: the CPU."""

    def settle(self) -> None:
        """Nothing to wait for."""

    def mark(self) -> float:
        """The time, in seconds."""
        return time.perf_counter()

    def between(self, start: float, end: float) -> float:
        """Milliseconds from one mark to another."""
        return 1e3 * (end - start)

    def wait(self) -> None:
        """Nothing to wait for."""


class DeviceClock:
    """CUDA events, with a filled queue and a cold cache before each call."""

    def __init__(self, device: torch.device):
        memory = torch.cuda.get_device_properties(device).total_memory
        size = min(FILLER_BYTES, memory // 16)
        self.filler = torch.empty(size, dtype=torch.uint8, device=device)

    def settle(self) -> None:
        """Empty the cache of what came before, and give the host time to queue what comes next."""
        self.filler.zero_()

    def mark(self) -> torch.cuda.Event:
        """An event on the current stream."""
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def between(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        """Milliseconds from one event to another, both reached."""
        return start.elapsed_time(end)

    def wait(self) -> None:
        """Until every event has been reached."""
        torch.cuda.synchronize()


def clock(device: torch.device) -> HostClock | DeviceClock:
    """The clock of a device."""
    return DeviceClock(device) if device.type == "cuda" else HostClock()


def interleaved(
    variants: Mapping[str, Variant], rounds: int, device: torch.device
) -> dict[str, dict[str, Spread]]:
    """Milliseconds of each stage of each variant, and of `whole`, their sum.

    `rounds` are timed after some that are not. The first variant comes twice, the second time
    under its name with `AGAIN`.
    """
    watch = clock(device)
    turns = list(variants.items())
    turns.append((turns[0][0] + AGAIN, turns[0][1]))
    taken: dict[str, list[list]] = {name: [] for name, _ in turns}
    for number in range(WARMUP + rounds):
        for name, stages in turns:
            watch.settle()
            taken[name].append(_marks(stages, number, watch))
    watch.wait()
    return {name: _stage_times(stages, taken[name][WARMUP:], watch) for name, stages in turns}


def spread(milliseconds: list[float]) -> Spread:
    """Median, 20th and 80th percentile."""
    cuts = torch.tensor([0.5, 0.2, 0.8], dtype=torch.float64)
    return torch.tensor(milliseconds, dtype=torch.float64).quantile(cuts).tolist()


def _marks(stages: Variant, number: int, watch: Any) -> list:
    value: Any = number
    marks = [watch.mark()]
    for stage in stages.values():
        value = stage(value)
        marks.append(watch.mark())
    return marks


def _stage_times(stages: Variant, rounds: list[list], watch: Any) -> dict[str, Spread]:
    kept: dict[str, list[float]] = {}
    for position, name in enumerate(stages):
        if not name.startswith("_"):
            kept[name] = [watch.between(*marks[position : position + 2]) for marks in rounds]
    whole = [sum(stage) for stage in zip(*kept.values())]
    return {name: spread(times) for name, times in kept.items()} | {"whole": spread(whole)}
