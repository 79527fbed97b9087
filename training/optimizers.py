"""AdamW and Muon, their parameter groups, and their state as tensors by parameter name."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pellucid.checkpoint import match
from pellucid.config import TrainConfig
from pellucid.models import unwrap
from pellucid.models.filling import Rule
from pellucid.models.sharding import like, set_rows, whole


class Optimizers:
    """One or two optimizers over named parameters that step together."""

    def __init__(self, model: nn.Module, config: TrainConfig):
        self.named = dict(model.named_parameters())
        self.config, self.rules = config, rules(model)
        hidden = _hidden_matrices(self.named) if config.optimizer == "muon" else set()
        hidden -= set(self.rules)
        others = {n: p for n, p in self.named.items() if n not in hidden}
        self.all = [_adamw(others, self.rules, config)]
        if hidden:
            matrices = [self.named[name] for name in sorted(hidden)]
            muon = torch.optim.Muon(matrices, lr=config.muon_lr, weight_decay=config.weight_decay)
            self.all.append(muon)
        self.owner = {
            id(p): o for o in self.all for group in o.param_groups for p in group["params"]
        }
        self.peaks = [[group["lr"] for group in o.param_groups] for o in self.all]

    def step(self, share: float) -> None:
        """Update the weights at a share of the peak learning rate."""
        for optimizer, peaks in zip(self.all, self.peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * share
            optimizer.step()

    def zero_grad(self) -> None:
        for optimizer in self.all:
            optimizer.zero_grad(set_to_none=True)

    def clear_rows(self, name: str, rows: Tensor) -> None:
        """Forget the moments of a parameter's rows, which have been given new values."""
        state = self._state_of(self.named[name])
        for key, value in state.items():
            if key != "step" and isinstance(value, Tensor):
                set_rows(value, rows, torch.zeros((), dtype=value.dtype, device=rows.device))

    def moved_by_steps(self, name: str) -> list[Tensor]:
        """A parameter's values and those of its moments that there are, all of its shape."""
        parameter = self.named[name]
        moments = self._state_of(parameter).values()
        return [parameter.detach(), *(m for m in moments if m.shape == parameter.shape)]

    def state(self) -> dict[str, Tensor]:
        """Every moment as `parameter-name/moment`, whole also where parameters are sharded."""
        begun = any(self._state_of(parameter) for parameter in self.named.values())
        return {
            f"{name}/{key}": whole(value).detach()
            for name, parameter in self.named.items()
            for key, value in (self._state_of(parameter) or self._fresh(parameter, begun)).items()
        }

    def _fresh(self, parameter: nn.Parameter, begun: bool) -> dict[str, Tensor]:
        """What a parameter begins with that had no gradient in the steps so far."""
        keys = self._keys(parameter) if begun else ()
        return {
            key: torch.zeros(()) if key == "step" else torch.zeros_like(parameter) for key in keys
        }

    def load(self, saved: Mapping[str, Tensor], path: str) -> None:
        """Take every moment from a checkpoint; raises CheckpointError where one does not fit."""
        expected = {
            f"{name}/{key}": torch.empty_like(parameter, device="meta")
            if key != "step"
            else torch.empty((), device="meta")
            for name, parameter in self.named.items()
            for key in self._keys(parameter)
        }
        if saved:
            match(expected, saved, path)
        for full_name, value in saved.items():
            name, _, key = full_name.rpartition("/")
            self._state_of(self.named[name])[key] = (
                value.to(self.named[name].device).clone()
                if key == "step"
                else like(value, self.named[name])
            )

    def _state_of(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        return self.owner[id(parameter)].state[parameter]

    def _keys(self, parameter: nn.Parameter) -> tuple[str, ...]:
        muon = isinstance(self.owner[id(parameter)], torch.optim.Muon)
        return ("momentum_buffer",) if muon else ("step", "exp_avg", "exp_avg_sq")


def rules(model: nn.Module) -> dict[str, Rule]:
    """What the fillings declare of single parameters, by the parameter's name in the model."""
    modules = unwrap(model).named_modules()
    declared = (
        (f"{name}.{parameter}", rule)
        for name, module in modules
        if hasattr(module, "rules")
        for parameter, rule in module.rules().items()
    )
    return dict(declared)


def _adamw(
    named: Mapping[str, nn.Parameter], declared: Mapping[str, Rule], config: TrainConfig
) -> torch.optim.AdamW:
    """Matrices decay; gains, biases, thresholds and the like do not, unless their filling says so."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in sorted(named.items(), key=lambda item: (item[1].ndim < 2, item[0])):
        rule = declared.get(name, Rule())
        decay = config.weight_decay if parameter.ndim >= 2 else 0.0
        decay = decay if rule.decay is None else rule.decay
        groups.setdefault((decay, config.lr * rule.lr), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": group, "weight_decay": w, "lr": lr} for (w, lr), group in groups.items()],
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        fused=True,
    )


def _hidden_matrices(named: Mapping[str, nn.Parameter]) -> set[str]:
    return {name for name, p in named.items() if name.startswith("blocks.") and p.ndim == 2}


@torch.no_grad()
def tame(model: nn.Module, config: TrainConfig) -> Tensor:
    """Clip the gradient to a norm, or divide it by its root mean square; returns its norm before.

    Parameters with a limit of their own are clipped to it first.
    """
    _tame_alone(model)
    parameters = [p for p in model.parameters() if p.grad is not None]
    if config.gradient == "clip":
        limit = config.clip if config.clip > 0 else float("inf")
        return whole(nn.utils.clip_grad_norm_(parameters, limit, foreach=True))
    norm = whole(nn.utils.get_total_norm([p.grad for p in parameters], foreach=True))
    size = sum(p.numel() for p in parameters)
    for parameter in parameters:
        parameter.grad.div_(norm / size**0.5 + 1e-5)
    return norm


def _tame_alone(model: nn.Module) -> None:
    named = dict(unwrap(model).named_parameters())
    for name, rule in rules(model).items():
        if rule.clip is not None and named[name].grad is not None:
            nn.utils.clip_grad_norm_([named[name]], rule.clip, foreach=True)
