"""How long scoring a cell takes: a guess before any was scored, and what a call's end cut off.

Scoring cannot be saved half done: a cell whose scoring does not fit into a call has to begin it
again in the next one. So it is marked when it begins, and what is known is kept where it was cut.
"""

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pellucid.models import account

if TYPE_CHECKING:
    from pellucid.run import RunFolder
    from pellucid.sweep.grid import Cell
    from pellucid.sweep.slot import Slot

FIELD = "scoring"
"""Field of a run's manifest: scoring that has begun, or was cut off by the end of a call."""


class Measured(NamedTuple):
    """Seconds that were measured on two cores (docs/performance.md), and of what."""

    seconds: float
    parameters: int
    tokens: int


SUITES = {
    "smoke": Measured(15.0, 920_448, 32_768),
    "quick": Measured(57.0, 920_448, 98_304),
    "standard": Measured(1_591.0, 9_978_624, 115_278),
}
"""Of `full`, which reads all there is, the least that is known is what `standard` takes."""
CIRCUIT = {True: 205.0, False: 45.0}
"""Seconds of one circuit of the quick profile with and without its controls, at 10M parameters."""
LEAST = 0.1
"""Share of a measured time that a model of no parameters would take."""
SLACK, LONGEST_SLACK = 0.1, 30.0
"""Share of a call, and seconds in a short one (at most half of it), before its first cell begins."""
TIMES = 3
"""Calls that may cut off the same scoring before it is held to fit into none."""


def guessed(cell: "Cell", suite: str) -> float:
    """Seconds that scoring a cell may take, from measured models of other sizes; 0 for no suite."""
    if not suite:
        return 0.0
    from pellucid.eval.suite import SUITES as budgets
    from pellucid.sweep import consistency

    suite = consistency.plain(suite)
    known = SUITES.get(suite, SUITES["standard"])
    tokens = budgets[suite].tokens or budgets["standard"].tokens
    size = _parameters(cell)
    plain = known.seconds * _share(size / known.parameters) * tokens / known.tokens
    return plain + _circuits(cell, size)


def _circuits(cell: "Cell", size: int) -> float:
    from pellucid.eval.circuits.settings import settings_of

    if (asked := cell.circuits) is None:
        return 0.0
    searched, usual = settings_of(asked.profile), settings_of("quick")
    times = searched.steps * searched.copies / (usual.steps * usual.copies)
    once = CIRCUIT[asked.controls] * _share(size / SUITES["standard"].parameters)
    return len(asked.tasks) * times * once


def _share(of_measured: float) -> float:
    return LEAST + (1 - LEAST) * of_measured


_known: dict[tuple, int] = {}


def _parameters(cell: "Cell") -> int:
    key = (repr(cell.config.model), cell.config.data.vocab_size)
    if key not in _known:
        _known[key] = account(cell.config.model, vocab_size=cell.config.data.vocab_size).total
    return _known[key]


def mark(run: "RunFolder", suite: str) -> None:
    """Note, in a worker, that a cell's scoring begins; earlier calls that were cut off are kept."""
    begun = {"begun": time.time(), "circuits": len(run.read_circuits())}
    run.update_manifest(**{FIELD: _cut_off(run.read_manifest(), suite) | {"suite": suite} | begun})


def note_cut_off(slot: "Slot", cells: Sequence["Cell"], first: Sequence["Cell"]) -> None:
    """Keep how long the scoring of cells had taken in vain when a call ended.

    `first`: cells that had the whole call to be scored in. Circuits that were found meanwhile are
    kept, so that the next call has less to do: then nothing was in vain.
    """
    folder, suite, (began, ended) = slot.pace.folder, slot.pace.suite, slot.span
    for cell in cells:
        run = folder.run(cell.name)
        if not run.exists() or folder.state(cell.name, suite) != "trained":
            continue
        manifest = run.read_manifest()
        held = manifest.get(FIELD) or {}
        if held.get("suite") != suite or held.get("begun", 0.0) < began:
            continue  # not begun in this call
        found = {"suite": suite}
        if held["circuits"] == len(run.read_circuits()):
            before = _cut_off(manifest, suite)
            found["seconds"] = round(max(before.get("seconds", 0.0), ended - held["begun"]), 3)
            # Shorter calls than this one say nothing of it.
            comparable = before.get("usable", 0.0) >= 0.8 * slot.usable
            found["times"] = (before["times"] if comparable else 0) + (cell in first)
            found["usable"] = slot.usable
        run.update_manifest(**{FIELD: found})


def in_vain(manifest: Mapping[str, Any], suite: str) -> float:
    """Seconds that a call has spent on a run's scoring without its coming to an end."""
    return _cut_off(manifest, suite).get("seconds", 0.0)


def fits_none(manifest: Mapping[str, Any], suite: str, usable: float) -> bool:
    """Whether a run's scoring has had as good as a whole call of so many seconds, and was cut."""
    held = _cut_off(manifest, suite)
    if not held:
        return False
    slack = min(max(SLACK * usable, LONGEST_SLACK), usable / 2)
    often = held["times"] >= TIMES and usable <= 1.25 * held["usable"]
    return often or held["seconds"] + slack >= usable


def _cut_off(manifest: Mapping[str, Any], suite: str) -> dict[str, Any]:
    """What earlier calls have noted of a run's scoring with a suite."""
    held = manifest.get(FIELD) or {}
    names = ("seconds", "usable", "times")
    whole = held.get("suite") == suite and "seconds" in held
    return {name: held[name] for name in names} if whole else {}
