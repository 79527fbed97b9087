"""What the fields of a grid may hold, checked before any of it is read: a grid is a user's own file."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pellucid.errors import UserError
from pellucid.settings.kinds import is_list
from pellucid.sweep.tuning import Tuning

if TYPE_CHECKING:
    from pellucid.sweep.grid import Grid


def check_kinds(grid: "Grid") -> None:
    """Raise UserError for a field that holds something else than its annotation says."""
    for field in ("name", "base", "suite"):
        if not isinstance(value := getattr(grid, field), str):
            raise UserError(f"{field} is {value!r}; a text is accepted")
    if not isinstance(grid.consistency, bool):
        raise UserError(f"consistency is {grid.consistency!r}; True or False is accepted")
    for field in ("baselines", "posthoc"):
        _check_texts(field, getattr(grid, field))
    if not isinstance(grid.axes, Mapping):
        raise UserError(f"axes is {grid.axes!r}; lists of words by name are accepted")
    for axis, values in grid.axes.items():
        if not is_list(values, str) or not values:
            raise UserError(f"axis {axis} is {values!r}; a list of words is accepted")
    if not is_list(grid.seeds, int):
        raise UserError(f"seeds is {grid.seeds!r}; whole numbers in a list are accepted")
    if not is_list(grid.endpoints, str):
        raise UserError(f"endpoints is {grid.endpoints!r}; names in a list are accepted")
    if not isinstance(grid.tune, Tuning | None):
        raise UserError(f"tune is {grid.tune!r}; Tuning(…) is accepted")
    numbers = isinstance(grid.margins, Mapping) and all(
        isinstance(margin, int | float) for margin in grid.margins.values()
    )
    if not numbers:
        raise UserError(f"margins is {grid.margins!r}; numbers by endpoint are accepted")


def _check_texts(field: str, value: Any) -> None:
    texts = isinstance(value, Mapping) and all(isinstance(words, str) for words in value.values())
    if not texts:
        raise UserError(f"{field} is {value!r}; words by name are accepted")
