"""How fast several small runs are on one device: one after the other, at once, and as one model.

`pellucid bench pack [cells=16] [steps=20] [json=PATH] [word …]` trains so many runs of a configuration,
which differ in their seeds, and prints the tokens per second of all of them together. On a CPU the
processes share its threads.
"""

import json
import multiprocessing
import queue
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from pellucid.config import RunConfig
from pellucid.data import prepare
from pellucid.errors import UserError
from pellucid.experiments import own_words, run_config
from pellucid.experiments.steps import log_of, now, opened, stepping
from pellucid.train import after
from pellucid.training.session import Session
from pellucid.training.stackable import refusal
from pellucid.training.stacked import Stack

DEFAULT = ["tiny", "n_layers=4", "d_model=256", "mlp=dense"]
"""3.1 million parameters in the blocks."""
ASKED = {"cells": 16, "steps": 20}
WARMUP = 2
WAYS = {
    "alone": "one after the other",
    "processes": "processes at once",
    "stacked": "one batched model",
}
LONGEST = 1800.0
"""Seconds that processes wait for one another at most."""


def main(words: list[str]) -> int:
    """Print the three rates; `json=PATH` also writes them."""
    told, rest = own_words(words, {*ASKED, "json"})
    asked = {name: _count(name, told.get(name, str(least))) for name, least in ASKED.items()}
    found = measure(run_config(rest or DEFAULT), **asked)
    print("\n".join(_table(found)))
    if "json" in told:
        Path(told["json"]).write_text(json.dumps(found, indent=1) + "\n")
    return 0


def _table(found: dict[str, Any]) -> list[str]:
    """What was measured, for a terminal."""
    rates = found["tokens_per_s"]
    said = f"{found['cells']} runs of {found['parameters']:,} parameters, {found['steps']} steps"
    return [
        f"{said}, on {found['device']} with {found['threads']} threads",
        f"{'':22}{'tokens/s of all':>17}{'times the first':>17}",
        *(f"{WAYS[name]:22}{r:17,.0f}{r / rates['alone']:17.2f}" for name, r in rates.items()),
    ]


def measure(config: RunConfig, *, cells: int, steps: int) -> dict[str, Any]:
    """Tokens per second of all runs together, in each of the three ways; UserError if they cannot."""
    if said := refusal(config):
        raise UserError(f"bench pack: these runs cannot be one batched model: {said}")
    data, configs = prepare(config.data), [_seeded(config, seed) for seed in range(cells)]
    tokens = cells * steps * config.train.batch * config.model.context
    with tempfile.TemporaryDirectory() as folder:
        sessions = [opened(each, Path(folder) / f"seed{each.seed}", data) for each in configs]
        seconds = {"alone": cells * _timed(stepping(sessions[0]), steps)}
        seconds["processes"] = _processes(configs, steps)
        seconds["stacked"] = _timed(_stacked(sessions), steps)
        size = sessions[0].account.total
    rates = {name: tokens / taken for name, taken in seconds.items()}
    about = {"cells": cells, "steps": steps, "parameters": size, "torch": torch.__version__}
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return about | {"device": device, "threads": torch.get_num_threads(), "tokens_per_s": rates}


def _count(name: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"bench pack: {name}={text!r} is not accepted; a number from 1 is")
    return int(text)


def _seeded(config: RunConfig, seed: int) -> RunConfig:
    from pellucid.settings.words import override

    return override(config, [f"seed={seed}"])


def _stacked(sessions: list[Session]) -> Callable[[], None]:
    for session in sessions:
        session.step = sessions[0].step  # the one that was timed alone is ahead
    stack, logs = Stack(sessions), [log_of(session) for session in sessions]

    def step() -> None:
        results = stack(sessions[0].step)
        for session, log, result in zip(sessions, logs, results, strict=True):
            after(session, log, result)

    return step


def _timed(step: Callable[[], None], steps: int) -> float:
    """Seconds of some steps, after others that are not counted."""
    for _ in range(WARMUP):
        step()
    begun = now()
    for _ in range(steps):
        step()
    return now() - begun


def _processes(configs: list[RunConfig], steps: int) -> float:
    """Seconds from when all processes have begun until the last has ended.

    Raises UserError as soon as one of them has died: the others would wait for it.
    """
    context = multiprocessing.get_context("spawn")
    barrier, times = context.Barrier(len(configs)), context.Queue()
    threads = torch.get_num_threads()
    shared = threads if torch.cuda.is_available() else max(1, threads // len(configs))
    told = (steps, shared, barrier, times)
    processes = [context.Process(target=_alone, args=(each, *told)) for each in configs]
    for process in processes:
        process.start()
    try:
        spans = _heard(times, processes)
    finally:
        for process in processes:
            process.terminate()
            process.join()
    return max(end for _, end in spans) - min(begun for begun, _ in spans)


def _heard(times: Any, processes: Sequence[Any]) -> list[tuple[float, float]]:
    """When each process began and ended."""
    spans: list[tuple[float, float]] = []
    while len(spans) < len(processes):
        try:
            spans.append(times.get(timeout=1.0))
        except queue.Empty:
            if code := next((p.exitcode for p in processes if p.exitcode), 0):
                raise UserError(
                    f"bench pack: one of {len(processes)} processes at once ended with exit code "
                    f"{code} (memory, perhaps); fewer cells are accepted"
                ) from None
    return spans


def _alone(config: RunConfig, steps: int, threads: int, barrier: Any, times: Any) -> None:
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        step = stepping(opened(config, Path(folder) / "run", prepare(config.data)))
        for _ in range(WARMUP):
            step()
        barrier.wait(LONGEST)
        begun = time.time()
        for _ in range(steps):
            step()
        now()
        times.put((begun, time.time()))
