"""Sizes of circuits as scores of a run: each task's, and their geometric mean over tasks.

Sizes are log2, so that a difference is the log of a ratio and a mean that of a geometric mean: two
models whose `circuit_log2_bits` differ by 4 have circuits of which one takes 16 times the bits of
the other. A circuit without a node counts as one of a bit, and of a node.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import log2
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from pellucid.eval.bootstrap import Interval, mean
from pellucid.eval.circuits.battery.nonsense import NONSENSE
from pellucid.eval.circuits.gates import LACKS
from pellucid.eval.circuits.nodes import Nodes
from pellucid.eval.circuits.sizes import bits
from pellucid.eval.controls import as_good
from pellucid.eval.score import NO_INTERVAL, NO_VALUE, Score

FOUND: dict[str, Literal["lower", "higher"]] = {
    "circuit_log2_bits": "lower",
    "circuit_log2_nodes": "lower",
    "circuit_censored": "lower",
    "circuit_model_accuracy": "higher",
}
"""What every circuit has, other nodes being held at their means, and which way is better; and how
often the whole model tells the two answers apart, on the prompts of the search and on others."""
PROVEN: dict[str, Literal["lower", "higher"]] = {
    "circuit_faithful_log2_bits": "lower",
    "circuit_faithful_log2_nodes": "lower",
    "circuit_faithful_censored": "lower",
    "circuit_nonsense_log2_ratio": "higher",
}
"""What one with controls has: its size in the worst case, and how much more nonsense takes."""
EDGES = {
    "circuit_log2_edges": "pruned_edges",
    "circuit_log2_static_edges": "static_edges",
    "circuit_log2_effect_edges": "effect_edges",
    "circuit_log2_dynamic_edges": "dynamic_edges_per_token",
}
"""What one with pruned edges has, and which of its sizes each is the logarithm of."""
EDGED: dict[str, Literal["lower", "higher"]] = dict.fromkeys(EDGES, "lower")
WORST = ("circuit_faithful_log2_bits", "circuit_faithful_log2_nodes", "circuit_faithful_censored")
"""Of these, the sizes in the worst case, which are taken on prompts that no search saw."""
CONTROLS = (NONSENSE, "swapped_labels", "random_twin", "permuted_weights")
"""Controls of the battery that are sizes of circuits."""
FULL = "censored at full size: "
"""How the flag begins that says why a circuit counts as the whole model."""
MEAN_ALONE = "searched for at the means alone: compare with circuit_log2_bits"


@dataclass(frozen=True)
class Part:
    """One number about the circuit of one task."""

    value: float | None
    """None with a flag that says why"""
    controls: Mapping[str, float | str] = field(default_factory=dict)
    flags: tuple[str, ...] = ()


Parts = Mapping[str, Part]
"""By metric."""


class Task(NamedTuple):
    """What was found for one task, and what it took."""

    parts: Parts
    seconds: float = 0.0
    tokens: int = 0


def measured(*, controls: bool, edges: bool) -> dict[str, Literal["lower", "higher"]]:
    """The metrics of circuits that are searched for so, and which way each is better."""
    return FOUND | (PROVEN if controls else {}) | (EDGED if edges else {})


def parts_of(written: Mapping[str, Any]) -> Parts:
    """The numbers of a circuit as its file holds it; a censored one has the size of the model."""
    sizes, empty = written["sizes"], _controls(written.get("battery", ()))
    right = written["accuracy"]
    why = (f"{FULL}no circuit reaches the target",) if written["censored"] else ()
    found = {
        "circuit_log2_bits": Part(_log2(sizes["bits"]), empty["bits"], why),
        "circuit_log2_nodes": Part(_log2(sizes["nodes"]), empty["nodes"], why),
        "circuit_censored": Part(float(written["censored"]), flags=why),
        "circuit_model_accuracy": Part((right["model"] + right["model_unseen"]) / 2),
    }
    if "faithful" in written:
        found |= _proven(written["faithful"], found["circuit_log2_bits"])
    return found | _edges(sizes, written.get("reasons", {}), why)


def _edges(
    sizes: Mapping[str, float | None], reasons: Mapping[str, str], full: tuple[str, ...]
) -> dict[str, Part]:
    """Numbers of edges. One of which a part alone was counted is none: it would seem too small."""
    found = {}
    for metric, kind in EDGES.items():
        count, reason = sizes.get(kind), reasons.get(kind, "")
        if count is None or LACKS in reason:
            why = reason or f"{kind} were not counted"
            found[metric] = Part(None, flags=(NO_VALUE + why,))
        else:
            found[metric] = Part(_log2(count), flags=full)
    return found


def _proven(faithful: Mapping[str, Any], size: Part) -> dict[str, Part]:
    says = "the model misses the target on unseen prompts"
    fresh = faithful.get("fresh", {}).get("loss")
    on_others = "" if fresh is None else f"; on fresh pairs {fresh:.3f} nats at worst"
    found = f"worst way: {faithful['worst']}{on_others}"
    why = (FULL + says,) if faithful["censored"] else (found,)
    beside = dict.fromkeys(CONTROLS, MEAN_ALONE)
    return {
        "circuit_faithful_log2_bits": Part(_log2(faithful["bits"]), beside, why),
        "circuit_faithful_log2_nodes": Part(_log2(faithful["nodes"]), beside, why),
        "circuit_faithful_censored": Part(float(faithful["censored"]), flags=why),
        "circuit_nonsense_log2_ratio": _beside_nonsense(size),
    }


def _beside_nonsense(size: Part) -> Part:
    """How much more than a circuit one of nonsense takes; both were searched for in the same way."""
    nonsense = size.controls[NONSENSE]
    if isinstance(nonsense, str) or size.value is None:
        return Part(None, flags=(f"{NO_VALUE}{nonsense}",))
    return Part(nonsense - size.value, flags=size.flags)


def _controls(battery: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | str]]:
    """By unit: log2 of the smallest circuit of each control, or why there is none."""
    checks = {check["name"]: check for check in battery}
    found: dict[str, dict[str, float | str]] = {"bits": {}, "nodes": {}}
    for name in CONTROLS:
        check = checks.get(name, {})
        for unit, held in found.items():
            least = check.get("least")
            reason = check.get("reason") or "the search was made without controls"
            held[name] = _log2(least[unit]) if least else reason
    return found


def at_full_size(
    nodes: Nodes,
    reason: str,
    metrics: Sequence[str],
    accuracy: float | None = None,
    edges: Mapping[str, Mapping[str, Any]] | None = None,
) -> Parts:
    """The numbers of a task that a model cannot do: its circuit counts as the whole model.

    Nonsense takes no more than that, so the ratio to it is 1. `edges` are those of the whole model,
    `whole.counted`, where they are asked for.
    """
    every = torch.ones(len(nodes), dtype=torch.bool)
    sizes = {"bits": _log2(bits(nodes, every)), "nodes": _log2(len(nodes))}
    known = {m: sizes[u] for m in metrics for u in sizes if m.endswith(f"log2_{u}")}
    known |= {m: 1.0 for m in metrics if m.endswith("censored")}
    known["circuit_nonsense_log2_ratio"] = 0.0
    if accuracy is not None:
        known["circuit_model_accuracy"] = accuracy
    none = Part(None, flags=(NO_VALUE + reason,))
    beside = dict.fromkeys(CONTROLS, "the model misses the target: nothing was searched for")
    controls = lambda metric: beside if "log2_bits" in metric or "log2_nodes" in metric else {}
    why = (FULL + reason,)
    found = _edges(edges["sizes"], edges["reasons"], why) if edges else {}
    found |= {m: Part(value, controls(m), why) for m, value in known.items()}
    return {m: found.get(m, none) for m in metrics}


def not_asked(reason: str, metrics: Sequence[str]) -> Parts:
    """The numbers of a task that cannot be asked of a run: none, and why."""
    return dict.fromkeys(metrics, Part(None, flags=(NO_VALUE + reason,)))


def scores(
    found: Mapping[str, Task], better: Mapping[str, Literal["lower", "higher"]], split: str
) -> list[Score]:
    """Scores of the metrics in `better`: `metric` over all tasks, and `metric:task` of each.

    `split` is what the run's other scores were taken on. A mean needs every task: where one has no
    value, neither has the mean.
    """
    made = []
    for metric, way in better.items():
        parts = {task: about.parts[metric] for task, about in found.items()}
        about = {"split": split, "better": way}
        total = {"seconds": sum(t.seconds for t in found.values())}
        total |= {"tokens": sum(t.tokens for t in found.values())}
        made.append(_score(metric, *_over(parts), **about, **total))
        for task, (_, seconds, tokens) in found.items():
            one = parts[task]
            flags = (*one.flags, f"{NO_INTERVAL}one circuit was searched for in one model")
            alone = Interval(one.value, None, None, 1, flags)
            spent = {"seconds": seconds, "tokens": tokens}
            made.append(_score(f"{metric}:{task}", alone, one.controls, **about, **spent))
    return made


def _over(parts: Mapping[str, Part]) -> tuple[Interval, dict[str, float | str]]:
    """The mean over tasks, which are what is drawn, and that of each control."""
    n = len(parts)
    names = dict.fromkeys(name for part in parts.values() for name in part.controls)
    controls = {name: _control(name, parts) for name in names}
    missing = [f"{t}: {part.flags[0]}" for t, part in parts.items() if part.value is None]
    if missing:
        reason = missing[0].replace(NO_VALUE, "")
        return Interval(None, None, None, n, (NO_VALUE + reason,)), controls
    full = [t for t, part in parts.items() if any(f.startswith(FULL) for f in part.flags)]
    found = mean(np.array([part.value for part in parts.values()]), seed=0, what="tasks")
    flags = (f"{FULL}{len(full)} of {n} tasks ({', '.join(full)})",) if full else ()
    return found._replace(flags=(*found.flags, *flags)), controls


def _control(name: str, parts: Mapping[str, Part]) -> float | str:
    """The mean of a control over tasks, or why it is missing of the first that lacks it."""
    held = {task: part.controls.get(name, "not measured") for task, part in parts.items()}
    said = {task: value for task, value in held.items() if isinstance(value, str)}
    if not said:
        return float(np.mean(list(held.values())))
    task, reason = next(iter(said.items()))
    return reason if set(held.values()) == {reason} else f"{task}: {reason}"


def _score(
    metric: str, found: Interval, controls: Mapping[str, float | str], **about: Any
) -> Score:
    prompts = "unseen prompts" if metric.partition(":")[0] in WORST else "the prompts of the search"
    where = f"on {prompts}, not on text of the split"
    flags = (*as_good(found, controls, about["better"]), where)
    return Score.of(found, flags=flags, metric=metric, controls=dict(controls), **about)


def _log2(size: float) -> float:
    return log2(max(size, 1.0))
