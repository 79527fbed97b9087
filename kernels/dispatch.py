"""Whether a sparse layer gathers rows or multiplies matrices: one decision per layer, one table.

Gathering k rows of d numbers takes time in proportion to k, a product with all of the width in
proportion to the width; so the ratio width / k decides, whatever d and the number of tokens.
"""

from typing import Literal, get_args

import torch

Products = Literal["auto", "sparse", "dense"]

BREAK_EVEN = {"cuda": 200.0, "cpu": 6.0}
"""The ratio of width to k above which gathering is faster, by type of device.

On a GPU it is the ratio of the matrix units' operations to the memory's bytes in a second, 150 to
230 on a Hopper (`pellucid bench kernels sweep=1` measures it); on a CPU it was timed.
"""


def check_products(op: str, products: str) -> None:
    """ValueError for another word."""
    if products not in get_args(Products):
        accepted = ", ".join(get_args(Products))
        raise ValueError(f"{op}: products must be one of {accepted}, got {products!r}")


def decide(products: str, device: str, width: int, k: int) -> Literal["sparse", "dense"]:
    """What `auto` means for a layer of this width with k active units on this type of device."""
    if products != "auto":
        return products
    return "sparse" if width >= BREAK_EVEN.get(device, 0.0) * k else "dense"


def decision(device: torch.device | str, width: int, k: int, products: str = "auto") -> str:
    """The decision in words, to be said once when a run starts."""
    kind = torch.device(device).type
    found = decide(products, kind, width, k)
    limit = f"break-even {BREAK_EVEN[kind]:g}" if kind in BREAK_EVEN else "no table for the device"
    why = "as asked" if products != "auto" else limit
    return f"{found} products (width/k {width / k:g}, {why})"
