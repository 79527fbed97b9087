"""Learning-rate schedules as pure functions of the step."""

from math import cos, pi

from pellucid.config import TrainConfig


def rate(config: TrainConfig, step: int, density: float = 1.0) -> float:
    """Share of the peak learning rate at a step: linear warm-up, then the named decay.

    cosine: to `final_lr`. wsd: flat, then linear to `final_lr` over the last `decay` of the steps
    (arXiv 2404.06395). sharkfin: linear to `final_lr`, divided by the square root of the share of
    weights that a constraint leaves, so that the rate rises as they thin out (arXiv 2511.13653).
    """
    warmup = max(1, round(config.warmup * config.steps))
    if step < warmup:
        return (step + 1) / warmup / (density**0.5 if config.schedule == "sharkfin" else 1.0)
    done = (step - warmup) / max(1, config.steps - warmup)
    return _decayed(config, done) / (density**0.5 if config.schedule == "sharkfin" else 1.0)


def _decayed(config: TrainConfig, done: float) -> float:
    if config.schedule == "cosine":
        left = (1 + cos(pi * done)) / 2
    elif config.schedule == "wsd":
        left = min(1.0, (1 - done) / config.decay) if config.decay else 1.0
    else:
        left = 1 - done
    return config.final_lr + (1 - config.final_lr) * left


def milestones(steps: int) -> set[int]:
    """Log-spaced steps whose checkpoints are never deleted: 0, 1, 4, 16, … and the last."""
    spaced, step = {0, steps}, 1
    while step < steps:
        spaced.add(step)
        step *= 4
    return spaced
