"""Keys and values of the positions already generated."""

import torch
from torch import Tensor


class LayerCache:
    """One layer's keys and values `(batch, head, position, d_head)`, grown by each pass."""

    def __init__(self) -> None:
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        if self.keys is not None:
            keys = torch.cat([self.keys, keys], dim=2)
            values = torch.cat([self.values, values], dim=2)
        self.keys, self.values = keys, values
        return keys, values


class Cache:
    """The whole model's cache, and how many positions it holds."""

    def __init__(self, n_layers: int):
        self.layers = [LayerCache() for _ in range(n_layers)]
        self.head = LayerCache()
        self.length = 0
