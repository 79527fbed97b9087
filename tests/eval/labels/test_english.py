"""Labels of plain text: hand-written cases, and that prefixes decide what they should."""

import pytest

from pellucid.eval.labels.english import ENGLISH, english_columns

TEXT = 'He said: "Don\'t (ever) go." The UN, 3.14.\n\n- He said "no\n\n12) It is: a b c. A b c '
CASES = [
    ('a "b" c', "in_quotes", '.."b...'),
    ("a “b\n\nc", "in_quotes", "..“b_.."),
    ("a (b) c", "in_parenthesis", "..(b..."),
    ("Ab c. De f", "first_word", "Ab....De.."),
    ("a. b 1.5", "sentence_ended", ".. ....."),
    ("Ab cD", "capitalised", "Ab..."),
    ("AB c", "all_capitals", ".B.."),
    ("- a\nb\n1. c", "in_list_item", ". a....  c"[:7] + ". c"),
    ("a 1.5", "in_digits", "..1.5"),
    ("ab a ab", "repeated_word", ".....ab"[:6] + "b"),
    ("a b c a b c", "repeated_trigram", "..........c"),
    ("a: b c. d", "after_clause_colon", ".. b c. ."),
    ("a b. c d", "last_word", "..b....d"),
]


@pytest.mark.parametrize(("text", "name", "expected"), CASES)
def test_what_a_label_means(text, name, expected):
    column = english_columns(text)[name]
    shown = (("_" if c == "\n" else c) if on else "." for c, on in zip(text, column, strict=True))
    assert "".join(shown) == expected


def test_every_label_has_a_case():
    assert {name for _, name, _ in CASES} == {label.name for label in ENGLISH}


def test_what_a_prefix_decides_does_not_change_with_what_follows():
    whole = english_columns(TEXT)
    for cut in range(1, len(TEXT)):
        part = english_columns(TEXT[:cut])
        for label in ENGLISH:
            if label.prefix:
                same = (part[label.name] == whole[label.name][:cut]).all()
                assert same, (label.name, TEXT[:cut])
