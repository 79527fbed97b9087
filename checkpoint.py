"""Checkpoints: atomic, durable, verified; safetensors and JSON only, no pickle.

    checkpoints/step-00001000/
        model.safetensors       parameters and buffers by name
        optim.safetensors       optimizer state by `parameter-name/exp_avg`
        rng-00000.safetensors   random state, one file per rank
        state.json              counters and schedules
        manifest.json           sizes and SHA-256 of the others, and of itself; written last

safetensors has no checksum: a flipped bit of a weight loads silently. So the manifest is part of
the format, and nothing is parsed before its hash is right. Old checkpoints are deleted only after
the new one is published and on the disk.
"""

import itertools
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from pellucid.errors import CheckpointError
from pellucid.storage import files, sealed

MODEL, OPTIM, STATE = "model.safetensors", "optim.safetensors", "state.json"
_STEP = re.compile(r"step-(\d{8,18})")
# A larger one is not ours: a header takes about a hundred bytes per tensor.
_MAX_HEADER = 2**26


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What `save` was given, read back; tensors are on the CPU and own their memory."""

    step: int
    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    rng: dict[int, Tensor]
    state: dict[str, Any]
    meta: dict[str, Any]


def save(
    checkpoints: Path,
    step: int,
    *,
    model: Mapping[str, Tensor],
    optimizer: Mapping[str, Tensor],
    rng: Mapping[int, Tensor],
    state: dict[str, Any],
    meta: dict[str, Any],
    keep: int = 2,
    milestones: Collection[int] = (),
) -> Path:
    """Publish `checkpoints/step-…`, then delete all but the newest `keep` and the `milestones`.

    Rank 0 calls it, with full tensors and the random state of every rank. A step that is already
    saved and whole is left as it is. Raises CheckpointError when the disk is full or not writable;
    the checkpoints before it are then intact and nothing half-written remains.
    """
    if keep < 2:
        raise CheckpointError(f"keep={keep}: at least 2, so that a damaged one has one before it")
    checkpoints = Path(checkpoints)
    final = folder(checkpoints, step)
    left = "the checkpoints before it are intact"
    with files.explained(CheckpointError, f"save the checkpoint {final}", after=left):
        checkpoints.mkdir(parents=True, exist_ok=True)
        files.sweep(checkpoints)
        if not (final.exists() and sealed.is_whole(final)):
            contents = _contents(model, optimizer, rng, state)
            sealed.publish(final, contents, {"step": step, "meta": meta})
        _prune(checkpoints, step, keep, milestones)
    return final


def load(path: Path) -> Checkpoint:
    """Read one checkpoint; raises CheckpointError, naming the file, unless all is as written."""
    path = Path(path)
    found = manifest(path)
    entries = found["files"]
    return Checkpoint(
        step=found["step"],
        model=_tensors(path / MODEL, entries[MODEL]),
        optimizer=_tensors(path / OPTIM, entries[OPTIM]),
        rng={i: _rng(path / name, entries[name]) for i, name in enumerate(_rng_names(entries))},
        state=files.parse(sealed.read(path / STATE, entries[STATE]), path / STATE, CheckpointError),
        meta=found["meta"],
    )


def weights(path: Path) -> dict[str, Tensor]:
    """The model's tensors alone, checked as by `load`."""
    path = Path(path)
    return _tensors(path / MODEL, manifest(path)["files"][MODEL])


def verify(path: Path) -> dict[str, Any]:
    """The manifest of a checkpoint all of whose files are as written, else CheckpointError."""
    return _checked(Path(path), sealed.verify(Path(path)))


def manifest(path: Path) -> dict[str, Any]:
    """The manifest alone, itself checked: `step`, `meta`, and the size and hash of each file."""
    return _checked(Path(path), sealed.manifest(Path(path)))


def folder(checkpoints: Path, step: int) -> Path:
    """Where the checkpoint of `step` is."""
    return Path(checkpoints) / f"step-{step:08d}"


def steps(checkpoints: Path) -> list[int]:
    """The steps that have a folder in `checkpoints`, ascending, whole or not."""
    with files.explained(CheckpointError, f"list {checkpoints}"):
        entries = list(Path(checkpoints).iterdir()) if Path(checkpoints).exists() else []
    return sorted(int(found[1]) for entry in entries if (found := _STEP.fullmatch(entry.name)))


def latest(
    checkpoints: Path, *, say: Callable[[str], None] = print, at_most: int | None = None
) -> Path | None:
    """The newest whole checkpoint (`at_most` this step), or None where none was ever published.

    Says which file is bad when it goes back to the one before. Raises CheckpointError when there
    are checkpoints and all are damaged: starting over is for the user to decide.
    """
    bad: CheckpointError | None = None
    there = [step for step in steps(checkpoints) if at_most is None or step <= at_most]
    for step in reversed(there):
        path = folder(checkpoints, step)
        try:
            verify(path)
            return path
        except CheckpointError as problem:
            say(f"{problem}; going back to the checkpoint before it")
            # Without a manifest it was never committed, so nothing that once existed is lost.
            bad = problem if (path / sealed.MANIFEST).exists() else bad
    if bad:
        raise CheckpointError(
            f"no checkpoint in {checkpoints} is whole ({bad}): move that folder away to start over"
        )
    return None


def match(expected: Mapping[str, Tensor], got: Mapping[str, Tensor], path: Path | str) -> None:
    """Raise CheckpointError unless `got`, read from `path`, has the expected names and kinds.

    A kind is a shape and a dtype. The sentence lists what is missing, unexpected and different.
    """
    wrong = [
        f"{name}: {_kind(got[name])} where {_kind(expected[name])} is expected"
        for name in sorted(expected.keys() & got.keys())
        if _kind(expected[name]) != _kind(got[name])
    ]
    found = {
        "lacks": sorted(expected.keys() - got.keys()),
        "has the unexpected": sorted(got.keys() - expected.keys()),
        "has": wrong,
    }
    problems = [f"it {verb} {_some(names)}" for verb, names in found.items() if names]
    if problems:
        raise CheckpointError(f"{path} does not fit the model: " + "; ".join(problems))


def _contents(
    model: Mapping[str, Tensor],
    optimizer: Mapping[str, Tensor],
    rng: Mapping[int, Tensor],
    state: dict[str, Any],
) -> Iterator[tuple[str, bytes]]:
    """The data files one at a time, so that only one of them is in memory twice."""
    if sorted(rng) != list(range(len(rng))):
        raise CheckpointError(f"rng is of the ranks {sorted(rng)}: expected every rank from 0")
    yield STATE, files.dump(state, "state", CheckpointError)
    for rank in sorted(rng):
        yield _rng_name(rank), _encode({"state": rng[rank]})
    yield MODEL, _encode(model)
    yield OPTIM, _encode(optimizer)


def _encode(tensors: Mapping[str, Tensor]) -> bytes:
    """safetensors bytes; tensors that share memory (tied weights, views) are written in full."""
    own: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        storage = tensor.untyped_storage()
        if storage.data_ptr() in seen or storage.nbytes() != tensor.nbytes:
            tensor = tensor.clone()
        seen.add(storage.data_ptr())
        own[name] = tensor
    return safetensors.torch.save(own)


def _prune(checkpoints: Path, step: int, keep: int, milestones: Collection[int]) -> None:
    # Folders of later steps are not counted: training went back before them, so they are damaged.
    past = [s for s in steps(checkpoints) if s <= step]
    for old in past[:-keep]:
        if old not in milestones:
            files.discard(folder(checkpoints, old))


def _checked(path: Path, found: dict[str, Any]) -> dict[str, Any]:
    """The manifest, once it is seen to name the files of a checkpoint, all of them and no other."""
    file, entries = path / sealed.MANIFEST, found["files"]
    if unknown := sorted(entries.keys() - {MODEL, OPTIM, STATE, *_rng_names(entries)}):
        raise CheckpointError(f"{file} names {_some(unknown)}: not a file of a checkpoint")
    if missing := sorted({MODEL, OPTIM, STATE} - entries.keys()):
        raise CheckpointError(f"{file} does not name {_some(missing)}")
    step, named = found.get("step"), _STEP.fullmatch(path.name)
    if type(step) is not int or (named and int(named[1]) != step):
        raise CheckpointError(f"{file} is of step {step}, but its folder is {path.name}")
    if not isinstance(found.get("meta"), dict):
        raise CheckpointError(f"{file} has no meta")
    return found


def _rng_name(rank: int) -> str:
    return f"rng-{rank:05d}.safetensors"


def _rng_names(entries: Mapping[str, Any]) -> list[str]:
    """The names of ranks 0, 1, … up to the first that is not there."""
    return list(itertools.takewhile(entries.__contains__, map(_rng_name, range(len(entries)))))


def _tensors(file: Path, entry: dict[str, Any]) -> dict[str, Tensor]:
    data = sealed.read(file, entry)
    if int.from_bytes(data[:8], "little") > _MAX_HEADER:
        raise CheckpointError(f"{file} has a header of more than {_MAX_HEADER} bytes")
    try:
        return dict(sorted(safetensors.torch.load(data).items()))
    except safetensors.SafetensorError as problem:
        raise CheckpointError(f"{file} is not a safetensors file: {problem}") from problem


def _rng(file: Path, entry: dict[str, Any]) -> Tensor:
    tensors = _tensors(file, entry)
    if tensors.keys() != {"state"}:
        raise CheckpointError(f"{file} holds {_some(sorted(tensors))}: expected `state` alone")
    return tensors["state"]


def _kind(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def _some(names: list[str], limit: int = 4) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
