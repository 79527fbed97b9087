"""Which of a test's cases are in `make test`, where each of them tells nearly the same."""

from collections.abc import Iterable
from typing import Any

import pytest


def slow_but(quick: Iterable[Any], values: Iterable[Any]) -> list[Any]:
    """All values, those that are not among `quick` for `make test-all` only."""
    quick = list(quick)
    return [v if v in quick else pytest.param(v, marks=pytest.mark.slow) for v in values]
