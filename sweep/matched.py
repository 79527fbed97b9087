"""Baselines of a grid that are matched to its base: solved for once, and remembered in its folder."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.errors import RunError
from pellucid.experiments import ladder
from pellucid.experiments.matching import match
from pellucid.storage import files

if TYPE_CHECKING:
    from pellucid.sweep.grid import Grid

ASKED = ("match=", "by=", "rung=")
"""Beginnings of the words that ask for a matched baseline."""
FILE = "matched.json"


@dataclass(frozen=True)
class Matched:
    """What a matched baseline came to."""

    words: tuple[str, ...]
    """what `pellucid train` would be told"""
    facts: Mapping[str, Any] | None
    """for the manifests of its runs: by what it was matched, to which words, how closely; none
    where it was found by a version that did not keep them"""


def solved(base: str, value: str) -> Matched | None:
    """What a baseline's words come to, of a base; None where they ask for no match.

    Raises ConfigError for what cannot be matched.
    """
    words = value.split()
    asked = dict(word.split("=", 1) for word in words if word.startswith(ASKED))
    if not asked:
        return None
    whole = [*base.split(), *(word for word in words if not word.startswith(ASKED))]
    tag, by = asked.get("match", "dense"), asked.get("by", "params")
    if "rung" in asked:
        share = ladder.share_of(asked["rung"])
        about = {"filling": tag, "by": "loss", "to": whole, "rung": share}
        return Matched(tuple(ladder.rung(whole, share, tag)), about)
    found = match(whole, tag, by)
    return Matched(found.words, found.facts)


def remembered(folder: Path, grid: "Grid") -> dict[str, Matched]:
    """The matched baselines of a grid that its folder remembers from the same words.

    Raises RunError for a file that says something else of them.
    """
    file = folder / FILE
    held = files.read_object(file, (), RunError) if file.exists() else {}
    asked = {name: [grid.base, value] for name, value in grid.baselines.items() if name in held}
    return {
        name: found
        for name, words in asked.items()
        if (found := _read(held[name], words, f"{file}, {name}"))
    }


def _read(entry: Any, asked: list[str], where: str) -> Matched | None:
    """What a file remembers of a baseline; None where other words were matched."""
    if not isinstance(entry, dict) or not all(_is_words(entry.get(k)) for k in ("asked", "words")):
        raise RunError(
            f"{where} says neither what was asked nor which words were found: mend it, or delete "
            f"the file and have the baseline matched anew"
        )
    # Earlier versions wrote =word, and no facts.
    words, facts = tuple(word.removeprefix("=") for word in entry["words"]), entry.get("facts")
    told = facts if isinstance(facts, dict) else None
    return Matched(words, told) if entry["asked"] == asked else None


def _is_words(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)


def remember(folder: Path, grid: "Grid", found: Mapping[str, Matched]) -> None:
    """Keep what was matched: a time that is measured again would match another width."""
    if found:
        asked = {name: [grid.base, grid.baselines[name]] for name in found}
        kept = {name: {"asked": asked[name], **asdict(one)} for name, one in found.items()}
        files.write_json(folder / FILE, kept, RunError)
