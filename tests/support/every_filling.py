"""Three steps of every filling in float64, alone or as one process of several.

`torchrun --nproc-per-node 2 every_filling.py FILE` writes the weights of all of them to FILE.
"""

import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from support.small import FILLINGS, VOCAB, filled
from torch import Tensor

from pellucid.config import RunConfig, TrainConfig
from pellucid.data import CORPORA, Batch, DataConfig
from pellucid.data.python_labels import LOOP
from pellucid.models import Transformer, unwrap
from pellucid.run import RunFolder
from pellucid.training import devices, routing
from pellucid.training.levers import Levers
from pellucid.training.optimizers import Optimizers
from pellucid.training.step import after_step, constrain

TRAIN = TrainConfig(
    steps=3, batch=8, lr=1e-2, warmup=0.0, precision="fp64", device="cpu", revive_budget=0.0
)
LABELED = DataConfig(corpus=CORPORA["python"].Config(labels="loop"))


class Rows:
    """Random tokens and labels in place of a corpus: a function of the step alone."""

    vocab_size = VOCAB

    def rows(self, seed: int, step: int, *, batch: int, context: int) -> Batch:
        generator = torch.Generator().manual_seed(1000 * seed + step)
        tokens = torch.randint(0, VOCAB, (batch, context + 1), generator=generator)
        bits = torch.randint(0, 2**10, tokens.shape, generator=generator)
        bits[::2] += 2 ** LOOP.index("in_comment")
        return Batch(tokens, torch.zeros_like(tokens), {"labels": bits})


def trained(name: str, accelerator: Accelerator) -> dict[str, Tensor]:
    """The state of a model with one filling, as `filling/name`."""
    config = RunConfig(data=LABELED, model=filled(name), train=TRAIN)
    model = devices.wrap(Transformer(config.model, vocab_size=VOCAB), TRAIN, accelerator)
    levers = Levers(config, RunFolder("nowhere"), Rows())
    optimizers = Optimizers(unwrap(model), TRAIN)
    step = routing.stepper(config, model, optimizers, Rows(), accelerator, levers)
    for number in range(TRAIN.steps):
        told = step(number).told
        after_step(model, told, TRAIN.batch * config.model.context)
        constrain(model, (number + 1) / TRAIN.steps)
    return {f"{name}/{key}": value for key, value in unwrap(model).state_dict().items()}


def all_trained(folder: Path) -> dict[str, Tensor]:
    """The states of all fillings, in this process or in all that were started together."""
    accelerator = devices.start(TRAIN, RunFolder(folder))
    states = [trained(name, accelerator) for name in FILLINGS]
    main = accelerator.is_main_process
    devices.part(accelerator)
    return {key: value.clone() for state in states for key, value in state.items()} if main else {}


if __name__ == "__main__":
    written = Path(sys.argv[1])
    if states := all_trained(written.parent):
        save_file(states, written)
