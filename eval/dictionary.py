"""A dictionary that was never trained, reading what a layer reads (frozen encoder, 2602.14111)."""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pellucid.eval.harvest import Harvest
from pellucid.eval.made import Made, Source, largest, pieces, strongest
from pellucid.models import Activations


def random_dictionary(source: Source, *, seed: int) -> Made | str:
    """As many units as the site has, each a random direction, and as many active per token.

    The activations are `(x - mean x) D` for unit-norm rows of D; of each token the largest are
    kept, by magnitude where the site's units are signed and positive ones alone where not. Without
    the mean a few units would be active on every token.
    """
    kept, seen, signed = source.kept, source.seen, source.signed
    if isinstance(seen, str):
        return seen
    directions = unit_directions(kept.n_units, seen.n_units, seed)
    center = mean(seen)
    made = source.harvest(sparse=kept.sparse)
    for first, last in pieces(kept):
        rows = torch.from_numpy(seen.rows(first, last) - center) @ directions.T
        counts = kept.counts(first, last)
        if kept.sparse:
            values, units = largest(rows, counts, signed=signed)
            made.add(Activations(values[None], units[None], kept.n_units))
        else:
            made.add_rows(strongest(rows, counts, signed=signed).numpy())
    return Made(made.close(), read=directions.numpy())


def mean(seen: Harvest) -> Float[np.ndarray, " channel"]:
    """The mean vector over the stream."""
    total = sum(rows.sum(0, dtype=np.float64) for _, rows in seen.chunks())
    return (total / seen.n_tokens).astype(np.float32)


def unit_directions(n: int, width: int, seed: int) -> Float[Tensor, "unit channel"]:
    """Uniform on the sphere."""
    rng = np.random.default_rng([seed, n, width])
    return F.normalize(torch.from_numpy(rng.standard_normal((n, width)).astype(np.float32)), dim=1)
