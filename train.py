"""The training loop, from top to bottom.

`python train.py tiny mlp=topk`, `accelerate launch train.py …` and `pellucid train …` are the same.
"""

import sys
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from pellucid import kernels
from pellucid.config import RunConfig
from pellucid.data import TokenData, prepare
from pellucid.errors import EXIT_NONFINITE, EXIT_OK, EXIT_RESUME, RunError
from pellucid.run import RunFolder
from pellucid.settings import fields
from pellucid.training import devices, nonfinite
from pellucid.training.levers import Levers
from pellucid.training.progress import Meter, Teller
from pellucid.training.revival import revive
from pellucid.training.session import Session
from pellucid.training.signals import StopRequest
from pellucid.training.step import StepResult, after_step, constrain, overflow, remarks
from pellucid.training.validation import validate


def train(config: RunConfig, path: Path, matched: Mapping[str, Any] | None = None) -> int:
    """Train a run to its end, or resume it; returns the exit code.

    0: finished. 75: a signal asked to stop, the same command resumes. 3: a loss or gradient was not
    finite; the batch is on disk. A user's mistake raises UserError before anything is written.
    `matched` goes into the manifest: which run this one is a baseline of (`Match.facts`).
    """
    folder = RunFolder(path)
    if is_over(config, folder):
        print(f"{folder.path} is finished: `pellucid eval {folder.path}` scores it")
        return EXIT_OK
    accelerator = devices.start(config.train, folder)
    data = prepare(config.data, progress=accelerator.is_main_process)
    levers = checked(config, folder, data, matched)
    with StopRequest() as stop, _held(folder, accelerator):
        session = Session(config, folder, accelerator, data, levers)
        with session.meter() as meter:
            code = _run(session, stop, meter)
    del session, meter
    devices.part(accelerator)
    return code


def is_over(config: RunConfig, folder: RunFolder) -> bool:
    """Whether a folder's run is finished; raises RunError where it is another configuration's."""
    if not folder.exists():
        return False
    folder.belongs(config)
    return folder.is_finished


def checked(
    config: RunConfig,
    folder: RunFolder,
    data: TokenData,
    matched: Mapping[str, Any] | None = None,
) -> Levers:
    """What a run takes from elsewhere; UserError, before anything is written, where it cannot be."""
    for split in ("train", "val"):
        # What the text is too short for is said here.
        data.rows(config.seed, 0, batch=1, context=config.model.context, split=split)
    return Levers(config, folder, data, matched)


def _run(session: Session, stop: StopRequest, meter: Meter) -> int:
    introduce(session, meter)
    while True:
        code = before(session, stop, meter)
        if code is None:
            code = after(session, meter, session.stepper(session.step))
        if code is not None:
            return code
        if devices.any_rank(bool(stop), session.accelerator):
            return leave(session, stop, meter)


def before(session: Session, stop: StopRequest, meter: Teller) -> int | None:
    """What is due before a step; the exit code where the run ends there."""
    if not _look(session, stop, meter):
        return leave(session, stop, meter)
    if session.step >= session.config.train.steps:
        return _finish(session, meter)
    return None


def after(session: Session, meter: Teller, result: StepResult) -> int | None:
    """What follows a step; the exit code where it was not finite."""
    if not result.finite:
        return _refuse(session, meter, result)
    after_step(session.model, result.told, session.tokens_per_step)
    revived = revive(session.config, session.model, session.optimizers, session.step)
    session.step += 1
    constrain(session.model, session.step / session.config.train.steps)
    _note(session, meter, result, revived)
    return None


def _look(session: Session, stop: StopRequest, meter: Teller) -> bool:
    """Validate and save where this step is due; False where a stop was asked for meanwhile."""
    config, step = session.config.train, session.step
    due = step == config.steps or step % config.eval_every == 0
    if due and not session.validated():
        row = validate(session.config, session.model, session.data, session.accelerator, stop)
        if row is None:
            return False
        session.write({"kind": "val", "step": step, "tokens": step * session.tokens_per_step} | row)
        meter.say(f"step {step}: held-out {row['bits_per_byte']:.3f} bits per byte")
    saves = step % config.checkpoint_every == 0 or step in session.milestones
    if saves and not session.is_saved():
        session.save()
    if due or saves:
        session.restart_clock()
    return not devices.any_rank(bool(stop), session.accelerator)


def _note(session: Session, meter: Teller, result: StepResult, revived: int) -> None:
    step = session.step
    if revived:
        session.write({"kind": "event", "event": "revive", "step": step, "units": revived})
    if dropped := overflow(result.told):
        session.write({"kind": "event", "event": "overflow", "step": step, "units": dropped})
    if step % session.config.train.log_every == 0 or step == session.config.train.steps:
        row = session.row(result)
        session.write(row)
        meter.show(step, row)


def leave(session: Session, stop: StopRequest, meter: Teller) -> int:
    """Save this moment, to go on from it; the exit code."""
    if not session.is_saved():
        session.save()
    why = stop.name or "another process"
    meter.say(f"{why}: saved at step {session.step}; the same command resumes")
    return EXIT_RESUME


def _refuse(session: Session, meter: Teller, result: StepResult) -> int:
    if not session.is_saved():
        session.save()
    if session.main:
        meter.say(nonfinite.dump(session.folder, session.step, session.stepper, result))
    return EXIT_NONFINITE


def _finish(session: Session, meter: Teller) -> int:
    if session.main:
        session.folder.mark_finished(step=session.step, seconds=session.seconds)
    if session.config.train.trackers:
        session.accelerator.end_training()
    meter.say(f"finished after {session.step} steps: {session.folder.path}")
    return EXIT_OK


def introduce(session: Session, meter: Teller) -> None:
    """Say once which device, precision and kernels run, and what a resume found."""
    config, accelerator, size = session.config.train, session.accelerator, session.account
    meter.say(
        f"{size.total:,} parameters ({size.active:,} active per token), "
        f"{session.data.vocab_size:,} tokens in the vocabulary, data {session.data.fingerprint[:12]}"
    )
    meter.say(
        f"{accelerator.num_processes} x {accelerator.device} in {config.precision}, "
        f"top-k by {kernels.path(accelerator.device)}"
    )
    for line in [*remarks(session.model), *session.said]:
        meter.say(line)
    if session.resumed:
        session.write({"kind": "event", "event": "resume", "step": session.step})


def _held(folder: RunFolder, accelerator: Accelerator):
    return folder.lock() if accelerator.is_main_process else nullcontext()


def replay(path: Path, step: int) -> int:
    """Run one step of a run again from its nearest checkpoint and say what is not finite."""
    folder = RunFolder.open(path)
    config = fields.from_json(RunConfig, folder.read_config())
    if not 0 <= step < config.train.steps:
        raise RunError(f"step {step} is not a step of {path}; 0 … {config.train.steps - 1} are")
    accelerator = devices.start(config.train, folder)
    data = prepare(config.data)
    session = Session(config, folder, accelerator, data, Levers(config, folder, data), until=step)
    while session.step < step:
        result = session.stepper(session.step)
        if not result.finite:
            break
        after_step(session.model, result.told, session.tokens_per_step)
        revive(config, session.model, session.optimizers, session.step)
        session.step += 1
        constrain(session.model, session.step / config.train.steps)
    print(f"step {session.step} of {folder.path}")
    print("\n".join(nonfinite.findings(session.stepper, session.step)))
    return EXIT_OK


def main() -> int:
    """The command line of `pellucid train`."""
    from pellucid.cli import train_command

    return train_command(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
