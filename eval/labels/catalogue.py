"""Every label of Python source: its group, its family, whether a prefix decides it, its meaning."""

from pellucid.data.python_labels import LOOP
from pellucid.eval.labels.table import Label

_LOOP_GROUPS = {
    "lexer": ("in_string", "in_comment"),
    "bracket": ("in_brackets", "in_nested_brackets", "in_round", "in_square", "in_curly"),
    "layout": ("indented", "indented_twice", "line_start"),
    "block": ("in_function", "in_class", "in_loop"),
    "identifier": ("attribute",),
}
_GROUP_OF = {name: group for group, names in _LOOP_GROUPS.items() for name in names}
PYTHON = tuple(Label(name, _GROUP_OF[name], "loop", True) for name in LOOP)
