"""Every label of Python source on a text of its own, and that prefixes decide what they should."""

import pytest

from pellucid.eval.labels.bits import BIT
from pellucid.eval.labels.catalogue import MEANINGS, PYTHON
from pellucid.eval.labels.context import Context
from pellucid.eval.labels.python import PythonLabels, python_columns

HARD = '''from os import path as p, (q)
import a as b
@dec.x(1)
async def f(a, b=(1, 2), *args: int, **kw) -> str:
    r"""doc"""
    x = f'{a!r:>{b}}' + [y for y in args] # c
    if x == 1: return lambda q, r=2: q
    while (n := x.get(k=3)):
        d = {1: 2}; x >>= 2
        x: int = 0xe+1e-5

z = set() \\
    + '\\n\\'' + ''
async with a as b, c as (d, e):
    z.add(x, f'{y(0)}{z}', d)
from . import a; import b.c as d

match z:
    case [a, b]: global q
'''
CASES = [
    ("a = 'b' \"c\"", "quote_single", "....'b....."),
    ("a = 'b' \"c\"", "quote_double", '........"c.'),
    ("'''a''' 'b'", "in_triple_string", "..'a''....."),
    ("f'a{b}c' 'd'", "in_fstring", ".'a{.}c....."),
    ("f'{f'{a}'}'", "in_fstring", ".'{.'{.}.}."),
    ("r'a' + 'b'", "in_raw_string", ".'a......."),
    ("rb'a' + 'b'", "in_bytes", "..'a......."),
    ("f'{a:>{b}}c'", "in_format", "....:>{.}..."),
    ("f'{a:>{b}}{{c}}'", "in_fstring_expression", "...a...b........"),
    ("f'{f'{a}'}'", "in_fstring_expression", "...f'{a}'.."),
    (r"'a\nb' r'\n'", "escaped", r"..\n........"),
    ("def f():\n  'a'\n  'b'", "in_docstring", "...........'a......."),
    ("r'''a'''\n'b'", "in_docstring", ".'.'a''....."),
    ("x1 = 0xe+1e-5", "in_number", ".....0xe.1e-5"),
    ("a \\\n b\nc", "continued", "..\\_ b.."),
    ("f(a, [b])", "depth_1", ".(a, ..]."),
    ("f(a, [b])", "depth_2", ".....[b.."),
    ("(((a)))", "depth_3", "..(a..."),
    ("((((a))))", "depth_4_or_more", "...(a...."),
    ("f( a)", "just_opened", ".( .."),
    ("f(a) b", "just_closed", "...) ."),
    ("f'{a(b)}c'\n", "just_closed", "......)...."),
    ("f(a, (b), c[d])", "in_call", ".(a, ..), c..]."),
    ("f(a, (b), c[d])", "in_grouping", ".....(b........"),
    ("f(a, (b), c[d])", "in_subscript", "...........[d.."),
    ("class a[b](c[d]): e", "in_subscript", "............[d....."),
    ("[a, b[0]] + [c]", "in_list", "[a, b..]....[c."),
    ("{a: b} | {c}", "in_dict", "..: b......."),
    ("if a:\n  b\nc", "level_0", "if a:.....c"),
    ("if a:\n  b\nc", "level_1", "....._  b_."),
    ("if a:\n if b:\n  c", "level_2", "............_  c"),
    ("if a:\n if b:\n  if c:\n   d", "level_3", "." * 20 + "_   d"),
    ("if a:\n if b:\n  if c:\n   if d:\n    e", "level_4_or_more", "." * 29 + "_    e"),
    ("a b\n (c", "first_of_line", "a....(."),
    ("a \\\n bc d", "first_of_line", "a....bc.."),
    ("(a,\n b)\n c", "logical_start", "......._ ."),
    ("if a:\n b", "after_colon", "....:_ ."),
    ("x = a[b:\nc]", "after_colon", "..........."),
    ("a\n\n b", "after_blank_line", ".._ ."),
    ("f(\n\na)\nb", "after_blank_line", "........"),
    ("if a:\n  b\n  c", "dedent_so_far", "........._ .."),
    ("for a in b:\n c\nd", "in_for", "..........._ c_."),
    ("while a:\n c\nd", "in_while", "........_ c_."),
    ("if a:\n b\nelif c:\n d", "in_if", "....._ b_......._ d"),
    ("try:\n a\nexcept E as e:\n b", "in_try", "...._ a_" + "." * 17),
    ("try:\n a\nexcept E:\n b", "in_except", "." * 17 + "_ b"),
    ("with a as b:\n c", "in_with", "............_ c"),
    ("match a:\n b\nmatch: int", "in_match", "........_ b_.........."),
    ("async def f():\n a\ndef g():\n b", "in_async", ".............._ a_..........."),
    ("f(lambda a: a, b)", "in_lambda", "........ a: a...."),
    ("[a for a in b] + c", "in_comprehension", "...... a in b....."),
    ("for a in b:\n while c:\n  d", "in_nested_loop", "." * 21 + "_  d"),
    ("@a\ndef f(): b", "decorated", ".._def......."),
    ("class A:\n def f():\n  b", "in_method", "." * 18 + "_  b"),
    ("def f():\n def g():\n  b", "in_nested_function", "." * 18 + "_  b"),
    ("def fg(a): fg", "def_name", "....fg......."),
    ("class Ab(c): d", "class_name", "......Ab......"),
    ("def f(a, *b, c=d, e: g): h", "parameter_name", "......a...b..c....e......."),
    ("lambda a, b=c: d", "parameter_name", ".......a..b....."),
    ("def f(a) -> (b, c(d)): e", "parameter_name", "......a................."),
    ("def f[a](b): c", "parameter_name", ".........b...."),
    ("import os.path as p", "import_name", ".......os.path.a..p"),
    ("if a: import bc", "import_name", ".............bc"),
    ("@a.b(c)", "decorator_name", ".a.b..."),
    ("print(a.print)", "builtin_name", "....t........."),
    ("self.self", "self_name", "...f....."),
    ("AB_1 aB", "constant_case", ".B_1..."),
    ("f(a=b == c, d)", "keyword_value", "...=b == c...."),
    ("f(a == b)", "keyword_value", "....=...."),
    ("a + b + a", "seen_in_scope", "........a"),
    ("a = b\na + b", "assigned_before", "......a...."),
    ("for a in b: a + b", "assigned_before", "............a...."),
    ("(a := b) + a", "assigned_before", "...........a"),
    ("type a = b\ntype, a", "assigned_before", "." * 17 + "a"),
    ("with a as (b, c): b + c", "assigned_before", "." * 18 + "b...c"),
    ("with a as [b, (c)]:\n c", "assigned_before", "." * 21 + "c"),
    ("f(a for a in b if a)", "assigned_before", "..................a."),
    ("a = 1\ndef f():\n a", "assigned_before", "." * 17),
    ("def f(a): a + b", "is_parameter", "..........a...."),
    ("lambda *a: a", "is_parameter", "...........a"),
    ("import a\nfrom b import c\na, b, c", "imported_name", "." * 25 + "a.....c"),
    ("from . import a\na, b", "imported_name", "." * 16 + "a..."),
    ("import x.b as c\nx, b, c", "imported_name", "." * 22 + "c"),
    ("from . import a", "import_name", ".......impor..a"),
    ("b = 1\nfrom a import b as c\nb", "bound_to_int", "." * 20 + "b......b"),
    ("def f():\n global a\n a", "declared_outer", "." * 20 + "a"),
    ("def f():\n nonlocal a\n a", "declared_outer", "." * 22 + "a"),
    ("a = f'b'\na", "bound_to_str", ".........a"),
    ("a = [1]\na\na = 1\na", "bound_to_list", "........a.a......"),
    ("a = set()\na", "bound_to_set", "..........a"),
    ("a: int = 1\na", "bound_to_int", "...........a"),
    ("a = b = None\na", "bound_to_none", ".............a"),
    ("a = b == c\nd", "after_equals", "..= b == c.."),
    ("a == b", "after_equals", "..=..."),
    ("def f(a=b, c: d=e): g", "in_default", ".......=b......=e...."),
    ("def f(a: b = c) -> d: e", "in_annotation", ".......: b ......> d..."),
    ("f(a, b)", "first_argument", ".(a...."),
    ("f(a, b)", "later_argument", "...., b"[1:4] and "..., b."),
    ("return a\nb", "in_return", "...... a.."),
    ("while a or b: c", "in_condition", "..... a or b..."),
    ("f(ab=c)", "keyword_name", "..ab..."),
    ("a = b", "load", "....b"),
    ("a = b", "store", "a...."),
    ("for é, a in b: c", "store", "....é..a........"),
    ("a.b(c)", "callee", "a.b..."),
    ("a.b = c", "left_side", "a.b...."),
    ("a < b + c", "in_comparison", "a < b + c"),
    ("{a: 1}, {b}", "dict_ahead", "{a: 1}....."),
    ("if a", "keyword", ".f.."),
    ("a + b", "operator", "..+.."),
    ("anAb", "camel_case", "..Ab"),
    ("ab c", "in_word", "ab.c"),
    ("a(b)", "bracket_mark", ".(.)"),
    ("a\n" + "b" * 42, "column_40", "." * 42 + "bb"),
    ("a" * 501, "near_start", "a" * 500 + "."),
]


def marked(text: str, name: str) -> str:
    """Characters after which a label holds; a dot for every other, a _ for a newline."""
    column = python_columns(text)[name]
    shown = (("_" if c == "\n" else c) if on else "." for c, on in zip(text, column, strict=True))
    return "".join(shown)


@pytest.mark.parametrize(("text", "name", "expected"), CASES)
def test_what_a_label_means(text, name, expected):
    assert marked(text, name) == expected


def test_every_label_has_a_case_and_a_meaning():
    ours = {label.name for label in PYTHON if label.family != "loop"}
    assert {name for _, name, _ in CASES} == ours
    assert {label.name for label in PYTHON} == set(MEANINGS)
    assert len(PYTHON) == len({label.name for label in PYTHON})


def test_both_families_hold_labels_of_every_group():
    for family in ("dev", "test"):
        missing = {label.group for label in PYTHON} - {
            label.group for label in PYTHON if label.family == family
        }
        assert missing == set(), family


def after(text: str) -> list[int]:
    out = Context(text).run()
    starts = [0, *out.ends]
    return [bits for a, b, bits in zip(starts, out.ends, out.bits) for _ in range(b - a)]


def test_what_a_prefix_decides_does_not_change_with_what_follows():
    whole = after(HARD)
    for cut in range(len(HARD)):
        changed = [a ^ b for a, b in zip(after(HARD[:cut]), whole)]
        names = [name for name, bit in BIT.items() if any(bits & bit for bits in changed)]
        assert names == [], HARD[:cut]


def test_a_file_that_does_not_parse_keeps_the_labels_of_its_prefixes():
    marks = PythonLabels().marks("def f(:\n  'a' = (", "a.py")
    missing = {label.name for label, there in zip(PYTHON, marks.valued) if not there}
    assert missing == {label.name for label in PYTHON if not label.prefix}


def test_other_files_have_no_labels():
    assert PythonLabels().marks("x = 1\n", "a.txt") is None
