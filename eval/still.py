"""Layers whose units do nothing: a number about them needs to say so, however right it is."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pellucid.eval.controls import System

SILENT = "no unit of this layer was ever active"
CONSTANT = "every living unit of this layer is constant"


def still(system: "System") -> dict[str, str]:
    """Sites of a reader, or of made units, none of whose units ever moves: what they do instead."""
    found = {}
    for name, moments in system.end_to_end.moments.items():
        living = moments.largest > 0
        if not living.any():
            found[name] = SILENT
        elif not (moments.m2[living] > 0).any():
            found[name] = CONSTANT
    return found


def said_of_all(system: "System") -> tuple[str, ...]:
    """The same as sentences for a number about the whole model, none where all layers do something."""
    return tuple(f"{name}: {what}" for name, what in still(system).items())
