"""What left-out nodes are held at: does the circuit depend on the choice?

Scores of circuits change drastically with it (arXiv 2407.08734).
"""

from pellucid.eval.circuits.bases import Ablation
from pellucid.eval.circuits.battery.case import Case
from pellucid.eval.circuits.battery.check import Check

NO_VERDICT: dict[Ablation, str] = {
    "zero": "no node need ever be at 0: the loss is shown for comparison",
    "mean_task": "means over the task's own prompts tell what the task is: shown for comparison",
}
WORDS: dict[Ablation, str] = {
    "mean": "their means over training text",
    "resample": "what they do on another prompt",
    "mean_task": "their means over the task's prompts",
    "zero": "0",
}


def ablations(case: Case) -> list[Check]:
    """The circuit's loss on unseen prompts under each kind of ablation, and new circuits' sizes."""
    checks = []
    for ablation, words in WORDS.items():
        loss = case.losses(case.kept, ablation).item()
        says = (
            f"With all other nodes held at {words}, the loss on unseen prompts is {loss:.3f} nats"
        )
        reason = NO_VERDICT.get(ablation)
        passes = None if reason else loss <= case.allowed
        says += "." if reason else f"; at most {case.allowed:.3f} passes."
        checks.append(Check(f"ablation_{ablation}", loss, "nats", says, passes, reason))
    return checks + (_sizes(case) if case.repeats.by_ablation else [])


def _sizes(case: Case) -> list[Check]:
    checks = []
    for ablation in ("zero", "mean_task", "resample"):
        base = case.base(ablation, case.asked)
        found = case.find(case.model, case.nodes, case.asked, base, case.seed)
        ratio = max(found.size, 1) / max(case.circuit.size, 1)
        says = (
            f"Searched with other nodes held at {WORDS[ablation]}, a circuit has {found.size} "
            f"nodes; at their means over training text {case.circuit.size}."
        )
        reason = "sizes under kinds of ablation are shown for comparison"
        checks.append(Check(f"size_{ablation}", ratio, "ratio", says, None, reason))
    return checks
