"""What the trainer costs over a bare PyTorch loop on the same model and batches.

`pellucid bench train [word…]` runs both in turns in one process, prints tokens per second of each
with the spread, then the peak memory of each in a process of its own.
"""

import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from pellucid.config import RunConfig
from pellucid.data import TokenData, prepare
from pellucid.experiments import own_words, run_config
from pellucid.experiments.memory import peak_of_process
from pellucid.models import Transformer
from pellucid.run import RunFolder
from pellucid.train import after_step, revive
from pellucid.training import devices
from pellucid.training.levers import Levers
from pellucid.training.session import Session

STEPS, TURNS = 10, 8


def main(words: list[str]) -> int:
    """Print both rates and both peaks; `json=PATH` also writes them."""
    own, rest = own_words(words, {"json"})
    config = run_config(rest or ["tiny"])
    with tempfile.TemporaryDirectory() as folder:
        rates = _rates(config, Path(folder))
    peaks = {kind: _peak(kind, config) for kind in ("bare", "trainer")}
    result = _result(rates, peaks)
    _print(result)
    if out := own.get("json"):
        Path(out).write_text(json.dumps(result, indent=1) + "\n")
    return 0


def bare_loop(config: RunConfig, data: TokenData) -> Callable[[int], None]:
    """The loop anybody would write: rows, loss, backward, clip, AdamW."""
    device = "cuda" if torch.cuda.is_available() and config.train.device != "cpu" else "cpu"
    batch, context = config.train.batch, config.model.context
    model = Transformer(config.model, vocab_size=data.vocab_size, seed=config.seed).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.train.lr, fused=True)

    def steps(first: int) -> None:
        for step in range(first, first + STEPS):
            rows = data.rows(config.seed, step, batch=batch, context=context)
            tokens = rows.tokens.to(device)
            logits = model(tokens[:, :-1]).logits
            loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

    return steps


def trainer_loop(config: RunConfig, session: Session) -> Callable[[int], None]:
    """Our step with everything around it: checks, statistics, revival, metrics, the progress bar."""
    meter = session.meter()

    def steps(first: int) -> None:
        for step in range(first, first + STEPS):
            result = session.stepper(step)
            after_step(session.model, result.told, session.tokens_per_step)
            revive(config, session.model, session.optimizers, step)
            session.step = step + 1
            if session.step % config.train.log_every == 0:
                row = session.row(result)
                session.write(row)
                meter.show(session.step, row)

    return steps


def _session(config: RunConfig, folder: Path) -> Session:
    run = RunFolder(folder / "run")
    accelerator, data = devices.start(config.train, run), prepare(config.data)
    return Session(config, run, accelerator, data, Levers(config, run, data))


def _rates(config: RunConfig, folder: Path) -> dict[str, list[float]]:
    """Tokens per second of each loop, turn by turn, the first turn left out as warm-up."""
    session = _session(config, folder)
    loops = {"bare": bare_loop(config, session.data), "trainer": trainer_loop(config, session)}
    rates: dict[str, list[float]] = {name: [] for name in loops}
    for turn in range(TURNS + 1):
        for name, loop in loops.items():
            start = time.perf_counter()
            loop(turn * STEPS)
            _wait()
            rate = STEPS * session.tokens_per_step / (time.perf_counter() - start)
            if turn:
                rates[name].append(rate)
    return rates


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _peak(kind: str, config: RunConfig) -> float:
    """Peak memory in MB of one loop alone, over what the process holds before it."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_measure_peak, (kind, config))


def _measure_peak(kind: str, config: RunConfig) -> float:
    with tempfile.TemporaryDirectory() as folder:
        if kind == "bare":
            loop = bare_loop(config, prepare(config.data))
        else:
            loop = trainer_loop(config, _session(config, Path(folder)))
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        loop(0)
        if torch.cuda.is_available():
            return torch.cuda.max_memory_allocated() / 2**20
        return peak_of_process()


def _result(rates: dict[str, list[float]], peaks: dict[str, float]) -> dict:
    medians = {name: statistics.median(values) for name, values in rates.items()}
    pairs = zip(rates["bare"], rates["trainer"], strict=True)
    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "tokens_per_s": medians,
        "turns": rates,
        "trainer_costs": statistics.median(b / t - 1 for b, t in pairs),
        "peak_mb": peaks,
    }


def _print(result: dict) -> None:
    for name, rate in result["tokens_per_s"].items():
        turns = sorted(result["turns"][name])
        print(
            f"{name:8} {rate:10,.0f} tokens/s  ({turns[1]:,.0f} … {turns[-2]:,.0f})  "
            f"peak {result['peak_mb'][name]:,.0f} MB"
        )
    ratio = result["peak_mb"]["trainer"] / result["peak_mb"]["bare"] - 1
    print(f"the trainer costs {result['trainer_costs']:+.1%} time, {ratio:+.1%} memory")
    sys.stdout.flush()
