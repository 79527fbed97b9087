"""What a person sees while a run trains: one line that moves, or a line now and then in a log."""

import sys
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

PEAK_FLOPS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "4090": 165e12}
"""Dense bf16 rates by the vendors' data sheets, for model FLOP utilization."""

LOG_SECONDS = 10.0


class Meter:
    """Loss, speed, active units and dead share, shown on a terminal or logged now and then."""

    def __init__(self, total: int, done: int, *, shown: bool, flops_per_token: float):
        self.console = Console(stderr=True)
        self.shown = shown
        self.moving = shown and self.console.is_terminal
        self.total, self.flops = total, flops_per_token
        self.bar = Progress(
            TextColumn("step {task.completed}/{task.total}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.moving,
        )
        self.task = self.bar.add_task("train", total=total, completed=done, text="")
        self.spoken = 0.0

    def __enter__(self) -> "Meter":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def say(self, text: str) -> None:
        """One line for the person at the terminal."""
        if self.shown:
            self.console.print(text, highlight=False, soft_wrap=True)

    def show(self, step: int, row: dict) -> None:
        """Update the bar; without a terminal, print a line every few seconds."""
        text = describe(row, self.flops)
        self.bar.update(self.task, completed=step, text=text)
        due = time.monotonic() - self.spoken > LOG_SECONDS or step == self.total
        if self.shown and not self.moving and due:
            self.spoken = time.monotonic()
            print(f"step {step}/{self.total}  {text}", file=sys.stderr, flush=True)


class Log:
    """The same lines in a file, for a run that has no terminal of its own."""

    def __init__(self, file: Path, total: int, flops_per_token: float):
        self.file, self.total, self.flops = file, total, flops_per_token
        self.spoken = 0.0

    def say(self, text: str) -> None:
        with self.file.open("a", encoding="utf-8") as file:
            file.write(text + "\n")

    def show(self, step: int, row: dict) -> None:
        """A line every few seconds, and at the end."""
        if time.monotonic() - self.spoken > LOG_SECONDS or step == self.total:
            self.spoken = time.monotonic()
            self.say(f"step {step}/{self.total}  {describe(row, self.flops)}")


Teller = Meter | Log


def describe(row: dict, flops_per_token: float) -> str:
    """The row's figures that exist, in a fixed order."""
    parts = [f"loss {row['loss']:.3f}", f"{row['tokens_per_s']:,.0f} tokens/s"]
    peak = peak_flops()
    if peak:
        parts.append(f"MFU {row['tokens_per_s'] * flops_per_token / peak:.1%}")
    if row.get("active_units") is not None:
        parts.append(f"{row['active_units']:.1f} active")
        parts.append(f"{row['dead_share']:.1%} dead")
    return "  ".join(parts)


def peak_flops() -> float | None:
    """The GPU's bf16 rate where we know it."""
    if not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name()
    return next((rate for key, rate in PEAK_FLOPS.items() if key in name), None)
