"""One configuration of coders among those that are fitted together, and what it costs."""

from dataclasses import dataclass, field
from typing import Any

from pellucid.models import Transformer, account
from pellucid.posthoc.config import PosthocConfig
from pellucid.posthoc.measure import Fidelity
from pellucid.posthoc.splice import coder_parameters
from pellucid.run import Run

TRAINING_PASSES = 3
"""A step costs about three forward passes of what it trains, and one of what it only reads."""


@dataclass
class Arm:
    """A configuration, its spliced model, and what was noted while it was fitted.

    `chosen_by` is what it was compared by with other rates, on training rows.
    """

    config: PosthocConfig
    model: Transformer
    rows: list[dict[str, Any]] = field(default_factory=list)
    chosen_by: Fidelity | None = None


def compute(run: Run, arm: Arm) -> dict[str, float | None]:
    """Floating-point operations of fitting one arm, those of the run's own training, their ratio.

    A step reads the dense model once and trains the coders; a step of the tuning reads the dense
    model and passes through the spliced one forwards and backwards.
    """
    context, train, config = run.config.model.context, run.config.train, arm.config
    dense, whole = account(run.model).flops_executed, account(arm.model).flops_executed
    coders = sum(block.mlp.cost(context).executed for block in arm.model.blocks)
    per_step, own_tokens = config.batch * context, train.batch * context * run.step
    flops = per_step * config.steps * (dense + TRAINING_PASSES * coders)
    flops += per_step * config.kl_steps * (dense + TRAINING_PASSES * whole)
    own = own_tokens * TRAINING_PASSES * dense
    layers = [coder_parameters(block.mlp) for block in arm.model.blocks]
    return {
        "flops": flops,
        "flops_of_the_run": own,
        "ratio": flops / own if own else None,
        "tokens": per_step * (config.steps + config.kl_steps),
        "tokens_of_the_run": own_tokens,
        "coder_parameters": sum(p.numel() for layer in layers for p in layer.values()),
    }
