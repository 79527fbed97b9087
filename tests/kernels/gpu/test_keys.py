"""Integer keys: every 16-bit float, and awkward 32-bit ones, in the order of their values."""

import os
import re
import subprocess
import sys

import pytest
import torch
import triton
import triton.language as tl

from pellucid.kernels.gpu.keys import order_key, threshold_key


@triton.jit
def keys_kernel(x_ptr, keys_ptr, MAGNITUDE: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(keys_ptr + at, order_key(tl.load(x_ptr + at), MAGNITUDE))


@triton.jit
def threshold_kernel(keys_ptr, out_ptr, k, floor, POSITIVE: tl.constexpr, BLOCK: tl.constexpr):
    keys = tl.load(keys_ptr + tl.arange(0, BLOCK))
    tl.store(out_ptr, threshold_key(keys, k, floor, -(2**31), POSITIVE))


def keys_of(x, magnitude, device):
    keys = torch.empty(x.shape, dtype=torch.int32, device=device)
    keys_kernel[(len(x) // 1024,)](x.to(device), keys, magnitude, 1024)
    return keys.cpu()


def awkward_float32():
    """Both signs of: zero, denormals, neighbours, powers of two, the largest, infinity, NaNs."""
    generator = torch.Generator().manual_seed(0)
    bits = torch.randint(0, 2**31, (1024 - 16,), generator=generator)
    special = [0, 1, 2, 0x7FFFFF, 0x800000, 0x3F800000, 0x3F800001, 0x7F7FFFFF]
    special += [0x7F800000, 0x7F800001, 0x7FC00000, 0x7FFFFFFF, 0x40000000, 3, 4, 5]
    size = torch.cat((bits, torch.tensor(special)))
    return torch.cat((size, size - 2**31)).to(torch.int32).view(torch.float32)


def every(dtype):
    return torch.arange(-(2**15), 2**15).to(torch.int16).view(dtype)


@pytest.mark.parametrize("magnitude", [False, True])
@pytest.mark.parametrize(
    "x, largest",
    [
        (every(torch.bfloat16), 2**15 - 1),
        (every(torch.float16), 2**15 - 1),
        (awkward_float32(), 2**31 - 1),
    ],
)
def test_keys_order_as_values_do(x, largest, magnitude, device):
    keys = keys_of(x, magnitude, device)
    assert (keys[x.isnan()] == largest).all() and (keys[~x.isnan()] < largest).all()
    assert (keys > -largest - 1).all() and (not magnitude or (keys >= 0).all())
    values = x[~x.isnan()].double().abs() if magnitude else x[~x.isnan()].double()
    ranks = [t.unique(return_inverse=True)[1] for t in (keys[~x.isnan()], values)]
    assert torch.equal(*ranks)
    assert (keys[x == 0] == 0).all() and int((x == 0).sum()) == 2


def test_integers_are_their_own_keys(device):
    x = torch.arange(-512, 512, dtype=torch.int16)
    assert torch.equal(keys_of(x, False, device), x.int())


@pytest.mark.parametrize("positive", [False, True])
def test_thresholds_part_k_from_the_rest(positive, device):
    """From the least integer to the largest, with ties, from floors too low, right and too high."""
    generator = torch.Generator().manual_seed(0)
    few = torch.randint(-3, 4, (32,), generator=generator)
    edges = torch.tensor([-(2**31), 2**31 - 1, 0, -1, 1, 2**31 - 1, -(2**31), 7] * 4)
    for keys in (few, edges, few * 2**29, torch.full((32,), -(2**31)), torch.zeros(32)):
        keys = keys.to(torch.int32)
        for k in (1, 2, 9, 31, 32):
            for floor in (-(2**31), int(keys.sort().values[-k]), 2**31 - 1):
                if positive and floor == 2**31 - 1:
                    continue  # such a floor is never given
                found = torch.empty(1, dtype=torch.int32, device=device)
                threshold_kernel[(1,)](keys.to(device), found, k, floor, positive, 32)
                found = int(found)
                reach, exceed = int((keys >= found).sum()), int((keys > found).sum())
                if positive and int((keys > 0).sum()) < k:
                    assert found == 1
                else:
                    assert reach == k or (reach > k > exceed)
                    assert not positive or found > 0


COMPILE_MAXIMA = """
import triton
from pellucid.kernels.gpu import rows, shipped
compile = triton.compile
def show(*args, **options):
    made = compile(*args, **options)
    print(made.asm["ptx"])
    return made
triton.compile = show
for kind in ("bf16 GROUP", "bf16 magnitude", "fp32"):
    name = f"group_max_kernel {kind}"
    shipped.compile_ahead(next(e for e in rows.SHIPPED if e.name.startswith(name)), 90)
"""


def test_compiled_maxima_keep_nan():
    """The interpreter's maximum keeps NaN whatever it is told; an instruction must be told."""
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", COMPILE_MAXIMA], env=env, check=True, capture_output=True, text=True
    )
    maxima = set(re.findall(r"\bmax\.[\w.]*(?:f32|bf16x2|bf16)\b", done.stdout))
    assert maxima and all(name.startswith("max.NaN.") for name in maxima), maxima
