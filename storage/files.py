"""Files that survive a crash: durable writes, atomic replacement, JSON that reads back equal."""

import errno
import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pellucid.errors import UserError

_ADVICE = {
    errno.ENOSPC: "free some space and run the same command again",
    errno.EDQUOT: "free some of the quota and run the same command again",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f) and run the same command again",
    errno.EACCES: "give a path that this user may use",
    errno.EPERM: "give a path that this user may use",
    errno.EROFS: "give a path on a file system that is not read-only",
    errno.ENOENT: "give a path that exists",
}


@contextmanager
def explained(error: type[UserError], action: str, *, after: str = "") -> Iterator[None]:
    """Turn an OSError into one sentence of `error`: what could not be done, why, and what to do.

    `after` says in what state things were left ("nothing else was changed").
    """
    try:
        yield
    except OSError as problem:
        why = (problem.strerror or str(problem)).lower()
        hints = [after, _ADVICE.get(problem.errno, "")]
        raise error("; ".join([f"cannot {action}: {why}", *filter(None, hints)])) from problem


def write(path: Path, data: bytes) -> None:
    """Write a new file and push it to the disk; the name is durable after `sync` of its folder."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync(folder: Path) -> None:
    """Push a folder's list of names to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as problem:
        # Some network and FUSE mounts have no such call for folders; no more can be done.
        if problem.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def replace(path: Path, data: bytes) -> None:
    """Put `data` in the place of `path` all at once: readers see the old bytes or the new."""
    temp = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    temp.unlink(missing_ok=True)
    try:
        write(temp, data)
        temp.replace(path)
    except BaseException:
        temp.unlink(missing_ok=True)
        raise
    sync(path.parent)


def discard(folder: Path) -> None:
    """Delete a folder under a hidden name, so that no half-deleted folder keeps the public one.

    What cannot be deleted now (a file still open on a network mount) stays hidden until a sweep.
    """
    hidden = folder.with_name(f".old-{os.getpid()}-{folder.name}")
    folder.replace(hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Delete what an interrupted `discard` or an interrupted save left in `folder`."""
    for pattern in (".tmp-*", ".old-*"):
        for left in folder.glob(pattern):
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


def dump(value: Any, name: str, error: type[UserError], *, indent: int | None = 1) -> bytes:
    """JSON bytes, one form for one value; raises `error` where the value would not read back equal.

    Refused: NaN and infinities, keys that are not text, and objects JSON does not know. `name` is
    what the sentence calls the value. A tuple is written as a list. `indent=None` gives one line.
    """
    _check_plain(value, name, error)
    text = json.dumps(value, indent=indent, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode("utf-8", "surrogatepass")


def parse(data: bytes, name: str | Path, error: type[UserError]) -> Any:
    """The value of JSON bytes; raises `error`, naming `name`, unless they are strict JSON."""
    try:
        return json.loads(
            data.decode("utf-8", "surrogatepass"),
            parse_constant=_refuse_constant,
            parse_float=_finite,
            object_pairs_hook=_unique,
        )
    except (ValueError, RecursionError) as problem:
        raise error(f"{name} is not valid JSON: {problem}") from problem


def read_json(path: Path, error: type[UserError]) -> Any:
    """The value of a JSON file; raises `error` where it cannot be read or is not strict JSON."""
    with explained(error, f"read {path}"):
        data = path.read_bytes()
    return parse(data, path, error)


def read_object(path: Path, keys: Sequence[str], error: type[UserError]) -> dict[str, Any]:
    """The object in a JSON file; raises `error` where there is none or it lacks one of the keys."""
    value = read_json(path, error)
    expected = f"expected a JSON object with {', '.join(keys)}"
    if not isinstance(value, dict):
        raise error(f"{path} holds a {type(value).__name__}; {expected}")
    if lacking := [key for key in keys if key not in value]:
        raise error(f"{path} lacks {', '.join(lacking)}; {expected}")
    return value


def write_json(path: Path, value: Any, error: type[UserError], *, indent: int | None = 1) -> None:
    """Replace a JSON file atomically; raises `error`, and changes nothing, where it cannot be."""
    data = dump(value, path.name, error, indent=indent)
    with explained(error, f"write {path}", after="what was there is unchanged"):
        replace(path, data)


def _check_plain(value: Any, where: str, error: type[UserError]) -> None:
    match value:
        case None | str() | bool() | int():
            return
        case float():
            if not math.isfinite(value):
                raise error(f"{where} is {value}: JSON holds finite numbers only, or null")
        case list() | tuple():
            for i, item in enumerate(value):
                _check_plain(item, f"{where}[{i}]", error)
        case dict():
            for key, item in value.items():
                if not isinstance(key, str):
                    raise error(f"{where} has the key {key!r}: keys must be text")
                _check_plain(item, f"{where}.{key}", error)
        case _:
            raise error(f"{where} is a {type(value).__name__}: not a value that JSON can hold")


def _refuse_constant(word: str) -> float:
    raise ValueError(f"{word} is not a JSON number")


def _finite(word: str) -> float:
    number = float(word)
    if not math.isfinite(number):
        raise ValueError(f"{word} is out of range")
    return number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key occurs twice")
    return value


def nulled(value: Any) -> Any:
    """The same with null for every number that is not finite, which JSON lacks."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {key: nulled(item) for key, item in value.items()}
        case list() | tuple():
            return [nulled(item) for item in value]
        case _:
            return value
