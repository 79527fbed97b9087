"""What a run is: the facts at the head of its page, and its settings as flat rows."""

from typing import Any

from pellucid.report import origin
from pellucid.report.reading import RunFiles
from pellucid.report.wording import NONE, count, number, short, words

SHOWN_SETTINGS = 4
"""Settings printed beside a slot's name; all of them are in the table of settings."""

EXACTNESS = {
    "weights-exact": "the weights alone say what it computes",
    "unit-ablation-exact": "removing a unit removes exactly its term",
    "edge-exact": "each edge between positions is exactly on or off",
    "linear-given-active-set": "linear once the active units are known",
    "linear-given-gates": "linear once the gates' values are known",
    "logit-split-exact": "logits are an exact sum over units",
    "none": "no exact property, only a privileged basis",
}
"""What each class of declared exactness means, in words."""


def facts(run: RunFiles) -> list[dict[str, Any]]:
    """The facts of the header in reading order: [{label, value, note}]."""
    account = parameters(run)
    steps = last_step(run)
    rows = [
        ("Preset", lookup(run, "preset"), None),
        ("Seed", lookup(run, "seed"), None),
        ("Steps", number(steps), _tokens_note(run)),
        ("Data", corpus(run), f"fingerprint {short(run.fingerprint)}"),
        ("Origin", origin.in_words(run), origin.note(run)),
        ("Parameters", count(account.get("total")), _nonzero_note(account)),
        ("Active per token", count(account.get("active")), _flops_note(account)),
        *([("Baseline", "yes", told)] if (told := origin.matched(run)) else ()),
    ]
    return [
        {"label": label, "value": NONE if value is None else value, "note": note}
        for label, value, note in rows
    ]


def lookup(run: RunFiles, key: str) -> Any:
    """A field of the manifest or, where it has none, of the configuration."""
    return run.manifest.get(key, run.config.get(key))


def parameters(run: RunFiles) -> dict[str, Any]:
    """The manifest's account of parameters and FLOPs; empty where it has none."""
    found = run.manifest.get("account")
    return found if isinstance(found, dict) else {}


def corpus(run: RunFiles) -> str | None:
    """The tag of the corpus the run was trained on."""
    data = run.config.get("data")
    found = data.get("corpus") if isinstance(data, dict) else None
    return str(found.get("type")) if isinstance(found, dict) else found


def last_step(run: RunFiles) -> Any:
    """The last step with a row in metrics.jsonl."""
    steps = [row.get("step") for row in run.metrics if isinstance(row.get("step"), int)]
    return max(steps, default=None)


def slots(run: RunFiles) -> list[dict[str, Any]]:
    """What fills each slot of the model: [{slot, filling, settings: [(name, value)]}]."""
    model = run.config.get("model")
    model = model if isinstance(model, dict) else {}
    filled = {**model, **(model.get("per_layer") or {})}
    return [
        {"slot": name, "filling": value["type"], "settings": _shown(value)}
        for name, value in filled.items()
        if isinstance(value, dict) and "type" in value
    ]


def exactness(run: RunFiles) -> list[dict[str, Any]]:
    """Classes of exactness that the sites declare: [{name, meaning, sites}]."""
    classes: dict[str, list[str]] = {}
    for site in (run.units or {}).get("sites", []):
        classes.setdefault(str(site.get("exactness", "none")), []).append(site["name"])
    return [
        {"name": name, "meaning": EXACTNESS.get(name, words(name)), "sites": sites}
        for name, sites in classes.items()
    ]


def flatten(value: Any, path: str = "") -> dict[str, Any]:
    """A nested configuration as {"model.mlp.k": 32, "model.mlp": "topk", …}."""
    if not isinstance(value, dict):
        return {path: value}
    flat: dict[str, Any] = {}
    for key, item in value.items():
        inner = path if key == "type" else f"{path}.{key}".lstrip(".")
        flat |= flatten(item, inner)
    return flat


def _shown(filling: dict[str, Any]) -> list[tuple[str, str]]:
    scalars = {k: v for k, v in filling.items() if k != "type" and isinstance(v, int | float | str)}
    numbers = [(words(k), number(v)) for k, v in scalars.items() if not isinstance(v, bool)]
    return numbers[:SHOWN_SETTINGS]


def _tokens_note(run: RunFiles) -> str | None:
    seen = [r["tokens"] for r in run.metrics if isinstance(r.get("tokens"), int | float)]
    return f"{count(max(seen))} tokens" if seen else None


def _nonzero_note(account: dict[str, Any]) -> str | None:
    return f"{count(account['nonzero'])} non-zero" if "nonzero" in account else None


def _flops_note(account: dict[str, Any]) -> str | None:
    if "flops_executed" not in account:
        return None
    note = f"{count(account['flops_executed'])} FLOPs forward"
    ideal = account.get("flops_ideal")
    return f"{note}, {count(ideal)} ideal" if ideal else note
