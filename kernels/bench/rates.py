"""What this machine can do at most: copies, matrix products, gathers of random rows."""

import torch

from pellucid.kernels.bench.session import COPY, Bench
from pellucid.kernels.bench.shapes import n_sets
from pellucid.kernels.bench.timing import interleaved

COPY_BYTES = 1 << 31
SQUARE = 8192
GATHERS = ((1 << 26, 512), (1 << 26, 2048), (1 << 28, 512), (1 << 28, 1024), (1 << 28, 4096))
"""Bytes of the table and columns of a row; 64 MB is about a second-level cache, 256 MB is not."""
GATHERED_BYTES = 1 << 31


def measure(bench: Bench) -> None:
    """`rates/copy`, `rates/gemm/…` and `rates/gather/…`."""
    print("\nrates of this machine")
    with bench.guarded(COPY):
        _copy(bench)
    shapes = {(SQUARE, SQUARE, SQUARE)}
    shapes |= {(s.tokens, s.d_model, s.width) for s in bench.shapes[:1]}
    for rows, inner, columns in sorted(shapes):
        key = f"rates/gemm/{rows}x{inner}x{columns}"
        with bench.guarded(key):
            _gemm(bench, key, rows, inner, columns)
    for size, columns in GATHERS:
        key = f"rates/gather/{size >> 20} MB, d {columns}"
        with bench.guarded(key):
            _gather(bench, key, size, columns)
    bench.record.save()
    bench.free()


def _median(bench: Bench, step) -> list[float]:
    return interleaved({"run": {"run": step}}, bench.rounds, bench.device)["run"]["run"]


def _copy(bench: Bench) -> None:
    source = torch.randint(256, (COPY_BYTES,), dtype=torch.uint8, device=bench.device)
    target = torch.empty_like(source)
    taken = _median(bench, lambda number: target.copy_(source))
    bench.record.time(COPY, taken, tb_s=2 * COPY_BYTES / taken[0] / 1e9)
    print(f"  copy: {2 * COPY_BYTES / taken[0] / 1e9:.2f} TB/s, read and write")


def _gemm(bench: Bench, key: str, rows: int, inner: int, columns: int) -> None:
    options = {"dtype": bench.dtype, "device": bench.device}
    sets = n_sets(rows * inner * bench.dtype.itemsize)
    left = [torch.randn(rows, inner, **options) for _ in range(sets)]
    right = torch.randn(columns, inner, **options)
    out = torch.empty(rows, columns, **options)
    taken = _median(bench, lambda number: torch.mm(left[number % sets], right.T, out=out))
    rate = 2 * rows * inner * columns / taken[0] / 1e9
    bench.record.time(key, taken, tflop_s=rate)
    print(f"  product {rows} x {inner} x {columns}: {rate:.0f} TFLOP/s")


def _gather(bench: Bench, key: str, size: int, columns: int) -> None:
    row = columns * bench.dtype.itemsize
    options = {"dtype": bench.dtype, "device": bench.device}
    table = torch.randn(max(1, size // row), columns, **options)
    count = max(1, GATHERED_BYTES // row)
    chosen = torch.randint(len(table), (count,), device=bench.device)
    out = torch.empty(count, columns, **options)
    taken = _median(bench, lambda number: torch.index_select(table, 0, chosen, out=out))
    rate = 2 * count * row / taken[0] / 1e9
    bench.record.time(key, taken, tb_s=rate)
    print(f"  rows of {columns} out of {size >> 20} MB: {rate:.2f} TB/s, read and write")
