"""The prefix lexer against Python's own tokenizer and parser, on the standard library."""

import ast
import io
import tokenize

import numpy as np
import pytest

from pellucid.data.python_labels import LOOP, PrefixLexer, labels_of
from pellucid.data.python_source import PythonCore, standard_library

BLOCKS = {
    "in_function": (ast.FunctionDef, ast.AsyncFunctionDef),
    "in_class": (ast.ClassDef,),
    "in_loop": (ast.For, ast.AsyncFor, ast.While),
}


def bits(text: str, name: str) -> np.ndarray:
    return (PrefixLexer().feed(text) >> LOOP.index(name)) & 1 == 1


def marked(text: str, name: str) -> str:
    """The characters after which a label holds; a dot for every other."""
    return "".join(c if on else "." for c, on in zip(text, bits(text, name), strict=True))


@pytest.mark.parametrize(
    "text, name, expected",
    [
        ("a = 'b' + c", "in_string", "....'b....."),
        ("''", "in_string", "'."),
        ("'''a'b''' c", "in_string", "'.'a'b''..."),
        (r"'\'' x", "in_string", r"'\'..."),
        (r"r'\\' x", "in_string", r".'\\..."),
        ("'open\nx", "in_string", "'open.."),
        ("a # 'b'\nc", "in_comment", "..# 'b'.."),
        ("f'{a}b' c", "in_string", ".'{.}b..."),
        ("f'{{a}}'", "in_string", ".'{{a}}."),
        ("f'{a:#x}' # b", "in_comment", "..........# b"),
        ("f'{a[1]}'", "in_curly", "...a..].."),
        (r"rf'\{x}' # b", "in_curly", ".....x......"),
        (r"rf'\{x}' # b", "in_string", r"..'\{.}....."),
        (r"f'\{x}' # b", "in_string", r".'\{.}....."),
        (r"rf'{x:\}' # b", "in_string", r"..'{.:\}....."),
        (r"r'\{x}' # b", "in_string", r".'\{x}....."),
        ("f(a[1], {2})", "in_square", "...[1......."),
        ("f(a[1], {2})", "in_round", ".(a..], ..}."),
        ("f(a[1], {2})", "in_nested_brackets", "...[1...{2.."),
        ("a.bc + 1.5 .d", "attribute", "..bc........d"),
        ("a. \\\n b + (c.\n d)", "attribute", ".. \\\n b......\n d."),
        ("a.\nb", "attribute", "...."),
        ("a\n  b\n\n c", "line_start", ".\n  .\n\n ."),
    ],
)
def test_single_states(text, name, expected):
    assert marked(text, name) == expected


def test_labels_do_not_depend_on_how_the_text_is_cut_or_goes_on():
    text = "class A:\n    def f(self, x=(1, 2)):\n        return f'{x!r:>{10}}' + '''a\nb''' # c\n\nz = 1\n"
    whole = PrefixLexer().feed(text)
    for cut in range(1, len(text)):
        lexer = PrefixLexer()
        assert (lexer.feed(text[:cut]) == whole[:cut]).all(), cut
        assert (lexer.feed(text[cut:]) == whole[cut:]).all(), cut


def test_every_byte_of_a_character_has_its_label():
    text = "x = 'é→' # ü\n"
    characters = PrefixLexer().feed(text)
    expected = [c for c, s in zip(characters, text, strict=True) for _ in s.encode()]
    assert labels_of(text).tolist() == expected


def spans(text: str) -> dict[str, np.ndarray]:
    """What Python's tokenizer and parser say of every character, and where they can."""
    lines = text.splitlines(keepends=True)
    starts = np.concatenate([[0], np.cumsum([len(line) for line in lines])])

    def at(place: tuple[int, int]) -> int:
        return int(starts[place[0] - 1] + place[1])

    string, comment = np.zeros(len(text), bool), np.zeros(len(text), bool)
    formatted, depth = np.zeros(len(text), bool), np.zeros(len(text) + 1, int)
    fstring_at = None
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        first, end = at(token.start), at(token.end)
        kind = tokenize.tok_name[token.type]
        if kind == "FSTRING_START":
            fstring_at = first if fstring_at is None else fstring_at
        elif kind == "FSTRING_END":
            formatted[fstring_at:end], fstring_at = True, None
        elif kind == "STRING":
            body = token.string.lstrip("rbufRBUF")
            if "f" in token.string[: -len(body)].lower():
                formatted[first:end] = True
            string[end - len(body) : end - 1] = True
            if len(body) >= 6 and body[:3] in ('"' * 3, "'" * 3):
                string[end - len(body) + 1] = False  # two quotes are an empty string so far
        elif kind == "COMMENT":
            comment[first:end] = True
        elif kind == "OP" and token.string in "([{":
            depth[first:] += 1
        elif kind == "OP" and token.string in ")]}":
            depth[first:] -= 1
    return {
        "in_string": string,
        "in_comment": comment,
        "in_brackets": depth[:-1] > 0,
        "in_nested_brackets": depth[:-1] > 1,
        "known": ~formatted,
    }


def blocks(text: str, kinds: tuple[type, ...]) -> np.ndarray:
    """Lines (from 0) that stand in a body of the kinds, on lines of its own below the header."""
    inside = np.zeros(text.count("\n") + 2, bool)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, kinds) and _stands_alone(node.body[0], text.split("\n")):
            decorators = getattr(node.body[0], "decorator_list", [])
            first = min(n.lineno for n in (node.body[0], *decorators))
            inside[first - 1 : node.body[-1].end_lineno] = True
    return inside


def _stands_alone(node: ast.stmt, lines: list[str]) -> bool:
    before = lines[node.lineno - 1].encode()[: node.col_offset]
    return not before.strip() or before.strip() == b"@"


def disagreements(name: str, text: str) -> list[str]:
    """Where the lexer and Python differ, in words."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", " ")
    expected = spans(text)
    known = expected.pop("known")
    wrong = []
    for label, there in expected.items():
        differ = np.flatnonzero((bits(text, label) != there) & known)
        wrong += [f"{name}: {label} at {text[max(0, i - 30) : i + 1]!r}" for i in differ[:1]]
    line = np.cumsum([0] + [c == "\n" for c in text[:-1]])
    firsts = [i for i, c in enumerate(text) if not c.isspace() and known[i]]
    states = PrefixLexer().feed(text)
    for label, kinds in BLOCKS.items():
        inside = blocks(text, kinds)
        on = (states >> LOOP.index(label)) & 1 == 1
        comment = expected["in_comment"]
        differ = [i for i in firsts if on[i] != inside[line[i]] and not comment[i]]
        wrong += [f"{name}: {label} at {text[max(0, i - 30) : i + 1]!r}" for i in differ[:1]]
    return wrong


def library(every: int) -> list[tuple[str, str]]:
    root = standard_library()
    files = PythonCore(PythonCore.Config()).files()[::every]
    read = [(str(path.relative_to(root)), path.read_bytes()) for path in files]
    return [(name, raw.decode()) for name, raw in read if _is_utf8(raw)]


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


@pytest.mark.parametrize("every", [40, pytest.param(1, marks=pytest.mark.slow)])
def test_the_standard_library_is_read_as_python_reads_it(every):
    texts = library(every)
    assert len(texts) > 5
    wrong = [found for name, text in texts for found in disagreements(name, text)]
    assert wrong == []
