"""What a page reads from a run folder: JSON files and the rows of metrics.jsonl."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pellucid.errors import RunError

FORMAT = 1


class Folder(Protocol):
    """Anything with a path; `pellucid.run.RunFolder` is one."""

    @property
    def path(self) -> Path: ...


@dataclass(frozen=True, kw_only=True)
class RunFiles:
    """One run as its folder tells it; a file that was not written yet is None."""

    path: Path
    config: dict[str, Any]
    manifest: dict[str, Any]
    metrics: list[dict[str, Any]]
    scores: dict[str, Any] | None
    units: dict[str, Any] | None
    circuits: dict[str, dict[str, Any]]
    """files of `circuits/` by their names without ending"""

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def fingerprint(self) -> str | None:
        """Fingerprint of the data this run was trained on; None where no file records it."""
        for source in (self.manifest, self.scores or {}, self.units or {}):
            if found := source.get("data_fingerprint"):
                return str(found)
        return None


def read_run(folder: Folder) -> RunFiles:
    """Read what a page shows. RunError: no such folder, a damaged file, or an unknown format."""
    path = Path(folder.path).resolve()
    if not path.is_dir():
        raise RunError(f"{path} is not a run folder: there is no such directory")
    config = read_json(path / "config.json")
    if config is None:
        raise RunError(f"{path} is not a run folder: it has no config.json")
    return RunFiles(
        path=path,
        config=config,
        manifest=read_json(path / "manifest.json") or {},
        metrics=read_metrics(path / "metrics.jsonl"),
        scores=_versioned(path / "scores.json"),
        units=_versioned(path / "units.json"),
        circuits=read_circuits(path),
    )


def read_circuits(run: Path) -> dict[str, dict[str, Any]]:
    """Circuit files of a run by name, in order, each with the file of its `contexts` if it has one.

    Attribution graphs beside them are none. RunError: a file is damaged, or of an unknown format.
    """
    places = sorted((run / "circuits").glob("*.json"))
    kept = [file for file in places if not file.stem.endswith((".graph", ".contexts"))]
    found = {file.stem: held for file in kept if (held := _versioned(file)) is not None}
    for name, held in found.items():
        if (beside := _versioned(run / "circuits" / f"{name}.contexts.json")) is not None:
            held["contexts"] = beside
    return found


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file, or None where there is no file. RunError: not a JSON object."""
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(found, dict):
        raise RunError(f"{path} holds a {type(found).__name__}; a JSON object is expected")
    return found


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Rows of metrics.jsonl in order of writing; of two rows of one kind and step the later stands.

    A run that was killed can leave a half last line, which is dropped, and can log steps again
    after it resumed. RunError: a line before the last that is not a JSON object.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().splitlines()
    rows: dict[Any, dict[str, Any]] = {}
    for number, line in enumerate(lines):
        row = _row(line)
        if row is not None:
            repeats = row.get("kind") in ("train", "val")
            rows[(row["kind"], row.get("step")) if repeats else number] = row
        elif number < len(lines) - 1 and line.strip():
            raise RunError(f"{path}, line {number + 1}, is not a JSON object: {line[:60]!r}")
    return list(rows.values())


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _versioned(path: Path) -> dict[str, Any] | None:
    found = read_json(path)
    if found is not None and found.get("format") != FORMAT:
        raise RunError(f"{path}: format is {found.get('format')!r}; this version reads {FORMAT}")
    return found
