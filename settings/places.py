"""Where the path of a word leads in the JSON tree of a configuration."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pellucid.settings.fields import Config, Field, declared, join
from pellucid.settings.kinds import Refused, show

Tree = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """Where a word points: `box[key]` of a JSON tree, and the field that it is."""

    path: str
    field: Field
    box: Tree
    key: str
    current: Any
    """What is there; for the filling of a layer that has none, the filling of all layers."""

    @property
    def child(self) -> type[Config] | None:
        """The config class of what is there, None for a plain value."""
        if self.field.table:
            return self.field.table[self.current["type"]].Config
        return self.field.kind if self.field.is_group else None

    @property
    def text(self) -> str:
        """What is there, as a word gives it."""
        return self.current["type"] if self.field.table else show(self.current)

    def is_like(self, other: "Place") -> bool:
        """Whether the same value, or a filling of the same tag, is set here."""
        if self.field.table:
            return self.key in self.box and self.text == other.text
        return self.current == other.current


class Unknown(Exception):
    """A path that leads nowhere; its argument is the place where it ends, if any."""


def locate(cls: type[Config], tree: Tree, names: Sequence[str], path: str = "") -> Place:
    """The place that a path names in the JSON tree of a config of class `cls`, or Unknown."""
    (name, at, layer), rest = names[0].partition("@"), names[1:]
    field = declared(cls).get(name)
    if field is None and cls.forward:
        inner = place_of(declared(cls)[cls.forward], tree, cls.forward, path)
        return locate(inner.child, inner.current, names, inner.path)
    if field is None:
        raise Unknown(path)
    place = (
        place_in_layer(cls, tree, field, layer, path) if at else place_of(field, tree, name, path)
    )
    child = place.child
    if not rest and place.field.is_group and child.forward:
        rest = [child.forward]
    if not rest:
        return place
    if child is None:
        raise Unknown(place.path)
    return locate(child, place.box.setdefault(place.key, place.current), rest, place.path)


def place_of(field: Field, tree: Tree, name: str, path: str) -> Place:
    """The place of a field in the tree of its own config."""
    return Place(join(path, name), field, tree, name, tree[name])


def place_in_layer(cls: type[Config], tree: Tree, field: Field, layer: str, path: str) -> Place:
    """The place of a slot\'s filling in one layer."""
    key, layered = f"{field.name}@{layer}", [f for f in declared(cls).values() if f.is_layered]
    try:
        layered[0].table_for(key)
    except (Refused, IndexError):
        raise Unknown(path) from None
    box = tree[layered[0].name]
    current = box.get(key) or copy.deepcopy(tree[field.name])
    return Place(join(path, key), field, box, key, current)
