"""Rotated units: the same space of activations in directions that nobody chose.

A layer whose units mean something has a privileged basis, so that a random rotation of it must
score lower; a metric on which the rotation scores as well has not seen the units.
"""

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from pellucid.eval.harvest import Harvest
from pellucid.eval.made import Made, like, pieces, strongest
from pellucid.eval.reader import Reader

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
        order = rng.permutation(n_units)
        self.parts: list[tuple[Integer[Tensor, " unit"], Float[Tensor, "unit rotated"]]] = [
            (torch.from_numpy(np.sort(units)), _orthogonal(len(units), rng))
            for units in np.array_split(order, n_blocks)
        ]

    def __call__(self, values: Float[Tensor, "*rows unit"]) -> Float[Tensor, "*rows unit"]:
        """The coordinates of values (of their last axis) in the rotated directions."""
        rotated = torch.empty_like(values)
        for units, matrix in self.parts:
            rotated[..., units] = values[..., units] @ matrix.to(values)
        return rotated


def _orthogonal(n: int, rng: np.random.Generator) -> Float[Tensor, "unit rotated"]:
    q, r = np.linalg.qr(rng.standard_normal((n, n)))
    return torch.from_numpy(q * np.sign(np.diag(r)))


def rotated(reader: Reader, name: str, *, seed: int) -> Made:
    """A site's units rotated, as strong and as rare: of each token the largest coordinates.

    As many are kept as units were active; of units without a sign only what is positive. So a
    sparse layer is compared with an equally sparse one. Signed dense units (GELU, the channels of a
    stream) keep all. Each writes the rotated sum of what the layer's units write.
    """
    kept, site = reader.harvest[name], reader.sites()[name]
    rotation = Rotation(kept.n_units, seed)
    made = Harvest(like(kept), sparse=kept.sparse)
    for first, last in pieces(kept):
        rows = rotation(torch.from_numpy(kept.rows(first, last)))
        counts = kept.counts(first, last)
        made.add_rows(strongest(rows, counts, signed=site.signed).numpy())
    write = site.write_directions()
    return Made(made.close(), None if write is None else rotation(write.cpu().T).T)
