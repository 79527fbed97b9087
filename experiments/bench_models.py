"""Every filling beside the dense model of as many active parameters, step for step.

`pellucid bench models [word…]` trains each on the same random tokens in turns, so that what else
the machine does falls on all alike. The last column says how much longer a step takes than its
operations and bytes of parameters justify at the rates of the dense model. Words: `only=topk,monet`,
`rounds=N`, `json=PATH`; all others configure the run, `tiny` by default.
"""

import json
import multiprocessing
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

from pellucid.errors import ConfigError, UserError
from pellucid.experiments import beside, own_words, run_config
from pellucid.experiments.memory import peak_of_process
from pellucid.models import Account, ModelConfig, Transformer, account
from pellucid.models.mlp.dense import DenseMLP
from pellucid.settings.fields import declared

SLOTS = ("mlp", "attention", "position", "norm", "stream", "head", "site_sparsity", "constraint")
ROUNDS, WARMUP = 15, 2
PASSES_OVER_PARAMETERS = 10
"""Reads and writes of each parameter in one step: two reads, the gradient, and AdamW's seven."""
PASSES_OVER_ROWS = 4
"""The same of a row that one token gathers: read forward and backward, added to its gradient."""


@dataclass(frozen=True)
class Row:
    """One variant: milliseconds of a step, tokens per second, memory, and what justifies them."""

    variant: str
    active: int
    total: int
    flops: float
    step_ms: float
    spread_ms: tuple[float, float]
    tokens_per_s: float
    dense_ms: float
    peak_mb: float
    over_justified: float


def main(words: list[str]) -> int:
    """Print the table; 1 where a filling could not be measured."""
    options, words = _options(words)
    base = run_config(words or ["tiny"])
    names = variants(words or ["tiny"], options["only"])
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {_device()}")
    rows, failed = [], []
    for name, config in names.items():
        try:
            rows.append(measure(name, config.model, base.train.batch, options["rounds"]))
            _show(rows[-1], first=len(rows) == 1)
        except (ConfigError, RuntimeError) as error:
            failed.append({"variant": name, "reason": str(error)})
            print(f"{name:28} not measured: {error}")
        if options["json"]:
            _write(options["json"], rows, failed)
    return 1 if failed else 0


def _options(words: list[str]) -> tuple[dict, list[str]]:
    own, rest = own_words(words, {"only", "rounds", "json"})
    rounds = own.get("rounds", str(ROUNDS))
    if not rounds.isdecimal() or int(rounds) < 1:
        raise UserError(f"bench models: rounds must be a whole number above 0, got {rounds!r}")
    only = own["only"].split(",") if "only" in own else ()
    return {"only": only, "rounds": int(rounds), "json": own.get("json", "")}, rest


def variants(words: list[str], only: tuple[str, ...] | list[str] = ()) -> dict:
    """{`slot=tag`: run configuration} of every filling that the model's slots know."""
    tables = {slot: declared(ModelConfig)[slot].table for slot in SLOTS}
    tags = {tag for table in tables.values() for tag in table}
    for tag in only:
        if tag not in tags:
            raise UserError(
                f"bench models: only={tag} is no filling; {', '.join(sorted(tags))} are"
            )
    return {
        f"{slot}={tag}": run_config([*words, f"{slot}={tag}", *beside(f"{slot}={tag}")])
        for slot, table in tables.items()
        for tag in table
        if not only or tag in only
    }


def dense_twin(config: ModelConfig, vocab: int) -> ModelConfig:
    """The dense model of plain slots whose active parameters come nearest to a configuration's."""
    wanted = account(config, vocab_size=vocab).active
    plain = ModelConfig(n_layers=config.n_layers, d_model=config.d_model, context=config.context)

    def at(width: int) -> ModelConfig:
        return plain.replace(mlp=DenseMLP.Config(width=width))

    one, two = (account(at(width), vocab_size=vocab).active for width in (1, 2))
    return at(max(1, round(1 + (wanted - one) / (two - one))))


def measure(name: str, config: ModelConfig, batch: int, rounds: int, vocab: int = 1024) -> Row:
    """Time a variant and its dense twin in turns, and the variant's memory by itself."""
    twin = dense_twin(config, vocab)
    steps = [Trial(c, vocab, batch) for c in (config, twin)]
    times: list[list[float]] = [[], []]
    for turn in range(WARMUP + rounds):
        for trial, taken in zip(steps, times, strict=True):
            seconds = trial.step()
            if turn >= WARMUP:
                taken.append(1e3 * seconds)
    ours, dense = (statistics.median(t) for t in times)
    # Of the two steps of one turn, because the machine's pace changes from turn to turn.
    slower = statistics.median(mine / its for mine, its in zip(*times, strict=True))
    accounts = [account(c, vocab_size=vocab) for c in (config, twin)]
    tokens = batch * config.context
    justified = _justified(*accounts, tokens, dense) / dense
    low, high = sorted(times[0])[len(times[0]) // 5], sorted(times[0])[-1 - len(times[0]) // 5]
    return Row(
        variant=name,
        active=accounts[0].active,
        total=accounts[0].total,
        flops=accounts[0].flops_executed,
        step_ms=ours,
        spread_ms=(low, high),
        tokens_per_s=1e3 * tokens / ours,
        dense_ms=dense,
        peak_mb=peak(config, vocab, batch),
        over_justified=slower / justified,
    )


class Trial:
    """A model, its optimizer and one batch of random tokens."""

    def __init__(self, config: ModelConfig, vocab: int, batch: int):
        self.model = Transformer(config, vocab_size=vocab, seed=0).to(_device()).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, fused=True)
        generator = torch.Generator().manual_seed(0)
        tokens = torch.randint(0, vocab, (batch, config.context + 1), generator=generator)
        self.tokens = tokens.to(_device())

    def step(self) -> float:
        """Seconds of one step."""
        _wait()
        start = time.perf_counter()
        logits, told = self.model(self.tokens[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), self.tokens[:, 1:].flatten())
        extra = [value for name, value in told.items() if "loss/" in name]
        (loss + sum(extra)).backward()
        self.optimizer.step()
        self.model.constraint.project(self.model, 1.0)
        self.optimizer.zero_grad()
        _wait()
        return time.perf_counter() - start


def _justified(ours: Account, dense: Account, tokens: int, dense_ms: float) -> float:
    """Milliseconds that operations and bytes of parameters ask for, at the dense model's rates.

    Parameters, and the rows of them that tokens gather, pass at the speed of a copy; the rest of
    the dense step is what its operations take.
    """
    bandwidth = _copy_bytes_per_ms()
    passes = [
        PASSES_OVER_PARAMETERS * a.total + PASSES_OVER_ROWS * tokens * a.gathered
        for a in (ours, dense)
    ]
    moved = [4 * floats / bandwidth for floats in passes]
    operations = [3 * tokens * a.flops_executed for a in (ours, dense)]
    rate = operations[1] / max(dense_ms - moved[1], dense_ms / 2)
    return operations[0] / rate + moved[0]


def _copy_bytes_per_ms() -> float:
    source = torch.ones(2**24, device=_device())
    target = torch.empty_like(source)
    taken = []
    for _ in range(WARMUP + ROUNDS):
        _wait()
        start = time.perf_counter()
        target.copy_(source)
        _wait()
        taken.append(1e3 * (time.perf_counter() - start))
    return 2 * source.nbytes / statistics.median(taken)


def peak(config: ModelConfig, vocab: int, batch: int) -> float:
    """Peak memory of a step in MB: of the GPU, or of a process of its own on a CPU."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        Trial(config, vocab, batch).step()
        return torch.cuda.max_memory_allocated() / 2**20
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_of_process, (config, vocab, batch))


def _peak_of_process(config: ModelConfig, vocab: int, batch: int) -> float:
    Trial(config, vocab, batch).step()
    return peak_of_process()


def _show(row: Row, *, first: bool) -> None:
    if first:
        print(
            f"{'variant':28}{'active':>12}{'step ms':>10}{'dense ms':>10}{'tokens/s':>11}"
            f"{'peak MB':>9}  over justified"
        )
    print(
        f"{row.variant:28}{row.active:12,}{row.step_ms:10.1f}{row.dense_ms:10.1f}"
        f"{row.tokens_per_s:11,.0f}{row.peak_mb:9,.0f}{row.over_justified:8.2f}x",
        flush=True,
    )


def _write(path: str, rows: list[Row], failed: list[dict]) -> None:
    about = {"format": 1, "torch": torch.__version__, "threads": torch.get_num_threads()}
    result = about | {"device": _device(), "rows": [asdict(r) for r in rows], "failed": failed}
    Path(path).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
