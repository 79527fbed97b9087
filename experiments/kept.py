"""Results that a table of fillings keeps, so that an interrupted one can go on.

A result is kept with a digest of what it came from: the files that define the filling, and the
configuration. Where neither has changed, it need not be found again.
"""

import hashlib
import inspect
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pellucid.config import RunConfig
from pellucid.models.config import PER_LAYER
from pellucid.settings.fields import to_json

Row = dict[str, Any]


def digest(slot: str, config: RunConfig) -> str:
    """SHA-256 of the files of the filling of a slot and of the configuration, without what may
    change when a run is resumed.

    The files are those of its class and of every class of Pellucid that it is made from; a stream
    brings those of the halves that it owns.
    """
    filling = getattr(config.model, slot)
    owned = [filling.owned(half) for half in PER_LAYER] if slot == "stream" else []
    classes = [part.builds for part in (filling, *owned) if part is not None]
    found = hashlib.sha256(json.dumps(to_json(config, operational=False), sort_keys=True).encode())
    for path in sorted(_files(classes)):
        found.update(path.read_bytes())
    return found.hexdigest()


def _files(classes: Iterable[type]) -> set[Path]:
    own = {c for cls in classes for c in cls.__mro__ if c.__module__.startswith("pellucid.models")}
    return {Path(inspect.getfile(cls)) for cls in own}


def read(path: str) -> dict[str, Row]:
    """The rows of a file of results by variant; none where no file is named or there is none yet."""
    if not path or not Path(path).exists():
        return {}
    return {row["variant"]: row for row in json.loads(Path(path).read_text("utf-8"))["rows"]}


def write(path: str, facts: Row, rows: dict[str, Row], failed: dict[str, str]) -> None:
    """Replace a file of results, whole or not at all."""
    text = json.dumps(facts | {"rows": [*rows.values()], "failed": failed}, indent=1)
    part = Path(path).with_suffix(".part")
    part.write_text(text + "\n", encoding="utf-8")
    part.replace(path)
