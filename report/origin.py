"""What a run's weights come from, as its manifest tells, and which runs may be ranked together."""

from typing import Any

from pellucid.report.reading import RunFiles
from pellucid.report.scores import is_number
from pellucid.report.wording import number

SCRATCH = "from scratch"
VERBS = {"init_from": "starts from", "teacher": "taught by", "posthoc": "coders fitted to"}


def sources(run: RunFiles) -> dict[str, dict[str, Any]]:
    """The runs that a run starts from or learns from, by the field that names them."""
    return _by_field(run.manifest.get("origin"))


def _by_field(origin: Any) -> dict[str, dict[str, Any]]:
    found = origin if isinstance(origin, dict) else {}
    return {field: facts for field, facts in found.items() if isinstance(facts, dict)}


def losses(run: RunFiles) -> list[dict[str, Any]]:
    """The functions of a user's own that entered a run's loss (`train.losses`)."""
    found = run.manifest.get("losses")
    return [facts for facts in found if isinstance(facts, dict)] if isinstance(found, list) else []


def kin(run: RunFiles) -> tuple[tuple[Any, ...], ...]:
    """What runs that are ranked with each other share: the same weights to start or learn from,
    and the same functions, to the letter of their files, in their losses.

    A dense run with coders stands where that run does: coders are one way to read it, compared with
    layers that need none, and what fitting them cost is said beside."""
    found = sources(run)
    found |= _by_field(found.pop("posthoc", {}).get("origin"))
    given = [(field, str(facts.get("weights_sha256"))) for field, facts in found.items()]
    own = [
        ("losses", str(facts.get("function")), str(facts.get("source_sha256")))
        for facts in losses(run)
    ]
    return tuple(sorted([*given, *own]))


def in_words(run: RunFiles) -> str:
    """`from scratch`, or `starts from dense, taught by large, with the loss quiet:l1`."""
    told = [
        f"{VERBS.get(field, field)} {facts.get('run')}" for field, facts in sources(run).items()
    ]
    told += _fit(run)
    told += [f"with the loss {facts.get('function')}" for facts in losses(run)]
    return ", ".join(told) or SCRATCH


def matched(run: RunFiles) -> str | None:
    """`matched by active to tiny mlp.k=16: 1.0012 of it`; None for a run that was matched to none."""
    found = run.manifest.get("matched")
    if not isinstance(found, dict) or not isinstance(found.get("to"), list):
        return None
    ratio = found.get("ratio")
    close = f": {ratio:.4f} of it" if is_number(ratio) else ""
    rung = f", rung {found['rung']:g}" if is_number(found.get("rung")) else ""
    return f"matched by {found.get('by')}{rung} to {' '.join(map(str, found['to']))}{close}"


def _fit(run: RunFiles) -> list[str]:
    """What fitting coders cost, in operations."""
    found = run.manifest.get("posthoc")
    spent = found.get("compute", {}) if isinstance(found, dict) else {}
    ratio = spent.get("ratio_with_all_rates")
    told = f"for {number(ratio, 3)} times the operations of its training"
    return [told] if isinstance(ratio, int | float) else []


def note(run: RunFiles) -> str | None:
    """At which steps the other runs were taken, and the loss that starting from one cost."""
    found = sources(run)
    steps = [f"step {facts.get('step')}" for facts in found.values()]
    gap = (found.get("init_from", {}).get("held_out") or {}).get("gap")
    steps += [f"gap {gap:+.3g} nats per token"] if isinstance(gap, int | float) else []
    return " · ".join(steps) or None
