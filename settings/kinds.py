"""What a type annotation of a configuration field accepts: from Python, as text, and in words.

The kinds are int, float, bool, str, None, `Literal`, unions and tuples of these, and config classes.
"""

import difflib
import itertools
import json
import math
import numbers
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

MAX_INT = 2**63 - 1

Limits = Mapping[str, float | None]
"""`low` <= value <= `high`, `above` < value < `below`; a missing or None limit does not bind."""


def is_list(value: Any, kind: Any) -> bool:
    """Whether it is a sequence of that kind; a text is none of texts, and a bool is no number."""
    plain = isinstance(value, Sequence) and not isinstance(value, str)
    return plain and all(isinstance(v, kind) and not isinstance(v, bool) for v in value)


def doubled(values: Iterable[float]) -> bool:
    """Whether all are above 0, and each is twice the one before."""
    found = list(values)
    return all(v > 0 for v in found) and all(
        math.isclose(b, 2 * a) for a, b in itertools.pairwise(found)
    )


class Refused(Exception):
    """A value that a kind does not accept; the field turns it into a sentence."""


def coerce(kind: Any, value: Any, limits: Limits) -> Any:
    """The canonical form of `value` as `kind`: 1e6 becomes an int where an int is asked, and so on.

    Raises Refused for a value of another type, a number that is not finite or out of `limits`.
    """
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _first_of(args, value, limits)
    if origin is Literal:
        return _choice(args, value)
    if origin is tuple:
        return _tuple(args, value, limits)
    return _SCALARS.get(kind, _exactly(kind))(value, limits)


def _first_of(kinds: tuple, value: Any, limits: Limits) -> Any:
    for kind in kinds:
        try:
            return coerce(kind, value, limits)
        except Refused:
            continue
    raise Refused


def _choice(choices: tuple, value: Any) -> Any:
    for choice in choices:
        if type(value) is type(choice) and value == choice:
            return choice
    raise Refused


def _tuple(kinds: tuple, value: Any, limits: Limits) -> tuple:
    if not isinstance(value, tuple | list):
        raise Refused
    if kinds[-1:] == (...,):
        kinds = kinds[:1] * len(value)
    if len(kinds) != len(value):
        raise Refused
    return tuple(coerce(kind, item, limits) for kind, item in zip(kinds, value, strict=True))


def _integer(value: Any, limits: Limits) -> int:
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole and not (isinstance(value, float) and value.is_integer()):
        raise Refused
    if abs(int(value)) > MAX_INT:
        raise Refused
    return _within(int(value), limits)


def _number(value: Any, limits: Limits) -> float:
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise Refused
    try:
        number = float(value)
    except OverflowError:
        raise Refused from None
    if not math.isfinite(number):
        raise Refused
    return _within(number, limits)


def _within(number: Any, limits: Limits) -> Any:
    low, high = limits.get("low"), limits.get("high")
    above, below = limits.get("above"), limits.get("below")
    too_low = (low is not None and number < low) or (above is not None and number <= above)
    too_high = (high is not None and number > high) or (below is not None and number >= below)
    if too_low or too_high:
        raise Refused
    return number


def _exactly(kind: type) -> Callable[[Any, Limits], Any]:
    def accept(value: Any, limits: Limits) -> Any:
        if type(value) is not kind:
            raise Refused
        return value

    return accept


def _path(value: Any, limits: Limits) -> pathlib.Path:
    if not isinstance(value, str | pathlib.Path):
        raise Refused
    return pathlib.Path(value)


_SCALARS = {int: _integer, float: _number, pathlib.Path: _path}


def in_words(kind: Any, limits: Limits) -> str:
    """What `kind` accepts, for an error or a page of help: `an integer, at least 1, or none`."""
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join(in_words(arg, limits) for arg in args)
    if origin is Literal:
        return ("one of " if len(args) > 1 else "") + ", ".join(str(arg) for arg in args)
    if origin is tuple and args[-1:] == (...,):
        return f"any number of ({in_words(args[0], limits)}) with commas between"
    if origin is tuple:
        return " and ".join(f"({in_words(arg, limits)})" for arg in args) + " with a comma between"
    if kind in (int, float):
        return ("an integer" if kind is int else "a number") + _bounds(limits)
    return _NOUNS.get(kind, f"a {getattr(kind, '__qualname__', kind)}")


_NOUNS = {bool: "true or false", str: "text", NoneType: "none", pathlib.Path: "a path"}
_BOUNDS = {"low": "at least", "above": "above", "high": "at most", "below": "below"}


def _bounds(limits: Limits) -> str:
    parts = [
        f"{word} {show(limits[n])}" for n, word in _BOUNDS.items() if limits.get(n) is not None
    ]
    return ", " + " and ".join(parts) if parts else ""


def parse(kind: Any, text: str) -> Any:
    """`text` as a value of `kind`; where it is none, the text itself, which `coerce` refuses."""
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _parse_union(args, text)
    if origin is Literal:
        return next((arg for arg in args if text == show(arg)), text)
    if origin is tuple:
        return _parse_tuple(args, text)
    if kind in (int, float):
        return _parse_number(text)
    return _NAMED.get(kind, {}).get(text, text)


_NAMED = {bool: {"true": True, "false": False}, NoneType: {"none": None}}


def _parse_union(kinds: tuple, text: str) -> Any:
    if NoneType in kinds and text == "none":
        return None
    values = [parse(kind, text) for kind in kinds if kind is not NoneType]
    return next((value for value in values if value != text), text)


def _parse_tuple(kinds: tuple, text: str) -> Any:
    """`a,b` or, for items with commas or spaces around them, the JSON list `["a", "b"]`."""
    if text.startswith("["):
        try:
            return json.loads(text)
        except ValueError:
            return text
    items = [item.strip() for item in text.split(",")] if text else []
    item_kinds = kinds[:1] * len(items) if kinds[-1:] == (...,) else kinds
    if len(items) != len(item_kinds):
        return text
    return [parse(kind, item) for kind, item in zip(item_kinds, items, strict=True)]


def _parse_number(text: str) -> Any:
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def show(value: Any) -> str:
    """`value` as the text that `parse` reads back."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    if not isinstance(value, tuple | list):
        return str(value)
    items = [show(item) for item in value]
    plain = all(item == item.strip() != "" and "," not in item for item in items)
    text = ",".join(items)
    return text if plain and not text.startswith("[") else json.dumps(list(value))


def shown(value: Any) -> str:
    """`value` as it is named in an error: its repr, shortened."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to print integers of thousands of digits
        text = f"{type(value).__name__} too large to print"
    return text if len(text) <= 80 else text[:77] + "..."


def nearest(name: Any, names: Iterable[str]) -> str:
    """`; did you mean X?` for the name most like `name`, else the names there are."""
    names = list(names)
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else f"; expected one of {', '.join(names)}"
