"""Frozen configuration dataclasses: checked when they are built, documented, saved as JSON.

A `Config` is a frozen dataclass whose fields carry their doc as a string beneath them. A field is a
`setting` (a number, text, a choice, a tuple), another `Config`, a `slot` (the config of one class of
a table), or the per-layer fillings of the slots beside it (`dict[str, Config]`, key `slot@layer`).
`kinds.py` says what a setting accepts; `words.py` reads and writes fields as `path=value` words.
"""

import ast
import dataclasses
import functools
import inspect
import itertools
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar, get_origin, get_type_hints

from pellucid.errors import ConfigError
from pellucid.settings.kinds import Refused, coerce, in_words, nearest, shown


@dataclass(frozen=True, kw_only=True)
class Config:
    """Base of every configuration; building one checks every field (ConfigError)."""

    forward: ClassVar[str | None] = None
    """The child in which a word is looked up whose first name is no field here."""
    recipe: ClassVar[tuple[str, ...]] = ()
    """Words that come with this filling and say nothing else; `train.lr=2x` doubles what was there."""

    def __post_init__(self) -> None:
        for field in declared(type(self)).values():
            # The checked value is canonical (1 becomes 1.0 in a float field): equal as JSON, too.
            object.__setattr__(self, field.name, field.accept(getattr(self, field.name)))
        self.check()

    def check(self) -> None:
        """Raise ConfigError where fields contradict each other; overridden by configs that can.
        The sentence starts with the name of a field: the path of the config is put before it."""

    def replace(self, **changes: Any) -> Self:
        """The same configuration with some fields changed, checked again."""
        return dataclasses.replace(self, **changes)


class Configurable:
    """A class built by its nested `Config`: `TopK.Config(k=32).build(...)` is `TopK(config, ...)`."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "Config" in cls.__dict__:
            cls.Config.build = lambda config, *args, **kw: cls(config, *args, **kw)  # ty: ignore
            cls.Config.builds = cls


def setting(
    default: Any,
    *,
    operational: bool = False,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> Any:
    """A field and its range: `low` <= value <= `high`, `above` < value < `below`.

    An `operational` field does not belong to what a run is: it may change when the run resumes.
    """
    limits = {"low": low, "high": high, "above": above, "below": below}
    metadata = {"operational": operational, "limits": limits}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def slot(table: Mapping[str, type], default: str) -> Any:
    """A field that holds the `Config` of one class of `table` (tag -> class)."""
    return dataclasses.field(
        default_factory=lambda: table[default].Config(), metadata={"table": table}
    )


@dataclass(frozen=True)
class Field:
    """What a config class declares about one of its fields."""

    name: str
    kind: Any
    operational: bool
    limits: Mapping[str, float | None]
    table: Mapping[str, type] | None
    """The classes whose configs may fill this slot, by tag; None where it is no slot."""
    layered: Mapping[str, Mapping[str, type]]
    """For the per-layer field: the tables of the slots it may fill, by the slot's name."""

    @property
    def is_group(self) -> bool:
        """Whether the field holds the fields of a config class of its own."""
        return isinstance(self.kind, type) and issubclass(self.kind, Config) and not self.table

    @property
    def is_layered(self) -> bool:
        return get_origin(self.kind) is dict

    @property
    def accepted(self) -> str:
        """What the field accepts, in words."""
        if self.table:
            return "one of " + ", ".join(self.table)
        if self.is_layered:
            return "fillings by layer, such as " + " or ".join(f"{n}@0" for n in self.layered)
        return in_words(self.kind, self.limits)

    def accept(self, value: Any) -> Any:
        """The canonical form of `value`, or ConfigError that says what would be accepted."""
        try:
            if self.table:
                return _filling(self.table, value)
            if self.is_layered:
                return {
                    k: _filling(self.table_for(k), v) for k, v in coerce(dict, value, {}).items()
                }
            return coerce(self.kind, value, self.limits)
        except Refused:
            raise refusal(self.name, value, self.accepted) from None

    def table_for(self, key: Any) -> Mapping[str, type]:
        """The table of the slot that the per-layer key `slot@layer` names, or Refused."""
        match = re.fullmatch(r"(\w+)@(0|[1-9][0-9]{0,5})", key) if isinstance(key, str) else None
        if not match or match[1] not in self.layered:
            raise Refused
        return self.layered[match[1]]


def _filling(table: Mapping[str, type], value: Any) -> Config:
    if not any(type(value) is filling.Config for filling in table.values()):
        raise Refused
    return value


def tag_of(table: Mapping[str, type], filling: Config) -> str:
    """The name of `filling`'s class in `table`."""
    return next(tag for tag, cls in table.items() if cls.Config is type(filling))


@functools.cache
def declared(cls: type[Config]) -> dict[str, Field]:
    """The fields of a config class, in order."""
    if "__dataclass_params__" not in cls.__dict__:
        raise TypeError(f"{cls.__qualname__} lacks @dataclass(frozen=True, kw_only=True)")
    hints, fields = get_type_hints(cls), dataclasses.fields(cls)
    tables = {f.name: f.metadata["table"] for f in fields if "table" in f.metadata}
    return {
        f.name: Field(
            name=f.name,
            kind=hints[f.name],
            operational=f.metadata.get("operational", False),
            limits=f.metadata.get("limits", {}),
            table=tables.get(f.name),
            layered=f.metadata.get("per_layer", tables)
            if get_origin(hints[f.name]) is dict
            else {},
        )
        for f in fields
    }


@functools.cache
def docs(cls: type[Config]) -> dict[str, str]:
    """The string literal beneath each field, on one line, by the field's name."""
    found = {}
    for base in reversed(cls.__mro__):
        if issubclass(base, Config):
            found |= _docs_of(base)
    return {name: found.get(name, "") for name in declared(cls)}


def _docs_of(cls: type) -> dict[str, str]:
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0].body
    return {
        field.target.id: " ".join(inspect.cleandoc(below.value.value).split())
        for field, below in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
        and isinstance(below.value.value, str)
    }


def refusal(path: str, value: Any, accepted: str) -> ConfigError:
    """The error of a field that got a value it does not accept."""
    return ConfigError(f"{path} = {shown(value)} is not accepted; expected {accepted}")


def to_json(config: Config, *, operational: bool = True) -> dict[str, Any]:
    """The configuration as a JSON object; a slot's filling carries its tag as "type"."""
    tree = {}
    for field in declared(type(config)).values():
        if operational or not field.operational:
            tree[field.name] = _field_to_json(field, getattr(config, field.name), operational)
    return tree


def _field_to_json(field: Field, value: Any, operational: bool) -> Any:
    if field.table:
        return {"type": tag_of(field.table, value)} | to_json(value, operational=operational)
    if field.is_layered:
        return {
            key: {"type": tag_of(field.table_for(key), v)} | to_json(v, operational=operational)
            for key, v in value.items()
        }
    if field.is_group:
        return to_json(value, operational=operational)
    return list(value) if isinstance(value, tuple) else value


C = TypeVar("C", bound=Config)


def from_json(cls: type[C], tree: Any, *, path: str = "") -> C:
    """The configuration that `to_json` wrote; a field that is absent has its default.

    Raises ConfigError with the dotted path of a field that is unknown or that is not accepted.
    """
    if not isinstance(tree, Mapping):
        raise refusal(path or cls.__name__, tree, "an object with fields")
    fields = declared(cls)
    for key in tree:
        if key not in fields:
            raise ConfigError(f"{join(path, key)} is not a field{nearest(key, fields)}")
    values = {key: _field_from_json(fields[key], tree[key], join(path, key)) for key in tree}
    try:
        return cls(**values)
    except ConfigError as error:
        raise _beneath(path, cls, error) from None


def _field_from_json(field: Field, tree: Any, path: str) -> Any:
    if field.table:
        return _filling_from_json(field.table, tree, path)
    if field.is_layered and isinstance(tree, Mapping):
        return {
            key: _filling_from_json(_table_at(field, key, path), filling, _beside(path, key))
            for key, filling in tree.items()
        }
    return from_json(field.kind, tree, path=path) if field.is_group else tree


def _table_at(field: Field, key: Any, path: str) -> Mapping[str, type]:
    try:
        return field.table_for(key)
    except Refused:
        raise refusal(path, key, field.accepted) from None


def _filling_from_json(table: Mapping[str, type], tree: Any, path: str) -> Config:
    if not isinstance(tree, Mapping) or "type" not in tree:
        raise refusal(path, tree, 'an object with a "type", one of ' + ", ".join(table))
    tag = tree["type"]
    if not isinstance(tag, str) or tag not in table:
        raise ConfigError(f"{path} = {shown(tag)} is not accepted{nearest(tag, table)}")
    rest = {key: value for key, value in tree.items() if key != "type"}
    return from_json(table[tag].Config, rest, path=path)


def _beneath(path: str, cls: type[Config], error: ConfigError) -> ConfigError:
    """The error with the path of the config before the name of the field it starts with."""
    first = re.match(r"\w*", str(error))[0]
    joint = "." if first in declared(cls) else ": "
    return ConfigError(f"{path}{joint}{error}" if path else str(error))


def join(path: str, name: Any) -> str:
    """The dotted path of the field `name` of the config at `path`."""
    return f"{path}.{name}" if path else str(name)


def _beside(path: str, name: Any) -> str:
    """As `join`; a per-layer filling is named beside its slot, as a word does: `model.mlp@4`."""
    return join(path.rpartition(".")[0] if "@" in str(name) else path, name)


def differences(a: Config, b: Config, *, operational: bool) -> list[tuple[str, Any, Any]]:
    """(path, value in a, value in b) of every field that differs; with `operational` fields or not.

    Where a slot is filled by another class, that is the difference, and not its fields.
    """
    return _differences(to_json(a, operational=operational), to_json(b, operational=operational))


def _differences(a: Any, b: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    if not (isinstance(a, dict) and isinstance(b, dict)):
        a, b = (x.get("type", x) if isinstance(x, dict) else x for x in (a, b))
        return [] if a == b else [(path, a, b)]
    if a.get("type") != b.get("type"):
        return [(path, a.get("type"), b.get("type"))]
    keys = list(dict.fromkeys((*a, *b)))
    return [row for k in keys for row in _differences(a.get(k), b.get(k), _beside(path, k))]
