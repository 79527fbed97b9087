"""Which lines of which parameters belong to the last units of an MLP, the last heads of attention."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from pellucid.errors import ConfigError
from pellucid.models.attention.heads import HeadedAttention
from pellucid.models.filling import Filling

HEAD_AXES = {"w_o": 1} | dict.fromkeys(("w_q", "w_k", "w_v", "b_q", "b_k", "b_v", "sink"), 0)
"""Parameters of attention that hold lines of heads, and the axis of those lines."""
OF_ALL_HEADS = {"q_gain", "k_gain", "b_o"}


@dataclass(frozen=True)
class Lines:
    """The last `n` lines of a parameter along an axis are those of forget units."""

    parameter: nn.Parameter
    axis: int
    n: int

    def forget(self, tensor: Tensor) -> Tensor:
        """The forget units' part of a tensor of the parameter's shape, as a view."""
        return tensor.narrow(self.axis, tensor.shape[self.axis] - self.n, self.n)

    def retain(self, tensor: Tensor) -> Tensor:
        """The other part."""
        return tensor.narrow(self.axis, 0, tensor.shape[self.axis] - self.n)


def unit_lines(place: str, mlp: Filling, n: int) -> dict[str, Lines]:
    """Parameters with a row per unit, by name; what the units write must be one of them.

    Raises ConfigError where rows and units cannot be told apart.
    """
    units, write = mlp.site.n_units, mlp.site.write_directions()
    own, told = dict(mlp.named_parameters(recurse=False)), mlp.rows_of_units
    rows = {name: p for name, p in own.items() if (name in told if told else len(p) == units)}
    if write is None or not any(p.data_ptr() == write.data_ptr() for p in rows.values()):
        raise ConfigError(
            f"gradient_rule = routed: {place} ({type(mlp).__name__}) has no parameter with one row "
            f"per unit that says what the unit writes; gradient_rule.mlp_units=0 or another mlp, "
            f"such as topk, is accepted"
        )
    if units == write.shape[1] and any(p.ndim == 1 for p in rows.values()) and told is None:
        raise ConfigError(
            f"gradient_rule = routed: {place} has as many units as channels, {units}, so that a "
            f"vector may be of either; another width is accepted"
        )
    return {f"{place}.{name}": Lines(p, 0, n) for name, p in rows.items()}


def head_lines(place: str, attention: HeadedAttention, n: int) -> dict[str, Lines]:
    """The channels of the last `n` heads in queries, keys, values and output, by parameter name.

    Raises ConfigError for attention whose parameters are not known to keep heads apart.
    """
    heads, lines = attention.site.n_units, {}
    for name, p in attention.named_parameters():
        if name in OF_ALL_HEADS:
            continue
        axis, width = HEAD_AXES.get(name), heads * attention.d_head
        # Twice as many rows, or a matrix for each head, would be of another order.
        expected = (heads,) if name == "sink" else (width,) * (1 if name.startswith("b_") else 2)
        if axis is None or p.shape != expected:
            raise ConfigError(
                f"gradient_rule = routed: {place}.{name} ({type(attention).__name__}) does not say "
                f"which of it belongs to a head; gradient_rule.heads=0 or attention=softmax is "
                f"accepted"
            )
        lines[f"{place}.{name}"] = Lines(p, axis, n * (p.shape[axis] // heads))
    return lines


def in_several_places(model: nn.Module) -> Iterator[tuple[list[str], nn.Parameter]]:
    """Parameters that several parts of the model use, with all their names."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    for _, parameter in model.named_parameters():
        known = names[id(parameter)]
        # What layers borrow from the model's store is theirs under no name of their own.
        if len(known) > 1 or known[0].startswith("shared."):
            yield known, parameter
