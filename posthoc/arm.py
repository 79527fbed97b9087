"""One configuration of coders among those that are fitted together, and what it costs."""

from dataclasses import dataclass, field
from typing import Any

from pellucid.models import Transformer, account
from pellucid.models.mlp.sae import AutoencoderMLP
from pellucid.posthoc.coder import PREFIXES
from pellucid.posthoc.config import PosthocConfig
from pellucid.posthoc.measure import Fidelity
from pellucid.posthoc.splice import coder_parameters
from pellucid.run import Run

TRAINING_PASSES = 3
"""A step costs about three forward passes of what it trains, and one of what it only reads."""

Spent = dict[str, float | None]
"""Operations, tokens and parameters of a fit, beside those of the dense run; ratios may be None."""


@dataclass
class Arm:
    """A configuration, its spliced model, and what was noted while it was fitted.

    `chosen_by` is what it was compared by with other rates, on training rows; `seconds` are those
    that were spent on it alone.
    """

    config: PosthocConfig
    model: Transformer
    rows: list[dict[str, Any]] = field(default_factory=list)
    chosen_by: Fidelity | None = None
    seconds: float = 0.0


def compute(run: Run, arm: Arm, rates: int = 1) -> Spent:
    """Floating-point operations of fitting one arm, those of the run's own training, their ratio.

    A step reads the dense model once and trains the coders; a step of the tuning reads the dense
    model and passes through the spliced one forwards and backwards. `rates` is among how many
    learning rates it was chosen: fitting the others is in `flops_with_all_rates`.
    """
    config, train = arm.config, run.config.train
    dense, whole = account(run.model).flops_executed, account(arm.model).flops_executed
    per_step = config.batch * run.config.model.context
    fit = per_step * config.steps * (dense + TRAINING_PASSES * coder_flops(arm))
    tuned = per_step * config.kl_steps * (dense + TRAINING_PASSES * whole)
    own_tokens = train.batch * run.config.model.context * run.step
    own = own_tokens * TRAINING_PASSES * dense
    layers = [coder_parameters(block.mlp) for block in arm.model.blocks]
    return {
        "flops": fit + tuned,
        "flops_with_all_rates": rates * fit + tuned,
        "flops_of_the_run": own,
        "ratio": (fit + tuned) / own if own else None,
        "ratio_with_all_rates": (rates * fit + tuned) / own if own else None,
        "tokens": per_step * (config.steps + config.kl_steps),
        "tokens_of_the_run": own_tokens,
        "coder_parameters": sum(p.numel() for layer in layers for p in layer.values()),
    }


def coder_flops(arm: Arm) -> float:
    """Operations of all coders forwards for one token; a matryoshka decodes each prefix, too.

    The dense MLP inside an sae is no part of its coder. The auxiliary loss is not counted.
    """
    context, again = arm.model.config.context, 0
    if arm.config.kind == "matryoshka":
        # Of units that are the strongest of a batch, as many as there are pass the decoder.
        width = arm.model.blocks[0].mlp.site.n_units
        units = arm.config.k if arm.config.rule == "topk" else width
        again = (len(PREFIXES) - 1) * 2 * units * arm.model.config.d_model
    mlps = [block.mlp for block in arm.model.blocks]
    inside = [mlp.dense.cost(context).executed for mlp in mlps if isinstance(mlp, AutoencoderMLP)]
    return sum(mlp.cost(context).executed + again for mlp in mlps) - sum(inside)
