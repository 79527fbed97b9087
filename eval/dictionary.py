"""A dictionary that was never trained, reading what a layer reads (frozen encoder, 2602.14111)."""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pellucid.eval.harvest import Harvest
from pellucid.eval.made import Made, like, pieces, strongest
from pellucid.eval.reader import Reader

UNSEEN = "no site of the model shows what this layer reads"


def random_dictionary(reader: Reader, name: str, *, seed: int) -> Made | str:
    """As many units as the site has, each a random direction, and as many active per token.

    The activations are `(x - mean x) D` for unit-norm rows of D; of each token the largest are
    kept, by magnitude where the site's units are signed and positive ones alone where not. Without
    the mean a few units would be active on every token.
    """
    kept, seen = reader.harvest[name], inputs(reader, name)
    if isinstance(seen, str):
        return seen
    signed = reader.sites()[name].signed
    directions = unit_directions(kept.n_units, seen.n_units, seed)
    center = mean(seen)
    made = Harvest(like(kept), sparse=kept.sparse)
    for first, last in pieces(kept):
        x = torch.from_numpy(seen.rows(first, last) - center)
        counts = kept.counts(first, last)
        made.add_rows(strongest(x @ directions.T, counts, signed=signed).numpy())
    return Made(made.close(), read=directions)


def inputs(reader: Reader, name: str) -> Harvest | str:
    """The vectors that the layer of a site reads, or why they are not known."""
    place, read = reader.input_of(name), reader.end_to_end
    return {**read.inputs, **read.harvest}.get(place, UNSEEN) if place else UNSEEN


def mean(seen: Harvest) -> Float[np.ndarray, " channel"]:
    """The mean vector over the stream."""
    total = sum(rows.sum(0, dtype=np.float64) for _, rows in seen.chunks())
    return (total / seen.n_tokens).astype(np.float32)


def unit_directions(n: int, width: int, seed: int) -> Float[Tensor, "unit channel"]:
    """Uniform on the sphere."""
    rng = np.random.default_rng([seed, n, width])
    return F.normalize(torch.from_numpy(rng.standard_normal((n, width)).astype(np.float32)), dim=1)
