"""The goals, as ratios within one run, beside what the run has measured."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from pellucid.kernels.bench import weights
from pellucid.kernels.bench.report import Record

Measured = Callable[[Record], float | None]


@dataclass(frozen=True)
class Goal:
    """A measured number that is to reach `least`, better `aim`; `also` is part of the aim."""

    name: str
    measured: Measured
    least: float
    aim: float | None = None
    also: tuple[str, Measured, float] | None = None


def layers(shape: str, other: str, stage: str = "whole") -> Measured:
    """How many times our layer's time another layer takes."""
    return lambda record: record.ratio(f"layer/{shape}", other, "ours", stage)


def times(key: str, other: str, ours: str) -> Measured:
    """How many times our time another variant takes."""
    return lambda record: record.ratio(key, other, ours)


def share(key: str) -> Measured:
    """The share of the copy bandwidth."""
    return lambda record: record.number(f"{key}/whole", "share")


def smallest(record: Record) -> float | None:
    """The worst of our layer's ratios to the dense one over all shapes that were measured."""
    keys = {"/".join(key.split("/")[:2]) for key in record.figures if key.startswith("layer/")}
    ratios = [record.ratio(key, "dense", "ours") for key in keys]
    return min((ratio for ratio in ratios if ratio), default=None)


def saved(record: Record) -> float | None:
    """How many times as much the dense layer keeps for its backward pass at S1."""
    dense, ours = (record.number(f"layer/S1/{name}/saved", "mb") for name in ("dense", "ours"))
    return dense / ours if dense and ours else None


def floor(record: Record) -> float | None:
    """The least time that the weights' passes can take, over the time taken."""
    return record.number(f"{weights.KEY}/weight_topk_/whole", "share")


def model(record: Record) -> float | None:
    """Tokens per second with top-k layers over tokens per second with dense ones."""
    return record.ratio("model/small", "dense, 4 d", "top-k, 16 d")


GOALS = (
    Goal("whole layer, S1, dense / ours", layers("S1", "dense"), 2.5, 3.0),
    Goal(
        "whole layer, S1, dense + topk + scatter / ours", layers("S1", "dense, topk, scatter"), 4, 6
    ),
    Goal("backward, S1, dense / ours", layers("S1", "dense", "backward"), 4.5, 6),
    Goal("forward, S1, dense / ours", layers("S1", "dense", "forward"), 1.35, 1.55),
    Goal(
        "topk_rows, S1, torch.topk / ours",
        times("select/S1", "torch.topk", "topk_rows"),
        8,
        12,
        ("share of copy bandwidth", share("select/S1/topk_rows"), 0.6),
    ),
    Goal(
        "decode, S1, embedding_bag / ours",
        times("decode/S1/uniform", "embedding_bag", "sparse_decode"),
        2,
        None,
        ("share of copy bandwidth", share("decode/S1/uniform/sparse_decode"), 0.75),
    ),
    Goal(
        "decode and gradients, S1, OpenAI's / ours",
        times("decoder/S1/uniform", "OpenAI", "sparse_decode"),
        1.5,
        2,
    ),
    Goal(
        "decode and gradients, S1, sparsify's / ours",
        times("decoder/S1/uniform", "sparsify", "sparse_decode"),
        1.5,
        2,
    ),
    Goal("whole layer, worst shape, dense / ours", smallest, 0.97),
    Goal("kept for the backward pass, S1, dense / ours", saved, 100),
    Goal(
        "weight_topk_ 8192 x 2048 at 0.1 %, topk + scatter / ours",
        times(weights.KEY, "torch.topk, scatter", "weight_topk_"),
        10,
        None,
        ("floor of the bandwidth / ours", floor, 0.5),
    ),
    Goal("whole layer, T1, dense / ours", layers("T1", "dense"), 1.0, 1.3),
    Goal("tokens per second of `small`, top-k 16 d / dense 4 d", model, 0.8, 1.0),
)


def judge(record: Record) -> None:
    """Put every goal with what was measured into the record."""
    record.goals = [_judged(goal, record) for goal in GOALS]


def _judged(goal: Goal, record: Record) -> dict:
    value = goal.measured(record)
    kept = {"goal": goal.name, "least": goal.least, "aim": goal.aim, "measured": value}
    further = True
    if goal.also:
        name, measure, wanted = goal.also
        also = measure(record)
        kept |= {"also": name, "also_aim": wanted, "also_measured": also}
        further = also is not None and also >= wanted
    if value is None or not math.isfinite(value):
        return kept | {"measured": None, "verdict": "not measured"}
    if value < goal.least:
        return kept | {"verdict": "not met"}
    has_aim = goal.aim is not None or goal.also is not None
    reached = has_aim and further and value >= (goal.aim or goal.least)
    return kept | {"verdict": "aim met" if reached else "met"}


def lines(record: Record) -> list[str]:
    """The goals as a table to print."""
    rows = []
    for goal in record.goals:
        wanted = f">= {goal['least']:g}" + (f" (aim {goal['aim']:g})" if goal["aim"] else "")
        value = _shown(goal["measured"])
        rows.append(f"  {goal['goal']:58s}{wanted:>18s}{value:>9s}  {goal['verdict']}")
        if "also" in goal:
            wanted, value = f"aim {goal['also_aim']:g}", _shown(goal["also_measured"])
            rows.append(f"    {goal['also']:56s}{wanted:>18s}{value:>9s}")
    return rows


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
