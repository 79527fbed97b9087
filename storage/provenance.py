"""What made a run: source, versions and machine, without paths, names or secrets of the machine."""

import hashlib
import os
import platform
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import pellucid

PACKAGES = (
    "torch",
    "triton",
    "einops",
    "datasets",
    "accelerate",
    "numpy",
    "safetensors",
    "tokenizers",
)
_ROOT = Path(pellucid.__file__).resolve().parent


def provenance(*, world_size: int, data_fingerprint: str, **more: Any) -> dict[str, Any]:
    """The manifest of a run that starts now; `more` are facts that the caller adds."""
    return {
        "format": 1,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "pellucid": pellucid.__version__,
        "git": git_state(_ROOT),
        "source_sha256": source_hash(_ROOT),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "world_size": world_size,
        "data_fingerprint": data_fingerprint,
        **more,
    }


def source_hash(root: Path) -> str:
    """SHA-256 over the names and bytes of a package's Python files, the same in any place."""
    digest = hashlib.sha256()
    for file in sources(root):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        digest.update(f"{file.relative_to(root).as_posix()} {content}\n".encode())
    return digest.hexdigest()


def git_state(root: Path) -> dict[str, Any] | None:
    """Commit, and whether files differ from it; None unless `root` is the top of a checkout.

    A package installed below somebody else's repository is not described by that repository.
    """
    top = _git(root, "rev-parse", "--show-toplevel")
    sha = _git(root, "rev-parse", "HEAD")
    if not top or not sha or Path(top).resolve() != root:
        return None
    return {"sha": sha, "dirty": bool(_git(root, "status", "--porcelain", "--untracked-files=no"))}


def sources(folder: Path) -> Iterator[Path]:
    """Python files of a package and the packages in it: folders with an `__init__.py`."""
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and (entry / "__init__.py").is_file():
            yield from sources(entry)
        elif entry.suffix == ".py" and entry.is_file():
            yield entry


def _git(root: Path, *words: str) -> str | None:
    environment = os.environ | {"GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *words],
            capture_output=True,
            text=True,
            timeout=20,
            env=environment,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
