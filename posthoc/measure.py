"""What a splice keeps of the dense run: cross-entropy, explained variance, and which units live."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from pellucid.errors import NonFiniteError
from pellucid.models import Transformer
from pellucid.models.mlp.threshold import BatchTopKMLP
from pellucid.posthoc.fit import activations
from pellucid.posthoc.splice import at_layers


class Explained:
    """Explained variance, 1 - E‖y - ŷ‖² / (E‖y‖² - ‖E y‖²), summed over batches in float64."""

    def __init__(self) -> None:
        self.missed = self.square = 0.0
        self.total: Tensor | float = 0.0
        self.count = 0

    def add(
        self, y: Float[Tensor, "*batch d_model"], guess: Float[Tensor, "*batch d_model"]
    ) -> None:
        """Count vectors and what stands for them."""
        y, guess = y.double().flatten(0, -2), guess.double().flatten(0, -2)
        self.missed += float((y - guess).square().sum())
        self.square += float(y.square().sum())
        self.total = self.total + y.sum(0)
        self.count += len(y)

    def value(self) -> float | None:
        """None where the vectors do not vary."""
        mean = self.total / self.count
        variance = self.square / self.count - float((mean * mean).sum())
        if variance <= 1e-12 * self.square / self.count:
            return None
        return 1 - self.missed / self.count / variance


@dataclass(frozen=True)
class Fidelity:
    """Nats per token of both models, and by layer what the coders explain and how many are silent.

    `active` is the mean number of units above 0 for a token, `dead` the share of units that spoke
    at none of the `tokens`; `threshold` is above what units of rule=batch_topk speak, and empty for
    other rules.
    """

    ce: float
    ce_spliced: float
    kl: float
    explained_variance: list[float | None]
    active: list[float]
    dead: list[float]
    tokens: int
    threshold: tuple[float, ...] = ()

    def facts(self) -> dict:
        """For the manifest."""
        return asdict(self)


@torch.no_grad()
def measure(dense: Transformer, spliced: Transformer, rows: Iterable[Tensor]) -> Fidelity:
    """Compare the models on `rows (batch, token + 1)`.

    Each layer's coder is given what the dense model's layer read; cross-entropies are those of the
    models as wholes, all coders spliced in at once. Raises NonFiniteError where one is not finite.
    """
    sums = Sums(dense, spliced)
    for batch in rows:
        sums.add(batch)
    return sums.fidelity()


class Sums:
    """What batches add up to, for two models."""

    def __init__(self, dense: Transformer, spliced: Transformer):
        self.dense, self.spliced = dense, spliced
        self.explained = [Explained() for _ in spliced.blocks]
        self.fired = [torch.zeros(b.mlp.site.n_units, dtype=torch.long) for b in spliced.blocks]
        self.nats, self.tokens = torch.zeros(3, dtype=torch.float64), 0

    def add(self, batch: Int[Tensor, "batch token"]) -> None:
        """Count a batch of rows, whose last tokens are only predicted."""
        read, targets = batch[:, :-1], batch[:, 1:]
        found, d_model = activations(self.dense, read), self.dense.config.d_model
        pairs = zip(self.spliced.blocks, found, strict=True)
        written = at_layers([block.mlp(x)[0] for block, (x, _) in pairs], d_model)
        for one, (_, y), guess in zip(self.explained, found, written, strict=True):
            one.add(y, guess)
        wanted, (given, told) = self.dense(read).logits, self.spliced(read)
        for layer, count in enumerate(self.fired):
            count += told[f"blocks.{layer}.mlp.sum/fired"].cpu()
        logs = [F.log_softmax(logits.double(), -1) for logits in (given, wanted)]
        distance = F.kl_div(*logs, reduction="sum", log_target=True)
        nats = torch.stack([_nats(wanted, targets), _nats(given, targets), distance])
        self.nats += nats.cpu()
        self.tokens += targets.numel()

    def fidelity(self) -> Fidelity:
        """The means; NonFiniteError where the spliced model predicts NaN."""
        ce, ce_spliced, kl = (self.nats / self.tokens).tolist()
        if not abs(ce_spliced) < float("inf"):
            raise NonFiniteError("the spliced model predicts NaN: try a lower lr")
        return Fidelity(
            ce=ce,
            ce_spliced=ce_spliced,
            kl=kl,
            explained_variance=[one.value() for one in self.explained],
            active=[float(count.sum()) / self.tokens for count in self.fired],
            dead=[float((count == 0).double().mean()) for count in self.fired],
            tokens=self.tokens,
            threshold=thresholds(self.spliced),
        )


def thresholds(spliced: Transformer) -> tuple[float, ...]:
    """Above what each layer's units speak in evaluation, where their rule has a threshold."""
    mlps = [block.mlp for block in spliced.blocks]
    return tuple(float(mlp.threshold) for mlp in mlps if isinstance(mlp, BatchTopKMLP))


def _nats(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.double().flatten(0, 1), targets.flatten(), reduction="sum")
