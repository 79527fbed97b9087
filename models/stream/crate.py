"""White-box blocks: compress by subspace attention, then sparsify by one proximal step (CRATE)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from pellucid.errors import ConfigError
from pellucid.models.attention.subspace import SubspaceAttention
from pellucid.models.cache import LayerCache
from pellucid.models.filling import Told
from pellucid.models.mlp.ista import ISTA
from pellucid.models.position import Rotation
from pellucid.models.stream.residual import Block, told_of
from pellucid.settings.fields import setting

if TYPE_CHECKING:
    from pellucid.models.config import ModelConfig

ATTENTION_LR, DICTIONARY_LR = 0.1, 0.3
"""Learning rates of the blocks, in those of the embeddings: nothing passes by a block, so that a
step too far loses the token. The authors train everything at a low rate, 6e-4."""


class Crate(Block):
    """x + MSSA(norm(x)), then the decoded code of its norm *instead of* the stream (2410.16443).

    The stream brings both halves of its blocks itself: `attention` and `mlp` are not consulted.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(Block.Config):
        recipe: ClassVar[tuple[str, ...]] = ("train.lr=7x",)

        n_heads: int = setting(4, low=1)
        """Subspaces; must divide d_model."""
        width: int | None = setting(None, low=1)
        """Atoms of the dictionary; none gives 4 x d_model."""
        step_size: float = setting(0.1, above=0.0)
        """Step of the proximal gradient, eta."""
        sparsity: float = setting(0.1, low=0.0)
        """Weight of the code's absolute values, lambda."""
        bias: bool = setting(False)
        """Add a bias to what the subspaces write."""

        def owned(self, slot: str) -> Any:
            if slot == "attention":
                return SubspaceAttention.Config(
                    n_heads=self.n_heads, bias=self.bias, lr=ATTENTION_LR
                )
            if slot == "mlp":
                return ISTA.Config(
                    width=self.width,
                    step_size=self.step_size,
                    sparsity=self.sparsity,
                    lr=DICTIONARY_LR,
                )
            return None

        def refuse(self, model: "ModelConfig") -> None:
            for key in model.per_layer:
                if key.partition("@")[0] in ("attention", "mlp"):
                    raise ConfigError(
                        f"{key}: stream=crate brings attention and mlp itself; neither is accepted"
                    )
            if model.d_model % self.n_heads:
                raise ConfigError(
                    f"stream.n_heads is {self.n_heads}; a divisor of d_model ({model.d_model}) "
                    f"is accepted"
                )

    def embedding_std(self) -> float:
        # A block hands on its input's sparse code: no layer turns a token into another vector, so
        # that embeddings have to be learned. Short ones are learned sooner.
        return 0.2

    def body(
        self,
        stream: Tensor,
        rotation: Rotation | None,
        cache: LayerCache | None,
        watched: frozenset,
    ) -> tuple[Tensor, Told]:
        attend, mlp = self._halves(watched)
        x = self._at("attn_in", self.attention_norm(stream), watched)
        y, told_a = attend(x, rotation, cache)
        stream = stream + self.dropout(self._at("attn_out", y, watched))
        y, told_m = mlp(self._at("mlp_in", self.mlp_norm(stream), watched))
        stream = self._at("mlp_out", y, watched)
        return self._look(stream, watched), told_of(told_a, told_m)
