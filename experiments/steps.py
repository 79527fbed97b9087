"""Steps as the trainer takes them, outside of a run: for a bench, and for a match by time."""

import shutil
import tempfile
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import torch

from pellucid.config import RunConfig
from pellucid.data import TokenData, prepare
from pellucid.errors import ConfigError
from pellucid.run import RunFolder
from pellucid.train import after
from pellucid.training import devices
from pellucid.training.levers import Levers
from pellucid.training.progress import Log
from pellucid.training.session import Session


def opened(config: RunConfig, folder: Path, data: TokenData) -> Session:
    """A run that begins in a folder, as `pellucid train` would begin it."""
    run = RunFolder(folder)
    accelerator = devices.start(config.train, run)
    return Session(config, run, accelerator, data, Levers(config, run, data))


def log_of(session: Session) -> Log:
    """Where the lines of a session go that nobody reads."""
    return Log(session.folder.path / "log", session.config.train.steps, 0.0)


def stepping(session: Session) -> Callable[[], int | None]:
    """A function that takes the next step, and all that follows one; not None: it was refused."""
    log = log_of(session)
    return lambda: after(session, log, session.stepper(session.step))


def now() -> float:
    """Seconds on a clock, once the GPU has done what it was told."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


class TimedSteps:
    """A run's steps with their seconds: its model, precision, optimizer, micro-batches and data.

    Nothing but validation, checkpoints and trackers is left out. `least` is how many steps will be
    asked for, where the run itself is shorter. Raises ConfigError for a step that is not finite.
    """

    def __init__(self, config: RunConfig, least: int):
        steps = max(config.train.steps, least)
        config = config.replace(train=config.train.replace(trackers=(), steps=steps))
        folder = Path(tempfile.mkdtemp())
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self.session = opened(config, folder / "run", prepare(config.data))
        self.take = stepping(self.session)

    def __call__(self) -> float:
        """Seconds of the next step."""
        begun = now()
        if self.take() is not None:
            raise ConfigError(
                f"step {self.session.step} is not finite, so that nothing can be matched by its "
                f"time; a smaller train.lr is accepted"
            )
        return now() - begun
