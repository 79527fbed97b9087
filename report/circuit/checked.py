"""Taking fields out of a file that nobody vouches for."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pellucid.errors import RunError


def finite(value: Any) -> float | None:
    """A number that is one; None for anything else, NaN and infinities among it."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value if good else None


@dataclass(frozen=True)
class Checked:
    """Takes fields out of a file, and refuses in a sentence what they are not."""

    name: str
    content: Mapping[str, Any]

    def refuse(self, where: str, value: Any, wanted: str) -> None:
        raise RunError(f"{self.name}: {where} is {str(value)[:60]!r}; {wanted} is expected")

    def text(self, where: str, value: Any) -> str:
        if not isinstance(value, str):
            self.refuse(where, value, "a text")
        return value

    def number(self, where: str, value: Any) -> float | None:
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            self.refuse(where, value, "a number or null")
        return finite(value)

    def items(self, where: str, value: Any) -> list[Any]:
        if value is not None and not isinstance(value, list):
            self.refuse(where, value, "a list")
        return value or []

    def mapping(self, where: str) -> Mapping[str, Any] | None:
        value = self.content.get(where)
        if value is not None and not isinstance(value, dict):
            self.refuse(where, value, "an object")
        return value

    def mappings(self, where: str) -> list[Mapping[str, Any]]:
        found = self.items(where, self.content.get(where))
        for i, held in enumerate(found):
            if not isinstance(held, dict):
                self.refuse(f"{where}[{i}]", held, "an object")
        return found
