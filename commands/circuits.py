"""`pellucid circuit`: the smallest part of a model that does a task.

What needs torch is imported by the command that needs it, so that a mistake is told at once.
"""

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from pellucid.commands.options import parsed, run_folder
from pellucid.errors import EXIT_OK, UserError

TASK = "a task of the table, all of them, or a .jsonl file of pairs of prompts"
ARGUMENTS = (
    ("run", {"metavar": "RUN", "help": "the folder of a run"}),
    ("--task", {"metavar": "T", "help": TASK}),
    (
        "--weight",
        {"metavar": "W", "help": "instead: what one weight does, as blocks.0.mlp.w_enc:3,5"},
    ),
    ("--step", {"type": int, "help": "the checkpoint's step (default: the newest)"}),
    (
        "--distance",
        {"type": int, "default": 0, "help": "tokens between cue and answer: 0, 8, 32 or 128"},
    ),
    ("--profile", {"default": "quick", "help": "quick, paper or headline (default: quick)"}),
    ("--target", {"type": float, "default": 0.15, "help": "loss in nats (default: 0.15)"}),
    ("--grain", {"default": "channels", "help": "channels or parts: heads and neurons alone"}),
    (
        "--frozen-norm",
        {"action": "store_true", "help": "hold norms at what they are in the whole model"},
    ),
    (
        "--ranking",
        {"default": "masks", "help": "masks, eap, eap_ig or started (default: masks)"},
    ),
    ("--edges", {"action": "store_true", "help": "then prune the edges between its nodes"}),
    (
        "--no-controls",
        {"action": "store_true", "help": "without the battery and the faithful size"},
    ),
    ("--seed", {"type": int, "default": 0, "help": "everything random (default: 0)"}),
    ("--force", {"action": "store_true", "help": "search although the model misses the target"}),
)
CHOSEN = (
    "profile",
    "target",
    "grain",
    "distance",
    "seed",
    "force",
    "edges",
    "frozen_norm",
    "ranking",
)
"""Options that the search is told as they are."""


def circuit(argv: list[str]) -> int:
    """Find circuits of a run, write them into its folder, and its report."""
    args = parsed("circuit", argv, *ARGUMENTS)
    if bool(args.task) == bool(args.weight):
        raise UserError("circuit needs either --task T or --weight W")
    if args.weight:
        _refuse_ignored(args)
    run_folder(args.run)
    from pellucid import report, run
    from pellucid.eval.circuits.run import Search
    from pellucid.eval.circuits.single_weight import lines
    from pellucid.eval.tasks import TASKS

    loaded = run.load(Path(args.run), step=args.step, device=_device())
    if args.weight:
        print("\n".join(lines(loaded, args.weight)))
        return EXIT_OK
    chosen = {name: getattr(args, name) for name in CHOSEN}
    search = Search(run=loaded, controls=not args.no_controls, **chosen)
    if args.task == "all":
        _every(search, list(TASKS))
    else:
        print(_said(search, search.write(args.task)))
    print(f"report: {report.write_report(loaded.folder)}")
    return EXIT_OK


def _refuse_ignored(args: Namespace) -> None:
    """UserError for options of a search beside `--weight`, which searches for nothing."""
    usual = parsed("circuit", [args.run], *ARGUMENTS)
    ignored = [
        f"--{name.replace('_', '-')}"
        for name, value in vars(args).items()
        if name not in ("run", "weight", "step") and value != getattr(usual, name)
    ]
    if ignored:
        raise UserError(
            f"circuit: --weight {args.weight} does not use {', '.join(ignored)}: beside it --step "
            "alone is accepted"
        )


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _every(search: Any, tasks: list[str]) -> None:
    """All tasks that the model can do; the others are told with the reason."""
    found, reason = [], ""
    for task in tasks:
        try:
            found.append(search.write(task))
            print(_said(search, found[-1]), flush=True)
        except UserError as error:
            reason = str(error)
            print(f"passed over: {reason}", flush=True)
    if not found:
        raise UserError(f"none of the {len(tasks)} tasks has a circuit; the last: {reason}")
    if len(found) > 1:
        print(f"{len(found)} of {len(tasks)} tasks, in the geometric mean: {mean_sizes(found)}")


def mean_sizes(found: list[dict[str, Any]]) -> str:
    """Sizes over tasks; a circuit that is censored counts as the whole model."""
    from pellucid.eval.circuits.scores import parts_of

    parts = [parts_of(each) for each in found]

    def size(metric: str, censored: int) -> str:
        nodes, bits = (
            2 ** fmean(each[f"{metric}_log2_{unit}"].value for each in parts)
            for unit in ("nodes", "bits")
        )
        return f"{nodes:.1f} nodes, {bits:.0f} bits, {censored} of them censored"

    says = size("circuit", sum(each["censored"] for each in found))
    if any("faithful" not in each for each in found):
        return says
    full = sum(each["faithful"]["censored"] for each in found)
    return f"faithful size {size('circuit_faithful', full)}; found {says}"


def faithful_size(proven: Mapping[str, Any]) -> str:
    """The faithful size of a circuit's file in words."""
    if proven["censored"]:
        size = "none"
    else:
        more = ", about as many bits as the whole model" if proven.get("capped") else ""
        size = f"{proven['nodes']} nodes{more}"
    if (fresh := proven.get("fresh", {}).get("loss")) is not None:
        size += f" ({fresh:.3f} nats on fresh pairs at worst)"
    return size


def _said(search: Any, found: dict[str, Any]) -> str:
    sizes, losses = found["sizes"], found["losses"]
    what = "censored: no circuit reaches the target; " if found["censored"] else ""
    if proven := found.get("faithful"):
        failed = [check["name"] for check in found["battery"] if check["passes"] is False]
        fails = f"fails {', '.join(failed) or 'no control'}"
        what = f"faithful size {faithful_size(proven)}; {fails}; {what}"
    return (
        f"{search.file_name(found['task'])}: {what}{sizes['nodes']} of {found['candidates']} nodes, "
        f"{sizes['bits']:.0f} bits; loss {losses['circuit']:.3f} nats at a target of "
        f"{found['target']:g}, {losses['circuit_unseen']:.3f} on unseen prompts, where the model "
        f"has {losses['model_unseen']:.3f}{_edges_said(search, found)}"
    )


def _edges_said(search: Any, found: dict[str, Any]) -> str:
    if not search.edges:
        return ""
    if (left := found["sizes"].get("pruned_edges")) is not None:
        return f"; {left} edges " + ("in all" if found["censored"] else "after pruning")
    return f"; no edges pruned: {found['reasons']['pruned_edges']}"
