"""A run is a folder: what is in it, and `load`, which opens a trained one."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import torch
from torch import Tensor

from pellucid import checkpoint
from pellucid.errors import RunError
from pellucid.settings import fields
from pellucid.storage import files, locking

if TYPE_CHECKING:
    from pellucid.config import RunConfig
    from pellucid.data import TokenData, Tokenizer
    from pellucid.models import Transformer
    from pellucid.storage.recorded import CachedActivations

FORMAT = 1


class RunFolder:
    """`runs/<name>/`: paths, and everything read from and written to it."""

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.config_file = self.path / "config.json"
        self.manifest_file = self.path / "manifest.json"
        self.tokenizer_file = self.path / "tokenizer.json"
        self.metrics_file = self.path / "metrics.jsonl"
        self.scores_file = self.path / "scores.json"
        self.units_file = self.path / "units.json"
        self.openings_file = self.path / "openings.json"
        self.report_file, self.frozen = self.path / "report.html", self.path / "frozen"
        self.lock_file, self.checkpoints = self.path / "lock", self.path / "checkpoints"
        self.circuits, self.cache = self.path / "circuits", self.path / "cache"

    @property
    def name(self) -> str:
        return self.path.resolve().name

    def exists(self) -> bool:
        """Whether there is a run here: its config is written last when one is created."""
        with files.explained(RunError, f"look into {self.path}"):
            return self.config_file.exists()

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """The folder of an existing run; raises RunError where there is none."""
        folder = cls(path)
        if not folder.exists():
            lacks = "it has no config.json" if folder.path.is_dir() else "there is no such folder"
            raise RunError(f"{folder.path} is not a run: {lacks}")
        return folder

    def create(self, config: dict[str, Any], manifest: dict[str, Any], tokenizer: Any) -> None:
        """Begin a run: write its tokenizer, manifest and config; RunError where there is one."""
        self._check_free()
        if self.exists():
            raise RunError(f"{self.path} already holds a run: give another folder")
        with files.explained(RunError, f"create the run folder {self.path}"):
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            files.sweep(self.path)
            tokenizer.save(self.tokenizer_file)
        manifest = manifest | {"tokenizer_sha256": tokenizer.sha256}
        files.write_json(self.manifest_file, manifest, RunError)
        files.write_json(self.config_file, config, RunError)

    @contextmanager
    def lock(self) -> Iterator[Self]:
        """Be the only writer, creating the folder if need be; RunError names the other process."""
        self._check_free()
        with files.explained(RunError, f"create the run folder {self.path}"):
            self.path.mkdir(parents=True, exist_ok=True)
        with locking.exclusive(self.lock_file):
            yield self

    def belongs(self, config: "RunConfig") -> None:
        """Raise RunError, showing the difference, unless this run was begun with this config.

        Operational fields may differ.
        """
        stored = fields.from_json(type(config), self.read_config())
        different = fields.differences(stored, config, operational=False)
        if different:
            shown = "; ".join(
                f"{path} is {old!r} there and {new!r} here" for path, old, new in different
            )
            raise RunError(
                f"{self.path} belongs to another configuration: {shown}. "
                "Give another folder with run=…, or the values that it was begun with"
            )

    def read_config(self) -> dict[str, Any]:
        return files.read_object(self.config_file, ("format", "data", "model", "train"), RunError)

    def write_config(self, config: dict[str, Any]) -> None:
        """Store a config whose operational fields have changed."""
        files.write_json(self.config_file, config, RunError)

    def read_manifest(self) -> dict[str, Any]:
        keys = ("data_fingerprint", "tokenizer_sha256")
        return files.read_object(self.manifest_file, keys, RunError)

    def update_manifest(self, **facts: Any) -> None:
        """Add facts to the manifest, or replace them."""
        files.write_json(self.manifest_file, self.read_manifest() | facts, RunError)

    @property
    def is_finished(self) -> bool:
        return "finished" in self.read_manifest()

    def mark_finished(self, **facts: Any) -> None:
        """Say in the manifest that training came to its end; `facts`: its step, seconds, …."""
        self.update_manifest(finished=facts)

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Add a row; a number that is not finite is stored as null, which JSON has."""
        line = files.dump(files.nulled(row), "metrics", RunError, indent=None)
        with (
            files.explained(RunError, f"write {self.metrics_file}"),
            self.metrics_file.open("ab+") as file,
        ):
            _drop_half_line(file)
            file.write(line)

    def read_metrics(self) -> list[dict[str, Any]]:
        """All rows, but for a last line that was cut in writing."""
        return [row for _, row in self._metrics()]

    def truncate_metrics(self, step: int) -> None:
        """Forget rows after `step`, which a resumed run writes again, and a half last line."""
        kept = [line for line, row in self._metrics() if row.get("step", step) <= step]
        with files.explained(RunError, f"write {self.metrics_file}"):
            files.replace(self.metrics_file, b"".join(line + b"\n" for line in kept))

    def read_scores(self) -> dict[str, Any] | None:
        """The content of scores.json, or None where nothing was evaluated yet."""
        return self._read_versioned(self.scores_file)

    def write_scores(self, scores: dict[str, Any]) -> None:
        files.write_json(self.scores_file, scores, RunError)

    def read_units(self) -> dict[str, Any] | None:
        """The content of units.json, or None where nothing was evaluated yet."""
        return self._read_versioned(self.units_file)

    def write_units(self, units: dict[str, Any]) -> None:
        files.write_json(self.units_file, units, RunError)

    def write_circuit(self, name: str, circuit: dict[str, Any], *, indent: int | None = 1) -> None:
        self.circuits.mkdir(exist_ok=True)
        files.write_json(self.circuits / f"{name}.json", circuit, RunError, indent=indent)

    def read_circuits(self) -> dict[str, Any]:
        """The circuits that were found, by the names of their files; nothing that lies beside them."""
        beside = (".graph", ".contexts")
        found = (f for f in sorted(self.circuits.glob("*.json")) if not f.stem.endswith(beside))
        return {file.stem: self._read_versioned(file) for file in found}

    def read_openings(self) -> list[dict[str, Any]]:
        """When, and for what, the test split was opened to evaluate this run."""
        return (self._read_versioned(self.openings_file) or {"openings": []})["openings"]

    def note_opening(self, **facts: Any) -> None:
        """Remember that the test split is opened: `facts` say when and for what."""
        content = {"format": FORMAT, "openings": [*self.read_openings(), facts]}
        files.write_json(self.openings_file, content, RunError)

    def write_report(self, page: str) -> Path:
        """Replace report.html; returns its path."""
        with files.explained(RunError, f"write {self.report_file}"):
            files.replace(self.report_file, page.encode())
        return self.report_file

    def _read_versioned(self, file: Path) -> dict[str, Any] | None:
        if not file.exists():
            return None
        content = files.read_json(file, RunError)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise RunError(f"{file} is not of format {FORMAT}: evaluate the run again")
        return content

    def _metrics(self) -> Iterator[tuple[bytes, dict[str, Any]]]:
        if not self.metrics_file.exists():
            return
        with files.explained(RunError, f"read {self.metrics_file}"):
            *lines, _cut = self.metrics_file.read_bytes().split(b"\n")
        for number, line in enumerate(lines, start=1):
            row = files.parse(line, f"{self.metrics_file}, line {number},", RunError)
            if not isinstance(row, dict):
                raise RunError(f"{self.metrics_file}, line {number}, is not a JSON object")
            yield line, row

    def _check_free(self) -> None:
        """Refuse a folder of somebody else's, before anything is written into it."""
        with files.explained(RunError, f"look into {self.path}"):
            if not self.path.exists() or self.config_file.exists():
                return
            if not self.path.is_dir():
                raise RunError(f"{self.path} is a file: a run needs a folder")
            ours = {file.name for file in (self.lock_file, self.manifest_file, self.tokenizer_file)}
            ours |= {self.checkpoints.name}
            others = [e.name for e in self.path.iterdir() if not e.name.startswith(".tmp-")]
        if foreign := sorted(set(others) - ours):
            raise RunError(
                f"{self.path} is not a run and not empty (it holds {foreign[0]}): "
                "give a folder that is new or empty"
            )


@dataclass(frozen=True)
class Run:
    """A trained model, in evaluation mode, with its tokenizer and the data it was trained on."""

    folder: RunFolder
    config: "RunConfig"
    step: int
    model: "Transformer"
    tokenizer: "Tokenizer"

    @cached_property
    def data(self) -> "TokenData":
        """The tokens the run was trained on, prepared at first use; RunError if they changed."""
        from pellucid.data import prepare

        data, wanted = prepare(self.config.data), self.folder.read_manifest()["data_fingerprint"]
        if data.fingerprint != wanted:
            raise RunError(
                f"{self.folder.path} was trained on data {wanted}, but {data.folder} is "
                f"{data.fingerprint}: the corpus has changed since"
            )
        return data

    def cache(self, sites: Iterable[str] | str, tokens: Tensor) -> dict[str, "CachedActivations"]:
        """What `sites` do on `tokens (batch token)`, memory-mapped from the run's `cache/` folder.

        Runs the model a few rows at a time, and not at all where the same was asked before. Raises
        UnknownSite for a site that the model does not have; RunError for other tokens, for a full
        disk, and inside `intervene`, whose effects would be kept.
        """
        from pellucid.storage.recorded import cached

        return cached(self.model, sites, tokens, self.folder.cache, step=self.step)


def load(path: Path | str, step: int | None = None, *, device: str = "cpu") -> Run:
    """Open a run at its newest whole checkpoint, or at that of `step`.

    Raises RunError where there is no such run or checkpoint, CheckpointError where it is damaged.
    """
    from pellucid.config import RunConfig
    from pellucid.data import Tokenizer

    folder = RunFolder.open(path)
    config = fields.from_json(RunConfig, folder.read_config())
    tokenizer = Tokenizer.load(folder.tokenizer_file)
    if tokenizer.sha256 != folder.read_manifest()["tokenizer_sha256"]:
        raise RunError(f"{folder.tokenizer_file} is not the tokenizer that this run was begun with")
    place = _checkpoint(folder, step)
    model = _model(config, tokenizer.vocab_size, place).to(device).eval()
    return Run(folder, config, checkpoint.manifest(place)["step"], model, tokenizer)


def _checkpoint(folder: RunFolder, step: int | None) -> Path:
    there = checkpoint.steps(folder.checkpoints)
    if step is not None and step not in there:
        listed = ", ".join(map(str, there)) or "none"
        raise RunError(f"{folder.path} has no checkpoint of step {step}: there are {listed}")
    if step is not None:
        return checkpoint.folder(folder.checkpoints, step)
    if not (newest := checkpoint.latest(folder.checkpoints)):
        raise RunError(f"{folder.path} has no checkpoint yet")
    return newest


def _model(config: "RunConfig", vocab_size: int, place: Path) -> "Transformer":
    from pellucid.models import Transformer
    from pellucid.training.state import load_model

    weights, model = checkpoint.weights(place), Transformer(config.model, vocab_size=vocab_size)
    if any(tensor.dtype == torch.float64 for tensor in weights.values()):
        model = model.double()
    load_model(model, weights, place / checkpoint.MODEL)
    return model


def _drop_half_line(file: BinaryIO) -> None:
    """Cut what a kill or a full disk left of a line, or the next row would be glued to it."""
    end = file.seek(0, os.SEEK_END)
    file.seek(max(end - 1, 0))
    if end and file.read(1) != b"\n":
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
