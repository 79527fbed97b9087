"""Fillings of the `gradient_rule` slot: which parameters learn from which rows of text.

What a rule says of parameters and rows is here; `training/routing.py` carries it out.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from pellucid.data.python_labels import LOOP
from pellucid.errors import ConfigError
from pellucid.models.forget_units import Lines, head_lines, in_several_places, unit_lines
from pellucid.settings import fields
from pellucid.settings.fields import Configurable, setting
from pellucid.settings.kinds import nearest

if TYPE_CHECKING:
    from pellucid.models.config import ModelConfig

Mode = Literal["forget", "retain", "default"]


class NoRule(Configurable):
    """Every parameter learns from every row."""

    needs: ClassVar[tuple[str, ...]] = ()
    """Side channels of the corpus that the rule reads."""

    @dataclass(frozen=True, kw_only=True)
    class Config(fields.Config):
        """Nothing to set."""

        def refuse(self, model: "ModelConfig") -> None:
            """Raise ConfigError for a model that cannot be trained by this rule."""

        def refuse_training(self, train: Any) -> None:
            """Raise ConfigError for a training (`TrainConfig`) that would break the rule."""

    def __init__(self, config: Config):
        self.config = config

    def check(self, model: nn.Module) -> None:
        """Raise ConfigError for a built model whose parameters the rule cannot tell apart."""

    def declared(self, model: nn.Module) -> dict[str, list[int]]:
        """{site: [first, last] forget unit}, for the manifest of a run."""
        return {}


class Routed(NoRule):
    """SGTM: what is to be forgotten is learned by declared units alone (2512.05648, 2410.04332).

    *Forget* rows carry a label; they change nothing but the forget units: the last `mlp_units` of
    each MLP and the last `heads` of each attention. *Retain* rows are a part of the others; they
    pass through a model whose forget units are 0 and do not change them. The rest are *default*
    rows and change everything. `ablate` removes what was learned of the forget rows at the end.
    """

    needs: ClassVar[tuple[str, ...]] = ("labels",)

    @dataclass(frozen=True, kw_only=True)
    class Config(NoRule.Config):
        # A revived unit is a copy of another, which may be of the other part.
        recipe: ClassVar[tuple[str, ...]] = ("train.revive_budget=0",)

        label: str = setting("in_comment")
        """Which label of `data.labels=loop` is to be forgotten."""
        share: float = setting(0.5, above=0.0, high=1.0)
        """Share of a row's tokens that carry the label, from which on it is a forget row."""
        retain: float = setting(0.5, low=0.0, high=1.0)
        """Share of the other rows that are retain rows, chosen by their content."""
        mlp_units: int = setting(64, low=0)
        """Forget units of each MLP: its last ones."""
        heads: int = setting(1, low=0)
        """Forget heads of each attention: its last ones."""
        retained: tuple[str, ...] = setting(())
        """Names, or beginnings of names, of parameters in several places that are to be retained."""

        def check(self) -> None:
            if self.label not in LOOP:
                raise ConfigError(
                    f"label = {self.label!r} is not accepted{nearest(self.label, LOOP)}"
                )
            if not self.mlp_units and not self.heads:
                raise ConfigError("mlp_units and heads are 0; forget units of one kind are needed")

        def refuse(self, model: "ModelConfig") -> None:
            # By its density: a constraint that keeps all weights moves none.
            if model.constraint.build().density_at(1.0) < 1:
                raise ConfigError(
                    "gradient_rule = routed works with constraint=none alone: which weights of a "
                    "matrix are largest would depend on forget rows and retained ones together"
                )

        def refuse_training(self, train: Any) -> None:
            reasons = {
                "optimizer=muon": "turns a matrix as a whole; adamw is accepted",
                "parallel=fsdp2": "cuts parameters over processes; ddp is accepted",
                "revive_budget": "above 0 copies units of one part into the other; 0 is accepted",
            }
            given = (train.optimizer == "muon", train.parallel == "fsdp2", train.revive_budget > 0)
            for (name, reason), found in zip(reasons.items(), given, strict=True):
                if found:
                    raise ConfigError(f"gradient_rule = routed: train.{name} {reason}")

    def check(self, model: nn.Module) -> None:
        self.lines(model)

    def modes(
        self, tokens: Int64[Tensor, "row token"], labels: Int64[Tensor, "row token"]
    ) -> list[Mode]:
        """What each row is; a function of the row alone, whatever stands beside it in a step."""
        bit = LOOP.index(self.config.label)
        carried = ((labels >> bit & 1).bool() & (labels >= 0)).double().mean(dim=1)
        return [self._mode(row, float(c)) for row, c in zip(tokens, carried, strict=True)]

    def _mode(self, tokens: Tensor, carried: float) -> Mode:
        if carried >= self.config.share:
            return "forget"
        content = tokens.cpu().numpy().astype("<i8").tobytes()
        drawn = int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")
        return "retain" if drawn / 2**64 < self.config.retain else "default"

    def lines(self, model: nn.Module) -> dict[str, Lines]:
        """By parameter name, the lines of those parameters that belong to forget units.

        Raises ConfigError for a filling that does not tell them, and for parameters in several
        places that are not declared retained.
        """
        kept = self._retained(model)
        found = {}
        for place, filling, n in self._halves(model):
            lines = unit_lines if place.endswith("mlp") else head_lines
            found |= lines(place, filling, n)
        return {name: lines for name, lines in found.items() if id(lines.parameter) not in kept}

    def _halves(self, model: nn.Module) -> Iterator[tuple[str, nn.Module, int]]:
        for layer, block in enumerate(model.blocks):
            halves = ((block.mlp, "mlp", "mlp_units"), (block.attention, "attention", "heads"))
            for filling, slot, name in halves:
                n, n_units = getattr(self.config, name), filling.site.n_units
                if n >= n_units:
                    raise ConfigError(
                        f"gradient_rule.{name} is {n}; less than the {n_units} units of "
                        f"blocks.{layer}.{slot} is accepted"
                    )
                if n:
                    yield f"blocks.{layer}.{slot}", filling, n

    def _retained(self, model: nn.Module) -> set[int]:
        """Ids of parameters in several places, all of which must be declared."""
        kept = set()
        for names, parameter in in_several_places(model):
            if not any(name.startswith(self.config.retained) for name in names):
                raise ConfigError(
                    f"gradient_rule = routed: {' and '.join(names)} is one parameter of several "
                    f"places; gradient_rule.retained={names[0]} keeps all of it retained"
                )
            kept.add(id(parameter))
        return kept

    def declared(self, model: nn.Module) -> dict[str, list[int]]:
        return {
            place: [filling.site.n_units - n, filling.site.n_units - 1]
            for place, filling, n in self._halves(model)
        }

    @torch.no_grad()
    def ablate(self, model: nn.Module) -> None:
        """Set every parameter of the forget units to 0, in place."""
        for lines in self.lines(model).values():
            lines.forget(lines.parameter).zero_()


GRADIENT_RULES = {"none": NoRule, "routed": Routed}
