"""The codebook MLP: a dense MLP whose output is replaced by codes."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from pellucid.models.activations import Activations
from pellucid.models.codebook import Codebook, Codes, of_codebook
from pellucid.models.filling import Cost, Filling, Told
from pellucid.models.mlp.dense import DenseMLP
from pellucid.settings.fields import setting


class CodebookMLP(Filling):
    """A dense MLP, of whose output only the mean of the k nearest codes passes on.

    Codebook features at the MLP (arXiv 2310.17230); `Codebook` has the equations. Units are codes,
    and each writes itself into the stream.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(Codes, DenseMLP.Config):
        k: int = setting(32, low=1)
        """Codes in a message."""
        width: int | None = setting(None, low=1)
        """Hidden neurons of the dense MLP; none gives 8 x d_model (16/3 x d_model for swiglu)."""

        def resolved_width(self, d_model: int) -> int:
            width = super().resolved_width(d_model)
            return 2 * width if self.width is None else width

    def __init__(self, config: Config, d_model: int):
        super().__init__()
        self.base = DenseMLP(config, d_model)
        self.codebook = Codebook(config, d_model, kind="mlp")
        self.site = self.codebook.site

    def encode(self, x: Float[Tensor, "batch token d_model"]) -> tuple[Activations, Told]:
        acts, told = self.codebook.encode(self.base(x)[0])
        return acts, of_codebook(told)

    def decode(self, acts: Activations) -> Float[Tensor, "batch token d_model"]:
        return self.codebook.decode(acts)

    def forward(self, x: Float[Tensor, "batch token d_model"]) -> tuple[Tensor, Told]:
        y, told = self.codebook(self.base(x)[0])
        return y, of_codebook(told)

    def split(self, x: Float[Tensor, "batch token d_model"]) -> tuple[Tensor, Told]:
        y, told = self.codebook.split(self.base(x)[0])
        return y, of_codebook(told)

    def cost(self, context: int) -> Cost:
        return self.base.cost(context) + self.codebook.cost(context)
