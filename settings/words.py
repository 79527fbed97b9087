"""Configurations as words: `mlp=topk mlp.k=32 mlp@4.k=16 train.steps=2000`, in any order.

The path of a word is dotted names. A first name that a config does not know is looked up in the
child it names as `forward`. `slot=tag` fills a slot (a slot that holds that tag already keeps its
values), `slot@4,8=tag` and `slot@4.k=16` fill it in some layers, starting from the filling of all
layers, and `slot@4=` takes that back.
"""

import copy
import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pellucid.errors import ConfigError
from pellucid.settings.fields import C, Config, Field, declared, docs, from_json, to_json
from pellucid.settings.kinds import nearest, parse, shown
from pellucid.settings.places import Place, Tree, Unknown, locate, place_in_layer, place_of


def override(config: C, words: Sequence[str]) -> C:
    """The configuration with `path=value` words applied.

    Raises ConfigError, which names the path, the value, and what would be accepted.
    """
    cls, before = type(config), to_json(config)
    pairs = [pair for word in words for pair in _split(word)]
    tree = _applied(cls, copy.deepcopy(before), pairs)
    words = [pair for word in _recipes(cls, before, tree, pairs) for pair in _split(word)]
    if implied := [(path, _scaled(cls, before, path, text)) for path, text in words]:
        tree = _applied(cls, before, [*implied, *pairs])
    return from_json(cls, tree)


def _applied(cls: type[Config], tree: Tree, pairs: Sequence[tuple[str, str]]) -> Tree:
    # A layer starts from the filling of all layers, so that is set first.
    for layered in (False, True):
        chosen = [pair for pair in pairs if ("@" in pair[0]) == layered]
        for path, text in _tags_first(cls, tree, chosen):
            _put(_find(cls, tree, path), path, text)
    return tree


def _recipes(
    cls: type[Config], before: Tree, tree: Tree, pairs: Sequence[tuple[str, str]]
) -> Iterator[str]:
    """The words that go with the fillings that words have chosen anew for all layers."""
    for path, text in pairs:
        table = _find(cls, tree, path).field.table if "@" not in path else None
        if table and text in table and _tag(cls, before, path) != text:
            yield from table[text].Config.recipe


def _tag(cls: type[Config], tree: Tree, path: str) -> str | None:
    """What fills the slot that the path names; None where it names (as yet) none."""
    try:
        return locate(cls, tree, path.split(".")).text
    except Unknown:
        return None


def _scaled(cls: type[Config], tree: Tree, path: str, text: str) -> str:
    """The text of a recipe's word, or for a factor such as `2x` that many times the tree's value."""
    if not text.endswith("x"):
        return text
    return repr(float(text[:-1]) * _find(cls, tree, path).current)


def _split(word: str) -> Iterator[tuple[str, str]]:
    """(path, text) of a word, one for each layer it names."""
    path, equals, text = word.partition("=")
    if not equals or not path or path.startswith("-"):
        raise ConfigError(f"{shown(word)} is not of the form path=value, such as train.steps=2000")
    before, at, after = path.partition("@")
    layers, dot, rest = after.partition(".")
    for layer in layers.split(","):
        yield before + at + layer + dot + rest, text


def _tags_first(cls: type, tree: Tree, pairs: list) -> Iterator[tuple[str, str]]:
    """The words in the order in which they apply: the tags of slots, outer ones first."""
    while pairs:
        depth = [_depth_as_tag(cls, tree, path) for path, _ in pairs]
        yield pairs.pop(depth.index(min(depth)))


def _depth_as_tag(cls: type, tree: Tree, path: str) -> float:
    """How deep the slot lies that the path names; infinite where it names (as yet) none."""
    try:
        place = locate(cls, tree, path.split("."))
    except Unknown:
        return float("inf")
    return place.path.count(".") if place.field.table else float("inf")


def _find(cls: type[Config], tree: Tree, path: str) -> Place:
    try:
        return locate(cls, tree, path.split("."))
    except Unknown as unknown:
        raise ConfigError(f"{path} is not a field{_hint(cls, tree, path, str(unknown))}") from None


def _hint(cls: type[Config], tree: Tree, path: str, end: str) -> str:
    """What to write instead of a path that leads nowhere."""
    rows, last = list(_rows(cls, tree)), path.rpartition(".")[2]
    leaves = [row.path.rpartition(".")[2] for row in rows]
    known = [name for row in rows for name in (row.short, row.path)]
    known += [*leaves, *declared(cls)] if "." not in path else []
    close = difflib.get_close_matches(path, known, n=1)
    same = [row.short for row, leaf in zip(rows, leaves, strict=True) if [leaf] == close]
    if same and "." not in path:
        return "; did you mean " + " or ".join(same) + "?"
    place = locate(cls, tree, end.split(".")) if end and "." in path else None
    for tag, filling in (place.field.table or {}).items() if place else ():
        if last in declared(filling.Config) and place.current["type"] != tag:
            short = shorten(cls, tree, place.path)
            return f" of {place.current['type']}, it is one of {tag}: add {short}={tag}"
    if close:
        return f"; did you mean {close[0]}?"
    inner = place.child if place else cls
    return nearest(last, declared(inner)) if inner else f"; {end} has no fields"


def _put(place: Place, path: str, text: str) -> None:
    """Write the value that `text` gives at a place."""
    field = place.field
    if field.table:
        _fill(place, path, text)
    elif field.is_group or field.is_layered:
        fields = declared(field.kind) if field.is_group else {}
        example = f"{path}.{next(iter(fields))}=" if fields else "mlp@0="
        raise ConfigError(
            f"{path} = {shown(text)} is not accepted; {path} is a group: set its fields ({example})"
        )
    else:
        place.box[place.key] = parse(field.kind, text)


def _fill(place: Place, path: str, tag: str) -> None:
    if "@" in place.key and tag == "":
        place.box.pop(place.key, None)
    elif tag not in place.field.table:
        raise ConfigError(f"{path} = {shown(tag)} is not accepted{nearest(tag, place.field.table)}")
    elif place.current["type"] == tag:
        place.box[place.key] = place.current
    else:
        # With its defaults spelt out, so that a word finds every field of the new filling.
        place.box[place.key] = default_filling(place.field, tag)


def default_filling(field: Field, tag: str) -> Tree:
    """The JSON tree of a slot filled with the defaults of `tag`."""
    return {"type": tag} | to_json(field.table[tag].Config())


@dataclass(frozen=True)
class Row:
    """One field of a configuration, for `--help` and `--print-config`."""

    path: str
    """Its full dotted path."""
    kind: str
    """What it accepts, in words."""
    value: str
    """Its value, as a word gives it."""
    doc: str
    short: str
    """The shortest path that means the same in a word."""
    operational: bool


def describe(config: Config) -> list[Row]:
    """Every field of a configuration, those of its groups and fillings beneath them."""
    return list(_rows(type(config), to_json(config)))


def _rows(cls: type[Config], tree: Tree) -> Iterator[Row]:
    return (_row(cls, tree, owner, place) for owner, place in _places(cls, tree, ""))


def _row(cls: type[Config], tree: Tree, owner: type[Config], place: Place) -> Row:
    field = place.field
    return Row(
        path=place.path,
        kind=field.accepted,
        value=place.text,
        doc=docs(owner)[field.name],
        short=shorten(cls, tree, place.path),
        operational=field.operational,
    )


def _places(cls: type[Config], tree: Tree, path: str) -> Iterator[tuple[type[Config], Place]]:
    """Every slot and plain field beneath a config, with the class that declares it."""
    for field in declared(cls).values():
        if field.is_layered:
            for key in tree[field.name]:
                name, _, layer = key.partition("@")
                place = place_in_layer(cls, tree, declared(cls)[name], layer, path)
                yield from _beneath(cls, place)
        else:
            yield from _beneath(cls, place_of(field, tree, field.name, path))


def _beneath(owner: type[Config], place: Place) -> Iterator[tuple[type[Config], Place]]:
    if not place.field.is_group:
        yield owner, place
    if place.child:
        yield from _places(place.child, place.current, place.path)


def shorten(cls: type[Config], tree: Tree, path: str) -> str:
    """The path without the names that a word may leave out."""
    names = path.split(".")
    for i in reversed(range(len(names))):
        fewer = names[:i] + names[i + 1 :]
        if fewer and _leads_to(cls, tree, fewer, path):
            names = fewer
    return ".".join(names)


def _leads_to(cls: type[Config], tree: Tree, names: list[str], path: str) -> bool:
    try:
        return locate(cls, tree, names).path == path
    except Unknown:
        return False


def fillings(config: Config) -> list[tuple[Row, dict[str, list[Row]]]]:
    """(row of the slot, the rows of each of its fillings by tag) for every slot, for `--help`.

    The filling that the configuration holds has its values, the others have their defaults.
    """
    cls, found = type(config), []
    for owner, place in _places(cls, to_json(config), ""):
        if place.field.table and "@" not in place.path:
            by_tag = {tag: _rows_of(config, place, tag) for tag in place.field.table}
            found.append((_row(cls, to_json(config), owner, place), by_tag))
    return found


def _rows_of(config: Config, place: Place, tag: str) -> list[Row]:
    tree = to_json(config)
    _fill(locate(type(config), tree, place.path.split(".")), place.path, tag)
    return [row for row in _rows(type(config), tree) if row.path.startswith(place.path + ".")]


def changes(base: Config, config: Config, *, operational: bool = True) -> list[tuple[str, str]]:
    """The (short path, text) words that turn `base` into `config`: the inverse of `override`."""
    cls, tree, goal = type(config), to_json(base), to_json(config)
    words = []
    # As in `override`: the fillings of single layers start from the filling of all layers.
    for _, place in sorted(_places(cls, goal, ""), key=lambda row: "@" in row[1].path):
        here = locate(cls, tree, place.path.split("."))
        if here.is_like(place) or (place.field.operational and not operational):
            continue
        words.append((shorten(cls, goal, place.path), place.text))
        _put(here, place.path, place.text)
    layers = [p for _, p in _places(cls, tree, "") if "@" in p.key]
    gone = [p for p in layers if p.key not in locate(cls, goal, p.path.split(".")).box]
    return words + [(shorten(cls, tree, p.path), "") for p in gone]
