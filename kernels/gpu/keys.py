"""Integers in the order of floats: what the selection of the largest compares and counts.

The key of a bfloat16 or float16 is its 16 bits made to ascend with the value, -32767 to 32767; that
of a float32 its 32 bits, likewise. -0 and +0 have key 0, every NaN has the largest key, and the
lowest integer of the width is nobody's: it marks what lies beyond the end of a row. By magnitude,
keys are 0 and above. Integers are their own keys.
"""

import triton
import triton.language as tl


@triton.jit
def order_key(x, MAGNITUDE: tl.constexpr):
    """Keys of x, int32: of 16 significant bits if x has 16, else of 32."""
    if x.dtype.is_int():
        return x.to(tl.int32)
    elif x.dtype.primitive_bitwidth == 16:
        bits = x.to(tl.int16, bitcast=True).to(tl.int32)  # extends the sign
        infinity: tl.constexpr = 0x7F80 if x.dtype.is_bf16() else 0x7C00
        return _ascending(bits, 0x7FFF, infinity, MAGNITUDE)
    else:
        bits = x.to(tl.int32, bitcast=True)
        return _ascending(bits, 0x7FFFFFFF, 0x7F800000, MAGNITUDE)


@triton.jit
def _ascending(bits, LARGEST: tl.constexpr, INFINITY: tl.constexpr, MAGNITUDE: tl.constexpr):
    """Sign and magnitude as one integer; what exceeds the bits of infinity is a NaN."""
    size = bits & LARGEST
    key = size
    if not MAGNITUDE:
        key = tl.where(bits < 0, -size, size)
    return tl.where(size > INFINITY, LARGEST, key)


@triton.jit
def group_key(x, MAGNITUDE: tl.constexpr, FOLDS: tl.constexpr):
    """Key of the largest of each row of x (groups, columns), of which 2**FOLDS lie in a thread.

    Those are compared as floats, two instructions a column, for keys cost seven: the key of a
    maximum is the maximum of the keys, if NaN wins, as it does here.
    """
    most = x
    if x.dtype.is_floating():
        most = x.to(tl.float32)
        if MAGNITUDE:
            most = tl.abs(most)
    for _ in tl.static_range(FOLDS):
        pairs = tl.reshape(most, [most.shape[0], most.shape[1] // 2, 2])
        left, right = tl.split(pairs)
        most = tl.maximum(left, right, propagate_nan=tl.PropagateNan.ALL)
    return tl.max(order_key(most.to(x.dtype), MAGNITUDE), axis=1)


@triton.jit
def threshold_key(keys, k, floor, LOWEST: tl.constexpr, POSITIVE: tl.constexpr):
    """A key that at least k of a block reach and fewer than k exceed, or that exactly k reach.

    The search halves the range from `floor` to the largest key, a count a step, and stops as soon
    as a count is k. A floor that fewer than k reach is replaced by the lowest key. With POSITIVE
    the answer is at least 1, and where fewer than k are positive it is 1.
    """
    low, high = floor, tl.max(keys)
    if POSITIVE:
        low = tl.maximum(floor, 1)
    n = tl.sum((keys >= low).to(tl.int32))
    if not POSITIVE:
        low = tl.where(n < k, LOWEST, low)
        n = tl.where(n < k, k + 1, n)
    while (n > k) & (low < high):
        # Half the distance, unsigned because it may exceed the largest integer.
        half = (high.to(tl.uint32) - low.to(tl.uint32)) >> 1
        middle = high - half.to(tl.int32)
        reached = tl.sum((keys >= middle).to(tl.int32))
        n = tl.where(reached >= k, reached, n)
        low = tl.where(reached >= k, middle, low)
        high = tl.where(reached >= k, high, middle - 1)
    return low
