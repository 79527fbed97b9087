"""Rotated units: the same space of activations in directions that nobody chose.

A layer whose units mean something has a privileged basis, so that a random rotation of it must
score lower; a metric on which the rotation scores as well has not seen the units.
"""

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from pellucid.eval.made import Made, Source, largest, pieces, strongest
from pellucid.models import Activations

BLOCK = 256
"""Units that are rotated among each other: a whole rotation of many units would cost their cube."""


class Rotation:
    """A random orthogonal map of n units: within blocks of up to 256 that are drawn at random.

    Each block has a rotation of its own, uniform among all (QR of a normal matrix, with the signs
    of R's diagonal taken out: math-ph/0609050). Up to 256 units it is one rotation of them all.
    """

    def __init__(self, n_units: int, seed: int) -> None:
        rng = np.random.default_rng([seed, n_units])
        n_blocks = -(-n_units // BLOCK)
        parts = [np.sort(units) for units in np.array_split(rng.permutation(n_units), n_blocks)]
        self.order: Integer[np.ndarray, " unit"] = np.concatenate(parts)
        """the units, block after block"""
        self.place: Integer[np.ndarray, " unit"] = np.argsort(self.order)
        """of each unit in that order"""
        self.matrices: list[Float[Tensor, "unit rotated"]] = [
            _orthogonal(len(units), rng) for units in parts
        ]

    def __call__(self, values: Float[Tensor, "*rows unit"]) -> Float[Tensor, "*rows unit"]:
        """The coordinates of values (of their last axis) in the rotated directions."""
        rotated = torch.empty_like(values)
        rotated[..., self.order] = self.in_order(values[..., self.order])
        return rotated

    def in_order(self, values: Float[Tensor, "*rows unit"]) -> Float[Tensor, "*rows unit"]:
        """The same of units that lie block after block, as the result does."""
        parts = values.split([len(matrix) for matrix in self.matrices], dim=-1)
        turned = [part @ matrix.to(values) for part, matrix in zip(parts, self.matrices)]
        return torch.cat(turned, dim=-1)


def _orthogonal(n: int, rng: np.random.Generator) -> Float[Tensor, "unit rotated"]:
    q, r = np.linalg.qr(rng.standard_normal((n, n)))
    return torch.from_numpy(q * np.sign(np.diag(r)))


def rotated(source: Source, *, seed: int) -> Made:
    """A site's units rotated, as strong and as rare: of each token the largest coordinates.

    As many are kept as units were active; of units without a sign only what is positive. So a
    sparse layer is compared with an equally sparse one. Signed dense units (GELU, the channels of a
    stream) keep all. Each writes the rotated sum of what the layer's units write.
    """
    kept = source.kept
    rotation = Rotation(kept.n_units, seed)
    made = source.harvest(sparse=kept.sparse)
    for first, last in pieces(kept):
        if kept.sparse:
            made.add(_sparse(source, rotation, first, last))
        else:
            rows, counts = torch.from_numpy(kept.rows(first, last)), kept.counts(first, last)
            made.add_rows(strongest(rotation(rows), counts, signed=source.signed).numpy())
    write = None if source.write is None else torch.from_numpy(source.write)
    return Made(made.close(), None if write is None else rotation(write.T).T.numpy())


def _sparse(source: Source, rotation: Rotation, first: int, last: int) -> Activations:
    """What is kept of some tokens. Columns lie in the rotation's order, so that none is moved."""
    kept, order = source.kept, torch.from_numpy(rotation.order)
    rows = torch.from_numpy(kept.rows(first, last, rotation.place))
    counts = kept.counts(first, last)
    values, at = largest(rotation.in_order(rows), counts, signed=source.signed)
    units = torch.where(at < 0, -1, order[at.long().clamp_min(0)])
    return Activations(values[None], units[None].int(), kept.n_units)
