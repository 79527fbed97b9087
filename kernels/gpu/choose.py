"""The kernels of the row-wise selection: maxima of groups, and the k largest of what one block holds.

Why k groups suffice, whatever the ties. Let τ be the k-th largest entry of a row, s < k the number
of entries above τ, and r = k - s the number wanted of those equal to τ, the first by index. Take
the k groups of the largest maxima, and among equal maxima those of the lowest index. Entries above
τ lie in groups whose maximum is above τ, of which there are some p <= s, so all p are taken; left
are k - p >= r groups to take. The next are the groups of maximum τ, in order of index. Each holds
at least one entry equal to τ. An entry wanted, equal to τ and in a group of maximum τ, has before
it fewer than r entries equal to τ, so fewer than r groups of maximum τ: its group is among the
first r, and is taken. So no entry wanted is outside, nothing overflows, and nothing is approximate.
"""

import triton
import triton.language as tl

from pellucid.kernels.gpu.keys import group_key, kth_key, lowest_key, order_key


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

    Groups beyond the last column get the lowest key, which loses to every other.
    """
    row = tl.program_id(0).to(tl.int64)
    group = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    column = group[:, None] * GROUP + tl.arange(0, GROUP)[None, :]
    BITS: tl.constexpr = keys_ptr.dtype.element_ty.primitive_bitwidth
    x_type: tl.constexpr = x_ptr.dtype.element_ty
    if x_type.is_int():
        beyond = lowest_key(BITS)
    elif MAGNITUDE:
        beyond = 0.0
    else:
        beyond = float("-inf")
    x = tl.load(x_ptr + row * stride + column, mask=column < width, other=beyond)
    keys = tl.where(group * GROUP < width, group_key(x, MAGNITUDE, FOLDS), lowest_key(BITS))
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
    column = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * stride + column, mask=column < width, other=0)
    _keep(x, column, column < width, values_ptr, indices_ptr, row, k, MAGNITUDE, DROP, SLOTS)


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
    slot = tl.arange(0, SLOTS)
    group = tl.load(groups_ptr + row * k + slot, mask=slot < k, other=0)
    column = group[:, None] * GROUP + tl.arange(0, GROUP)[None, :]
    inside = (slot < k)[:, None] & (column < width)
    x = tl.load(x_ptr + row * stride + column, mask=inside, other=0)
    x, column = tl.reshape(x, [SLOTS * GROUP]), tl.reshape(column, [SLOTS * GROUP])
    inside = tl.reshape(inside, [SLOTS * GROUP])
    _keep(x, column, inside, values_ptr, indices_ptr, row, k, MAGNITUDE, DROP, SLOTS)


@triton.jit
def _keep(
    x,
    column,
    inside,
    values_ptr,
    indices_ptr,
    row,
    k,
    MAGNITUDE: tl.constexpr,
    DROP: tl.constexpr,
    SLOTS: tl.constexpr,
):
    """Store the k largest of a block in its order, the first of equals before the others.

    `values_ptr` may be None. With DROP, what has a key of 0 or below is inactive: fewer than k are
    kept, and the slots left hold value 0 and index -1.
    """
    BITS: tl.constexpr = x.dtype.primitive_bitwidth
    keys = tl.where(inside, order_key(x, MAGNITUDE), lowest_key(BITS))
    threshold = kth_key(keys, k, BITS, DROP)
    above, equal = keys > threshold, keys == threshold
    # Both counts in one integer: a block has fewer than 65536 columns.
    marks = (above.to(tl.int32) << 16) + equal.to(tl.int32)
    n_above = tl.sum(marks) >> 16
    room = k - n_above
    if DROP:
        room = tl.where(threshold > 0, room, 0)
    marks = tl.cumsum(marks, 0)
    equals = marks & 0xFFFF
    kept = above | (equal & (equals <= room))
    slot = row * k + (marks >> 16) + tl.minimum(equals, room) - 1
    tl.store(indices_ptr + slot, column, mask=kept)
    if values_ptr is not None:
        tl.store(values_ptr + slot, x, mask=kept)
    if DROP:
        slots = tl.arange(0, SLOTS)
        left = (slots >= n_above + room) & (slots < k)
        tl.store(indices_ptr + row * k + slots, -1, mask=left)
        if values_ptr is not None:
            tl.store(values_ptr + row * k + slots, 0.0, mask=left)
