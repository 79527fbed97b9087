"""`pellucid bench models`: what it holds to be justified, from operations and bytes."""

import pytest

from pellucid.experiments import bench_models
from pellucid.models.account import Account


def size(total: int, flops: float, gathered: int = 0) -> Account:
    return Account(total, total, total, flops, flops, gathered)


def test_gathered_rows_and_parameters_pass_at_the_rate_of_a_copy(monkeypatch):
    monkeypatch.setattr(bench_models, "_copy_bytes_per_ms", lambda: 4000.0)
    dense = size(100, 30.0)
    # Of a dense step of 10 ms, 100 parameters in 10 passes take 1 ms; 30 operations the other 9.
    assert bench_models._justified(dense, dense, 50, 10.0) == pytest.approx(10)
    assert bench_models._justified(size(300, 10.0), dense, 50, 10.0) == pytest.approx(3 + 3)
    # 20 floats by each of 50 tokens in 4 passes: 16,000 bytes.
    assert bench_models._justified(size(300, 10.0, 20), dense, 50, 10.0) == pytest.approx(3 + 3 + 4)
