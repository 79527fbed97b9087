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
def lowest_key(BITS: tl.constexpr):
    """Below the key of every float of so many bits."""
    return -(1 << (BITS - 1))


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
def kth_key(keys, k, BITS: tl.constexpr, POSITIVE: tl.constexpr):
    """The k-th largest of a block of keys, found bit by bit on counts; 0 or more if POSITIVE.

    With POSITIVE the search starts at 0, which is also the answer where fewer than k exceed 0.
    """
    found = 0
    if not POSITIVE:
        found = tl.where(tl.sum((keys >= 0).to(tl.int32)) >= k, 0, lowest_key(BITS))
    for step in tl.static_range(BITS - 1):
        trial = found + (1 << (BITS - 2 - step))
        found = tl.where(tl.sum((keys >= trial).to(tl.int32)) >= k, trial, found)
    return found
