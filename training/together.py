"""Train runs that differ in seed and rates in one process, as one batched model.

`train.py`'s loop over several sessions: what a step is preceded and followed by is each run's own,
and only the step is taken together. A run whose step was not finite, whose folder refuses it or
whose disk is full ends alone. A run that was saved earlier than the others catches up first.
"""

import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from pellucid.config import RunConfig
from pellucid.data import TokenData, prepare
from pellucid.errors import EXIT_OK, EXIT_USER, UserError
from pellucid.run import RunFolder
from pellucid.train import after, before, checked, introduce, is_over, leave
from pellucid.training import devices, state
from pellucid.training.progress import Log
from pellucid.training.session import Session
from pellucid.training.signals import StopRequest
from pellucid.training.stacked import Stack


@dataclass(frozen=True)
class Member:
    """One of the runs: what it is, where it lies, where its lines are written, and its `matched`."""

    config: RunConfig
    path: Path
    log: Path
    matched: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Ending:
    """A run's exit code, as of `pellucid train`, and the reason where the code does not say it."""

    code: int
    reason: str = ""


def train_together(members: Sequence[Member]) -> list[Ending]:
    """Train runs of one kind (`stackable.kind`) to their end, or resume them; how each ended.

    What concerns one run alone ends that run alone. What goes wrong in the step that all take
    raises, and every run is as it was last saved.
    """
    with StopRequest() as stop, ExitStack() as held:
        group = _Group(members, stop, held)
        group.run()
        return [group.endings[member.path] for member in members]


class _OneOfMany(Session):
    """A session that saves the random state it would have in a process of its own."""

    def __init__(self, *about: Any, **more: Any):
        super().__init__(*about, **more)
        self.random = state.random_states(self.accelerator)

    def save(self) -> None:
        state.restore_random(self.random, self.accelerator)
        super().save()


@dataclass(eq=False)
class _Run:
    member: Member
    session: Session
    log: Log


class _Group:
    """The runs that go on, and how the others ended."""

    def __init__(self, members: Sequence[Member], stop: StopRequest, held: ExitStack):
        self.stop, self.held = stop, held
        self.endings: dict[Path, Ending] = {}
        self.live: list[_Run] = []
        self.stack: Stack | None = None
        config = members[0].config
        accelerator = devices.start(config.train, RunFolder(members[0].path))
        data = prepare(config.data)
        for member in members:
            self._guarded(member, self._open, member, accelerator, data)
        for run in self.live:
            run.session.folder.update_manifest(stacked={"runs": len(self.live)})

    def _open(self, member: Member, accelerator: Accelerator, data: TokenData) -> int | None:
        folder = RunFolder(member.path)
        if is_over(member.config, folder):
            return EXIT_OK
        levers = checked(member.config, folder, data, member.matched)
        self.held.enter_context(folder.lock())
        session = _OneOfMany(member.config, folder, accelerator, data, levers)
        log = Log(member.log, member.config.train.steps, 3 * session.account.flops_executed)
        introduce(session, log)
        self.live.append(_Run(member, session, log))
        return None

    def run(self) -> None:
        """Take steps until every run has ended."""
        while self.live:
            step = min(run.session.step for run in self.live)
            ready = [run for run in self.live if run.session.step == step]
            for run in ready:
                self._each(run, before, self.stop, run.log)
            if self.stop:
                for run in list(self.live):
                    self._each(run, leave, self.stop, run.log)
                return
            if ready := [run for run in ready if run in self.live]:
                self._step(step, ready)

    def _step(self, step: int, ready: list[_Run]) -> None:
        for run in ready:
            if run.session.spoken_step == step:
                run.session.restart_clock()  # the others' validation and saving was no training
        sessions = [run.session for run in ready]
        if self.stack is None or self.stack.sessions != sessions:
            self.stack = Stack(sessions)
        for run, result in zip(ready, self.stack(step), strict=True):
            self._each(run, after, run.log, result)

    def _each(self, run: _Run, do: Callable[..., int | None], *told: Any) -> None:
        self._guarded(run.member, do, run.session, *told)
        if run.member.path in self.endings:
            self.live.remove(run)

    def _guarded(self, member: Member, do: Callable[..., int | None], *told: Any) -> None:
        """Do what is one run's own; where it ends the run, say how."""
        try:
            code = do(*told)
        except UserError as error:
            ending = Ending(EXIT_USER, " ".join(str(error).split()))
        except Exception as error:  # noqa: BLE001 - one run's defect must not end the others
            with member.log.open("a", encoding="utf-8") as log:
                traceback.print_exc(file=log)
            ending = Ending(1, f"{type(error).__name__}: {error}"[:500])
        else:
            if code is None:
                return
            ending = Ending(code)
        self.endings[member.path] = ending
