"""The bilinear MLP: a layer whose every output is a quadratic form of its input."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pellucid.models.activations import Activations
from pellucid.models.filling import Cost, Filling, Told
from pellucid.models.sharding import whole
from pellucid.models.units import UnitSite
from pellucid.settings import fields
from pellucid.settings.fields import setting


class Eigen(NamedTuple):
    """`Q = Σ_i λ_i e_i e_iᵀ`: `values (rank)` by falling magnitude, `vectors (rank, input)`."""

    values: Float[Tensor, " rank"]
    vectors: Float[Tensor, "rank input"]

    def __call__(self, x: Float[Tensor, "*places input"]) -> Float[Tensor, "*places"]:
        """`Σ_i λ_i (e_i · x)²`."""
        return ((x @ self.vectors.T) ** 2) @ self.values


class Truncation(NamedTuple):
    """A quadratic form cut to some eigenvectors. `kept(x) + error(x)` is the whole form."""

    kept: Eigen
    error: Eigen
    """What was cut off: its value at x is the exact error at x."""
    worst: float
    """Largest error at an input of length 1: the magnitude of the first eigenvalue cut off."""


class BilinearMLP(Filling):
    """`((x W) ⊙ (x V)) P` with W, V, P = `w_in`, `w_up`, `w_out` (arXiv 2410.08417).

    The output along a direction u is exactly `xᵀ Q x` with a matrix Q that the weights give
    (`quadratic_form`); biases are one more input x' = [x, 1]. Units are the hidden products, which
    read two directions each.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(fields.Config):
        width: int | None = setting(None, low=1)
        """Hidden products; none gives 8/3 x d_model: the parameters of a dense MLP."""
        bias: bool = setting(False)
        """Add biases to both factors and to the output."""

        def resolved_width(self, d_model: int) -> int:
            return round(8 * d_model / 3 / 8) * 8 or 8 if self.width is None else self.width

    def __init__(self, config: Config, d_model: int):
        super().__init__()
        self.config = config
        width = config.resolved_width(d_model)
        self.w_in = nn.Parameter(torch.empty(width, d_model))
        self.w_up = nn.Parameter(torch.empty(width, d_model))
        self.w_out = nn.Parameter(torch.empty(width, d_model))
        self.b_in = self.b_up = self.b_out = None
        if config.bias:
            self.b_in = nn.Parameter(torch.zeros(width))
            self.b_up = nn.Parameter(torch.zeros(width))
            self.b_out = nn.Parameter(torch.zeros(d_model))
        self.site = UnitSite(
            "mlp", width, signed=True, exactness="weights-exact", write=lambda: self.w_out
        )

    def encode(self, x: Float[Tensor, "batch token d_model"]) -> tuple[Activations, Told]:
        products = F.linear(x, self.w_in, self.b_in) * F.linear(x, self.w_up, self.b_up)
        return Activations(products, n_units=self.site.n_units), {}

    def decode(self, acts: Activations) -> Float[Tensor, "batch token d_model"]:
        return F.linear(acts.to_dense(), self.w_out.T, self.b_out)

    @torch.no_grad()
    def quadratic_form(self, direction: Float[Tensor, " d_model"]) -> Float[Tensor, "input input"]:
        """The symmetric Q with `direction · output = xᵀ Q x` for every input x.

        `input` is d_model or, with biases, d_model + 1: x' = [x, 1].
        """
        w, v, direction = whole(self.w_in), whole(self.w_up), direction.to(self.w_out)
        if self.config.bias:
            w = torch.cat([w, whole(self.b_in)[:, None]], dim=1)
            v = torch.cat([v, whole(self.b_up)[:, None]], dim=1)
        weight = whole(self.w_out) @ direction
        form = (weight[:, None] * w).T @ v
        if self.config.bias:
            form[-1, -1] += whole(self.b_out) @ direction
        return (form + form.T) / 2

    def eigen(self, direction: Float[Tensor, " d_model"]) -> Eigen:
        """The quadratic form's eigenvectors, the strongest first, computed in float64.

        A vector's sign means nothing: its largest entry by magnitude is made positive.
        """
        values, vectors = torch.linalg.eigh(self.quadratic_form(direction).double())
        order = values.abs().argsort(descending=True, stable=True)
        rows = vectors.T[order]
        largest = rows.gather(1, rows.abs().argmax(1, keepdim=True))
        return Eigen(values[order], rows * largest.sign())

    def truncate(self, direction: Float[Tensor, " d_model"], rank: int) -> Truncation:
        """The `rank` strongest eigenvectors, and exactly what they leave out.

        Raises ValueError unless 0 <= rank <= the size of the input.
        """
        values, vectors = self.eigen(direction)
        if not 0 <= rank <= len(values):
            raise ValueError(f"rank is {rank}; 0 … {len(values)} are accepted")
        kept = Eigen(values[:rank], vectors[:rank])
        error = Eigen(values[rank:], vectors[rank:])
        return Truncation(kept, error, float(error.values.abs().max()) if rank < len(values) else 0)

    def cost(self, context: int) -> Cost:
        matrices = 3 * self.w_in.numel()
        return Cost(sum(p.numel() for p in self.parameters()), 2 * matrices, 2 * matrices)

    def write_scale(self) -> float:
        # The product of two independent unit-normal factors has variance 1.
        return self.site.n_units**0.5
