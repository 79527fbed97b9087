"""A worker that serves one grid after another, where its start is not what a test is about."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pellucid.sweep import local, snapshot
from pellucid.sweep.local import _Worker


class Kept(_Worker):
    """A worker process that outlives the runners which it serves."""

    def __init__(self, code: Path):
        super().__init__(code, threads=1, gpu=None)
        self.code = code

    def close(self) -> None:
        """Be there for the next one."""


@pytest.fixture(scope="session")
def kept(tmp_path_factory) -> Iterator[Kept]:
    """A worker process, which takes seconds to import everything. It prints something meanwhile."""
    snapshot.take(code := tmp_path_factory.mktemp("code"))
    with (code / "pellucid" / "__init__.py").open("a") as file:
        file.write('print("welcome")\n')
    worker = Kept(code)
    yield worker
    _Worker.close(worker)


@pytest.fixture
def kept_worker(kept, monkeypatch) -> None:
    """The engine of this machine starts no process in a test: that one runs all cells."""
    monkeypatch.setattr(local, "_Worker", lambda *_: kept)


@pytest.fixture(scope="module")
def kept_worker_of_module(kept) -> Iterator[None]:
    """The same for all tests of a module, and for what they share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "_Worker", lambda *_: kept)
        yield
