"""What a run has already been shown, and which metrics it may therefore not be evaluated by.

A number that entered a training loss, or that chose the model, measures how well it was fitted and
not what it is: so the run's own files are read, and those of the runs it started from or learned
from, and a metric that uses the same labels or tasks is refused with the reason.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pellucid.run import RunFolder

CHOSEN_BY = "selected_by"
"""Field of the manifest in which tuning lists what chose the model: metrics, families, and metrics
of one split, as `val:bits_per_byte`."""
SOURCES = ("init_from", "teacher")
"""Fields of `train` that name another run."""


def seen(folder: RunFolder) -> dict[str, str]:
    """Families, metrics and sites that training or tuning used: why each is no evaluation.

    Keys are `labels:loop` or another family, a metric's name, `module:function` of a loss, or a site
    as `site:name`.
    """
    return _seen(folder, set()) if folder.exists() else {}


def refusal(found: Mapping[str, str], metric: str, module: str, uses: Iterable[str]) -> str | None:
    """Why a metric may not evaluate this run, as a sentence; None where it may.

    `module` is where the metric is defined: a loss from the same file is the metric trained upon.
    """
    for used in (metric, *uses):
        if used in found:
            return f"{metric} uses {used}, but {found[used]}"
    for name, reason in found.items():
        if name.partition(":")[0] == module:
            return f"{metric} is defined beside {name}, and {reason}"
    return None


def watched(found: Mapping[str, str], site: str | None) -> tuple[str, ...]:
    """The sentence that a score of a site needs where a loss of the training saw its units."""
    return (found[f"site:{site}"],) if f"site:{site}" in found else ()


def _seen(folder: RunFolder, read: set[Path]) -> dict[str, str]:
    read.add(folder.path.resolve())
    config, manifest = folder.read_config(), folder.read_manifest()
    found: dict[str, str] = {}
    for other in _sources(config):
        if other.exists() and other.path.resolve() not in read:
            origin = f"; {folder.name} starts or learns from it"
            found |= {name: reason + origin for name, reason in _seen(other, read).items()}
    chosen = f"{folder.name} was chosen by it among the runs of a search"
    found |= dict.fromkeys(manifest.get(CHOSEN_BY, []), chosen)
    return found | _labels(folder.name, config) | _losses(folder.name, manifest)


def _labels(name: str, config: Mapping[str, Any]) -> dict[str, str]:
    corpus, model = config["data"].get("corpus"), config["model"]
    family = corpus.get("labels", "none") if isinstance(corpus, dict) else "none"
    if family == "none":
        return {}
    slots = {slot: model.get(slot) for slot in ("head", "gradient_rule")}
    kinds = [f"{s}={v['type']}" for s, v in slots.items() if isinstance(v, dict) and "type" in v]
    learners = [kind for kind in kinds if kind in ("head=concept", "gradient_rule=routed")]
    how = f" ({', '.join(learners)} learns from them)" if learners else ""
    return {f"labels:{family}": f"{name} was trained beside these labels{how}"}


def _losses(name: str, manifest: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for loss in manifest.get("losses", []):
        function = loss["function"]
        found[function] = f"{function} entered the loss of {name}"
        for used in loss.get("uses", []):
            found[used] = f"{function} entered the loss of {name} and uses it"
        for site in loss.get("sites", []):
            found[f"site:{site}"] = f"{function} entered the loss of {name} and saw these units"
    return found


def _sources(config: Mapping[str, Any]) -> list[RunFolder]:
    paths = (config["train"].get(field) for field in SOURCES)
    return [RunFolder(path) for path in paths if path]
