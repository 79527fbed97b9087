"""Numbers and names as a reader wants them: filters of the templates."""

import math
import re
from typing import Any

NONE = "–"
NO_VALUE = "no value: "
MINUS = "\u2212"
LONGEST = 34
"""Letters of a token that a line of the drawing shows."""

_GLYPHS = {" ": "·", "\n": "↵", "\t": "→"}
_ODD = re.compile(
    r"[\x00-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\ufffe\uffff]"
)


def number(value: Any, digits: int = 4) -> str:
    """A number with a few significant digits; what is not a number is shown as it is."""
    if value is None:
        return NONE
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if not math.isfinite(value):
        return str(value)
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}".replace("-", MINUS)
    text = f"{value:,.{max(0, digits - 1 - _magnitude(value))}f}"
    if abs(value) < 1e-3:
        text = f"{value:.{digits - 2}e}".replace("e-0", "e-")
    return text.replace("-", MINUS)


def significant(value: Any, digits: int = 3) -> str:
    """A number with as many digits from its first that is not 0: 0.00412, −0.031, 1.2e-5."""
    if not isinstance(value, int | float) or not math.isfinite(value) or value == 0:
        return number(value)
    if abs(value) < 1e-4 or abs(value) >= 10**digits:
        return number(value, digits)
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{places}f}".replace("-", MINUS)


def _magnitude(value: float) -> int:
    return max(0, math.floor(math.log10(abs(value)))) if value else 0


def count(value: Any) -> str:
    """12,300,000 as 12.3M."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return number(value)
    for factor, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g}{letter}"
    return number(value)


def share(value: Any) -> str:
    """0.012 as 1.2 %."""
    if not isinstance(value, int | float):
        return number(value)
    return f"{100 * value:.3g} %" if value < 0.9995 else "100 %"


def density(log10: float) -> str:
    """-3 as 0.1 %."""
    return share(10**log10)


def words(name: Any) -> str:
    """bits_per_byte as bits per byte."""
    return str(name).replace("_", " ")


def short(digest: Any) -> str:
    """The first 12 characters of a hash or fingerprint."""
    return str(digest)[:12] if digest else NONE


def reason(score: Any) -> str:
    """Why a score has no value, as its flags say."""
    flags = [str(flag) for flag in score.get("flags") or []]
    told = [flag.removeprefix(NO_VALUE) for flag in flags if flag.startswith(NO_VALUE)]
    return told[0] if told else "not measured"


def shown(text: str, *, quoted: bool = True) -> str:
    """A token on one line; what would hide, reorder or break a file is spelled out."""
    marked = "".join(_GLYPHS.get(c) or _spelled(c) for c in text[:LONGEST])
    marked += "…" if len(text) > LONGEST else ""
    return f"“{marked}”" if quoted else marked


def _spelled(character: str) -> str:
    return f"\\u{ord(character):04x}" if _ODD.match(character) else character


FILTERS = {
    "number": number,
    "significant": significant,
    "count": count,
    "share": share,
    "density": density,
    "words": words,
    "short": short,
    "reason": reason,
    "shown": shown,
}
