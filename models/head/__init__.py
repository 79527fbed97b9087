"""Fillings of the `head` slot: one class a line."""

from pellucid.models.head.backpack import Backpack
from pellucid.models.head.concept import ConceptHead
from pellucid.models.head.unembed import Unembed

HEADS = {"unembed": Unembed, "backpack": Backpack, "concept": ConceptHead}
