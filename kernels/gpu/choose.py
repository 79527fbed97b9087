"""The kernels of the row-wise selection: maxima of groups, and the k largest of what one block holds.

Why k groups suffice, whatever the ties. Let τ be the k-th largest entry of a row, s < k the number
of entries above τ, and r = k - s the number wanted of those equal to τ, the first by index. Take
the k groups of the largest maxima, and among equal maxima those of the lowest index. Entries above
τ lie in groups whose maximum is above τ, of which there are some p <= s, so all p are taken; left
are k - p >= r groups to take. The next are the groups of maximum τ, in order of index. Each holds
at least one entry equal to τ. An entry wanted, equal to τ and in a group of maximum τ, has before
it fewer than r entries equal to τ, so, as groups are runs of columns, fewer than r groups of
maximum τ: its group is among the first r of them, and is taken. So no entry wanted is outside,
nothing overflows, and nothing is approximate.
"""

import triton
import triton.language as tl

from pellucid.kernels.gpu.keys import group_key, order_key, threshold_key


@triton.jit
def group_max_kernel(
    x_ptr,
    keys_ptr,
    width,
    stride,
    groups,
    MAGNITUDE: tl.constexpr,
    GROUP: tl.constexpr,
    BLOCK: tl.constexpr,
    FOLDS: tl.constexpr,
):
    """Keys (rows groups) of the maxima of GROUP columns of x (rows width); BLOCK groups a program.

    Groups beyond the last column get the lowest key, and lose to every group before them.
    """
    row = tl.program_id(0).to(tl.int64)
    group = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    column = group[:, None] * GROUP + tl.arange(0, GROUP)[None, :]
    LOWEST: tl.constexpr = -(1 << (keys_ptr.dtype.element_ty.primitive_bitwidth - 1))
    x_type: tl.constexpr = x_ptr.dtype.element_ty
    if x_type.is_int():
        beyond = LOWEST
    elif MAGNITUDE:
        beyond = 0.0
    else:
        beyond = float("-inf")
    x = tl.load(x_ptr + row * stride + column, mask=column < width, other=beyond)
    keys = tl.where(group * GROUP < width, group_key(x, MAGNITUDE, FOLDS), LOWEST)
    place = keys_ptr + row * groups + group
    tl.store(place, keys.to(keys_ptr.dtype.element_ty), mask=group < groups)


@triton.jit
def select_kernel(
    x_ptr,
    values_ptr,
    indices_ptr,
    width,
    stride,
    k,
    MAGNITUDE: tl.constexpr,
    DROP: tl.constexpr,
    BLOCK: tl.constexpr,
    SLOTS: tl.constexpr,
):
    """The k largest of each row of x (rows width), a program holding all of its row."""
    row = tl.program_id(0).to(tl.int64)
    x_ptr += row * stride
    indices_ptr += row * k
    column = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + column, mask=column < width, other=0)
    LOWEST: tl.constexpr = -(1 << (x.dtype.primitive_bitwidth - 1))
    keys = tl.where(column < width, order_key(x, MAGNITUDE), LOWEST)
    floor = tl.min(tl.where(keys > LOWEST, keys, -(LOWEST + 1)))
    n_kept = _keep(keys, floor, indices_ptr, k, LOWEST, DROP)
    if DROP or values_ptr is not None:
        tl.debug_barrier()
        slot = tl.arange(0, SLOTS)
        column = tl.load(indices_ptr + slot, mask=slot < n_kept, other=-1)
        _finish(x_ptr, values_ptr, indices_ptr, row, column, n_kept, k, slot)


@triton.jit
def pick_kernel(
    x_ptr,
    groups_ptr,
    values_ptr,
    indices_ptr,
    width,
    stride,
    k,
    MAGNITUDE: tl.constexpr,
    DROP: tl.constexpr,
    GROUP: tl.constexpr,
    SLOTS: tl.constexpr,
):
    """The k largest of each row of x (rows width) among the columns of k groups, ascending."""
    row = tl.program_id(0).to(tl.int64)
    x_ptr += row * stride
    indices_ptr += row * k
    groups_ptr += row * k
    slot = tl.arange(0, SLOTS)
    group = tl.load(groups_ptr + slot, mask=slot < k, other=0)
    column = group[:, None] * GROUP + tl.arange(0, GROUP)[None, :]
    inside = (slot < k)[:, None] & (column < width)
    x = tl.load(x_ptr + column, mask=inside, other=0)
    LOWEST: tl.constexpr = -(1 << (x.dtype.primitive_bitwidth - 1))
    keys = tl.where(inside, order_key(x, MAGNITUDE), LOWEST)
    # Each of the k groups has an entry that reaches the smallest of their maxima.
    floor = tl.min(tl.where(slot < k, tl.max(keys, axis=1), -(LOWEST + 1)))
    n_kept = _keep(tl.reshape(keys, [SLOTS * GROUP]), floor, indices_ptr, k, LOWEST, DROP)
    tl.debug_barrier()
    place = tl.load(indices_ptr + slot, mask=slot < n_kept, other=0)
    group = tl.load(groups_ptr + place // GROUP)
    column = group * GROUP + place % GROUP
    tl.debug_barrier()  # all have read the places that are now overwritten
    _finish(x_ptr, values_ptr, indices_ptr, row, column, n_kept, k, slot)


@triton.jit
def _keep(keys, floor, places_ptr, k, LOWEST: tl.constexpr, DROP: tl.constexpr):
    """Store where in a block the k largest are, in order, the first of equals before the others.

    Returns how many are kept: k, or with DROP those of the k whose key is above 0. Only keys live
    through the search, and places cost nothing: columns and values are looked up again afterwards,
    for k slots and not for the whole block.
    """
    threshold = threshold_key(keys, k, floor, LOWEST, DROP)
    above, equal = keys > threshold, keys == threshold
    # Both counts in one integer: a block has fewer than 65536 columns.
    marks = (above.to(tl.int32) << 16) + equal.to(tl.int32)
    total = tl.sum(marks)
    room = k - (total >> 16)
    marks = tl.cumsum(marks, 0)
    equals = marks & 0xFFFF
    kept = above | (equal & (equals <= room))
    slot = (marks >> 16) + tl.minimum(equals, room) - 1
    tl.store(places_ptr + slot, tl.arange(0, keys.shape[0]), mask=kept)
    return tl.minimum(k, (total >> 16) + (total & 0xFFFF))


@triton.jit
def _finish(x_ptr, values_ptr, indices_ptr, row, column, n_kept, k, slot):
    """Store indices and, unless `values_ptr` is None, values; slots not kept hold -1 and 0."""
    kept = slot < n_kept
    tl.store(indices_ptr + slot, tl.where(kept, column, -1), mask=slot < k)
    if values_ptr is not None:
        x = tl.load(x_ptr + column, mask=kept, other=0)
        tl.store(values_ptr + row * k + slot, x, mask=slot < k)
