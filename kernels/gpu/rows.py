"""Exact row-wise top-k: one read of the row for the maxima of groups, then k groups of it again.

A row that fits a program is selected from at once. A longer one is cut into groups of about
√(width / k) columns; the k groups with the largest maxima hold the k largest columns (proof in
`choose.py`), and those groups are found by the same rule from the maxima. (Group-wise pruning:
arXiv 2506.04165, there approximate.)
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from pellucid.kernels.gpu.choose import group_max_kernel, pick_kernel, select_kernel
from pellucid.kernels.gpu.shipped import Shipped
from pellucid.kernels.modes import candidate_count, group_count

LIMIT = 8192
"""Columns that one program holds in registers: 32 a lane of 8 warps, without spills."""

DIRECT = 1024
"""Rows of at most so many columns, or 8 k, are cheaper to search whole than to prune."""

TILE_BYTES = 16384
"""Bytes of a row that one program takes maxima of: four loads of 16 bytes by each of 256 lanes."""

LOAD_BYTES = 16
"""The widest load of a thread."""

ALIGNED = 16
"""Maxima are padded to a multiple of so many, for loads of 16 bytes."""


def topk_rows(
    x: Tensor,
    k: int,
    signed: bool,
    drop: bool = False,
    out: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """The k largest of each row of x (rows width), by magnitude if `signed`, lowest index first.

    Returns values (rows k) in the dtype of x and int32 indices (rows k), ascending. With `drop`
    entries that are not positive are inactive, or, if `signed`, those equal to 0: value 0, index
    -1, last in the row. NaN ranks above every number and stays. `out` is two contiguous tensors to
    be filled. ValueError where `serves` says no.
    """
    if not serves(x.shape[1], k):
        raise ValueError(
            f"topk_rows: k must be at most {LIMIT // 2} for rows of more than {LIMIT} columns, "
            f"got k {k} and {x.shape[1]} columns"
        )
    if out is None:
        out = x.new_empty(len(x), k), x.new_empty(len(x), k, dtype=torch.int32)
    if len(x):
        _select(x if x.stride(1) == 1 else x.contiguous(), k, signed, drop, *out)
    return out


def topk_keys(keys: Tensor, k: int) -> Tensor:
    """Indices (rows k), int32 and ascending, of the k largest of each row of integers (rows width).

    Keys are int16 or int32. The lowest index wins among equals. ValueError where `serves` says no.
    """
    return topk_rows(keys, k, False)[1]


def serves(width: int, k: int) -> bool:
    """Whether rows of so many columns can be selected from; always where k is at most LIMIT / 2."""
    return width <= LIMIT or 2 * triton.next_power_of_2(k) <= LIMIT


def group_size(width: int, k: int, itemsize: int) -> int:
    """Columns of a group, a power of two; 0 where the row is searched whole.

    Searched are width / group and k * group columns: least if both are √(width * k). A group has
    at least the 16 bytes of one load, unless k leaves no room for that.
    """
    if width <= min(max(DIRECT, 8 * k), LIMIT):
        return 0
    balanced = 1 << (((width // k).bit_length() - 1) // 2)
    return min(max(balanced, LOAD_BYTES // itemsize), LIMIT // triton.next_power_of_2(k))


class Launch(NamedTuple):
    """What the compiler is told about one kernel of a selection."""

    constants: dict[str, int]
    warps: int

    def keywords(self) -> dict[str, int]:
        """As the launch itself wants it."""
        return self.constants | {"num_warps": self.warps}


def group_max_launch(width: int, group: int, itemsize: int) -> Launch:
    """Programs of one tile each; a thread loads 16 bytes, or a group if that is less."""
    tile = min(TILE_BYTES // itemsize, max(triton.next_power_of_2(width), group))
    folds = min(group, LOAD_BYTES // itemsize).bit_length() - 1
    constants = {"GROUP": group, "BLOCK": tile // group, "FOLDS": folds}
    return Launch(constants, max(tile * itemsize // (64 * 32), 1))


def select_launch(width: int, k: int) -> Launch:
    """The whole row in one program."""
    block = triton.next_power_of_2(width)
    return Launch({"BLOCK": block, "SLOTS": triton.next_power_of_2(k)}, _warps(block))


def pick_launch(group: int, k: int) -> Launch:
    """k groups in one program."""
    slots = triton.next_power_of_2(k)
    return Launch({"GROUP": group, "SLOTS": slots}, _warps(slots * group))


def _warps(columns: int) -> int:
    """32 columns a lane, or 16 where a program holds the most, which else would need the stack."""
    return 16 if columns == LIMIT else max(columns // 1024, 1)


def _n_maxima(width: int, group: int) -> int:
    return triton.cdiv(width, group * ALIGNED) * ALIGNED


def _select(
    x: Tensor, k: int, signed: bool, drop: bool, values: Tensor | None, indices: Tensor
) -> None:
    """Fill values and indices; x has rows, and columns next to each other."""
    rows, width = x.shape
    group = group_size(width, k, x.element_size())
    rest = values, indices, width, x.stride(0), k, signed, drop
    if not group:
        select_kernel[(rows,)](x, *rest, **select_launch(width, k).keywords())
        return
    chosen = torch.empty_like(indices)
    _select(_group_maxima(x, group, signed), k, False, False, None, chosen)
    pick_kernel[(rows,)](x, chosen, *rest, **pick_launch(group, k).keywords())


def _group_maxima(x: Tensor, group: int, signed: bool) -> Tensor:
    """Keys (rows groups) of the maxima, int16 or int32 as the entries of x have bits."""
    rows, width = x.shape
    groups = _n_maxima(width, group)
    dtype = torch.int16 if x.element_size() == 2 else torch.int32
    keys = x.new_empty(rows, groups, dtype=dtype)
    launch = group_max_launch(width, group, x.element_size())
    grid = rows, triton.cdiv(groups, launch.constants["BLOCK"])
    group_max_kernel[grid](x, keys, width, x.stride(0), groups, signed, **launch.keywords())
    return keys


REGISTERS = 168
"""Of a thread at most, so that the device holds three programs of 4 warps or more at a time."""


def _shipped_level(
    x_type: str, width: int, k: int, signed: bool, drop: bool, values: str | None
) -> Iterator[Shipped]:
    """The kernels of `_select`, and of the selections of maxima below it."""
    key, itemsize = ("i32", 4) if x_type in ("*fp32", "*i32") else ("i16", 2)
    group = group_size(width, k, itemsize)
    sizes = {"width": width, "stride": width, "k": k}
    integers = {"width": "i32", "stride": "i32"}
    rest = {"values_ptr": values, "indices_ptr": "*i32"} | integers
    rest |= {"k": "i32", "MAGNITUDE": signed, "DROP": drop}
    if not group:
        yield _entry(select_kernel, {"x_ptr": x_type} | rest, select_launch(width, k), sizes)
        return
    groups = _n_maxima(width, group)
    signature = {"x_ptr": x_type, "keys_ptr": f"*{key}"} | integers
    signature |= {"groups": "i32", "MAGNITUDE": signed}
    launch = group_max_launch(width, group, itemsize)
    yield _entry(group_max_kernel, signature, launch, sizes | {"groups": groups})
    yield from _shipped_level(f"*{key}", groups, k, False, False, None)
    signature = {"x_ptr": x_type, "groups_ptr": "*i32"} | rest
    yield _entry(pick_kernel, signature, pick_launch(group, k), sizes)


def _entry(
    kernel: Any, signature: dict[str, Any], launch: Launch, sizes: dict[str, int]
) -> Shipped:
    flags = [flag.lower() for flag in ("MAGNITUDE", "DROP") if signature.get(flag)]
    numbers = [f"{name}={value}" for name, value in launch.constants.items()]
    return Shipped(
        name=" ".join((kernel.__name__, signature["x_ptr"][1:], *flags, *numbers)),
        kernel=kernel,
        signature=signature | launch.constants,
        warps=launch.warps,
        aligned=tuple(name for name, size in sizes.items() if size % 16 == 0),
        registers=REGISTERS,
        gathers=_loads_widely(signature["x_ptr"], sizes),
    )


def _loads_widely(x_type: str, sizes: dict[str, int]) -> bool:
    """Whether rows begin at whole words, and are long enough for one from each lane of a warp."""
    itemsize = 4 if x_type in ("*fp32", "*i32") else 2
    long = triton.next_power_of_2(sizes["width"]) * itemsize >= 32 * LOAD_BYTES
    return long and sizes["stride"] % ALIGNED == 0


LAYERS = ((8192, 32), (16384, 64), (32768, 32), (65536, 64), (131072, 32), (131072, 128))
"""width and k of the layers that the benchmark times."""


def _selections() -> Iterator[tuple[str, int, int, bool, bool]]:
    """x, width, k, signed and drop of what ships: all that those layers select, and a few more."""
    for width, k in LAYERS:
        candidates = candidate_count(width, k)
        yield from (("*bf16", width, k, signed, True) for signed in (False, True))
        yield "*bf16", group_count(width, k), k, False, True
        yield from (("*bf16", width, n, False, False) for n in (k, candidates))
        yield "*fp32", candidates, k, False, True
    yield "*bf16", 131072, 256, False, True
    yield "*bf16", 1 << 20, 512, False, False
    yield "*fp32", 65536, 64, False, False
    yield "*i32", 131072, 32, False, False


def _list_shipped() -> list[Shipped]:
    """By name, so that what several selections share is listed once."""
    made = {}
    for x_type, *rest in _selections():
        values = None if x_type == "*i32" else x_type
        for entry in _shipped_level(x_type, *rest, values):
            made.setdefault(entry.name, entry)
    return list(made.values())


SHIPPED = _list_shipped()
