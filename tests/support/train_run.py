"""Run a training in a process of its own, and interrupt it where a test wants.

`python train_run.py FOLDER POINT STEP word…` sends itself SIGTERM at the named point of a step:
`step` (within the gradient), `validate` (within evaluation), `save` (within a checkpoint), or
`kill-save` (SIGKILL between two files of a checkpoint); POINT `-` interrupts nothing. At `part`,
where the processes part, it says how many models wrapped by DDP are still alive.

A run that hangs prints what each of its threads does, and ends.
"""

import faulthandler
import gc
import os
import signal
import sys
from pathlib import Path

import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import pellucid.checkpoint
import pellucid.training.validation as validation
from pellucid.cli import train_command
from pellucid.training.session import Session
from pellucid.training.step import Stepper


def interrupt_at(point: str, step: int) -> None:
    """Patch one function so that the signal comes from inside it."""
    if point == "step":
        plain = Stepper.gradient

        def gradient(self, number):
            if number == step:
                os.kill(os.getpid(), signal.SIGTERM)
            return plain(self, number)

        Stepper.gradient = gradient
    elif point == "validate":
        inner = validation._summed
        calls = iter(range(10**6))

        def summed(model, tokens):
            if next(calls) == step:
                os.kill(os.getpid(), signal.SIGTERM)
            return inner(model, tokens)

        validation._summed = summed
    elif point == "part":
        _count_wrapped_at_parting()
    elif point in ("save", "kill-save"):
        _interrupt_save(signal.SIGTERM if point == "save" else signal.SIGKILL, step)


def _count_wrapped_at_parting() -> None:
    destroy = dist.destroy_process_group

    def destroyed(*args):
        wrapped = sum(type(thing) is DistributedDataParallel for thing in gc.get_objects())
        print(f"wrapped models at the parting: {wrapped}", flush=True)
        destroy(*args)

    dist.destroy_process_group = destroyed


def _interrupt_save(number: int, step: int) -> None:
    plain = pellucid.checkpoint._contents

    def contents(*args):
        files = plain(*args)
        yield next(files)
        if current["step"] == step:
            os.kill(os.getpid(), number)
        yield from files

    current = {"step": -1}
    save = Session.save

    def saved(self):
        current["step"] = self.step
        save(self)

    Session.save = saved
    pellucid.checkpoint._contents = contents


if __name__ == "__main__":
    faulthandler.dump_traceback_later(240, exit=True)
    folder, point, step, *words = sys.argv[1:]
    interrupt_at(point, int(step))
    sys.exit(train_command([*words, f"run={Path(folder)}"]))
