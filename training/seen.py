"""What training and tuning have shown a run: itself, and the runs it starts from or learns from.

Read from the runs' own files. A run's manifest keeps what its sources had seen when it began, so
that their folders may be moved or deleted without its being forgotten.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pellucid.run import RunFolder

CHOSEN_BY = "selected_by"
"""Field of the manifest in which tuning lists what chose the model: metrics, families, and metrics
of one split, as `val:bits_per_byte`."""
SOURCES = ("init_from", "teacher")
"""Fields of `train` that name another run."""
POSTHOC = "posthoc"
"""Field of a manifest's origin for the run that coders were fitted to, whichever of the above name
it."""
UNKNOWN = "unknown:"
"""How keys begin of runs of which it is not known what they have seen."""


def seen(folder: RunFolder) -> dict[str, str]:
    """Families, metrics and sites that training or tuning used: why each is no evaluation.

    Keys are `labels:loop` or another family, a metric's name, `module:function` of a loss, a site
    as `site:name`, or `unknown:path` of a source that is neither there nor told of.
    """
    return _seen(folder, set()) if folder.exists() else {}


def _seen(folder: RunFolder, read: set[Path]) -> dict[str, str]:
    read.add(folder.path.resolve())
    config, manifest = folder.read_config(), folder.read_manifest()
    begun = f"; {folder.name} starts or learns from it"
    theirs = _of_sources(folder.name, config, manifest, read)
    found = {name: reason + begun for name, reason in theirs.items()}
    chosen = f"{folder.name} was chosen by it among the runs of a search"
    found |= dict.fromkeys(manifest.get(CHOSEN_BY, []), chosen)
    return found | _labels(folder.name, config) | _losses(folder.name, manifest)


def _of_sources(
    name: str, config: Mapping[str, Any], manifest: Mapping[str, Any], read: set[Path]
) -> dict[str, str]:
    """What a run's sources had seen when it began, and have seen since where they are there."""
    origin = manifest.get("origin")
    told = {field: facts["seen"] for field, facts in _facts(origin).items() if "seen" in facts}
    found: dict[str, str] = {}
    for kept in told.values():
        found |= kept
    for field, other in _sources(config).items():
        if other.exists():
            if other.path.resolve() not in read:
                found |= _seen(other, read)
        elif not {field, POSTHOC} & told.keys():
            found[f"{UNKNOWN}{other.path}"] = (
                f"what {other.path} was trained and chosen by is not known: the run is not there, "
                f"and the manifest of {name} does not say"
            )
    return found


def _facts(origin: Any) -> dict[str, Mapping[str, Any]]:
    """What a manifest says of each source, by field; nothing of a run from scratch."""
    return origin if isinstance(origin, dict) else {}


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


def _sources(config: Mapping[str, Any]) -> dict[str, RunFolder]:
    paths = {field: config["train"].get(field) for field in SOURCES}
    return {field: RunFolder(path) for field, path in paths.items() if path}
