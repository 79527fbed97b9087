"""The generators: every prompt is Python, its cue decides, and its families share nothing."""

import ast
import string

import numpy as np
import pytest
import torch
from support.answering import code_tokenizer

from pellucid.errors import UserError
from pellucid.eval.tasks import (
    DISTANCES,
    FAMILIES,
    OPEN,
    TASKS,
    Pair,
    draw,
    encode,
    find_task,
    pack,
    pools,
)

LETTERS = lambda text: len(text) // 4

# Either answer may follow either prompt: the cue speaks of meaning, or of style.
SOFT = {
    "with_open",
    "for_while",
    "final_kwarg",
    "set_or_string",
    "set_or_string_fixedvarname",
    "class_init",
    "var_swap",
    "enumerate_range",
    "yield_return",
    "import_alias",
    "decorator_def",
    "keyword_only",
    "slice_colon",
    "super_init",
    "fstring_brace",
    "if_equals",
    "bracket_counting",
}


def parses(text):
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def pairs_of(task, family, distance, n=5, seed=0):
    rng = np.random.default_rng(seed)
    return [task(rng, distance, family=family, count=LETTERS) for _ in range(n)]


def test_there_are_twenty_and_ten():
    held_out = [task.held_out for task in TASKS.values()]
    assert (held_out.count(False), held_out.count(True)) == (20, 10)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", TASKS)
def test_prompts_with_their_answers_are_python(name, family):
    task = TASKS[name]
    for distance in (0, *task.distances):
        for pair in pairs_of(task, family, distance):
            assert parses(pair.prompt_a + pair.answer_a), pair
            assert parses(pair.prompt_b + pair.answer_b), pair


@pytest.mark.parametrize("name", sorted(set(TASKS) - SOFT))
def test_the_answers_cannot_be_exchanged(name):
    """Where the grammar decides, at least one of the two exchanged texts is no Python."""
    for pair in pairs_of(TASKS[name], "dev", 0, n=20):
        exchanged = (pair.prompt_a + pair.answer_b, pair.prompt_b + pair.answer_a)
        assert not all(map(parses, exchanged)), pair


def test_bracket_counting_closes_what_it_opened():
    for pair in pairs_of(TASKS["bracket_counting"], "dev", 0, n=20):
        assert not parses(pair.prompt_a + pair.answer_b)
        assert not parses(pair.prompt_b + pair.answer_a)


def test_the_families_share_no_words_and_no_templates():
    lists = (pools.VARIABLES, pools.FUNCTIONS, pools.CLASSES, pools.WORDS, pools.READ, pools.WRITE)
    for words in (*lists, pools.MODULES):
        dealt = [set(pools.dealt(words, family)) for family in FAMILIES]
        assert len(set(words)) == len(words)
        assert sum(map(len, dealt)) == len(words)
    for task in TASKS.values():
        forms = [{pair.form for pair in pairs_of(task, family, 0, n=30)} for family in FAMILIES]
        assert not (forms[0] & forms[1] or forms[0] & forms[2] or forms[1] & forms[2])


def test_no_name_is_a_keyword_and_filler_names_stand_nowhere_else():
    assert all(word.isidentifier() and parses(f"{word} = 1") for word in pools.VARIABLES)
    task = TASKS["set_or_string"]
    for pair in pairs_of(task, "dev", 32, n=20):
        lines = pair.prompt_a.split("\n")
        name = lines[-1].strip()
        made = next(i for i, line in enumerate(lines) if "set()" in line)
        between = string.punctuation.join(lines[made + 1 : -1]).split("for ")[0]
        assert name not in between.replace(".", " ").replace("(", " ").split()


@pytest.mark.parametrize("distance", DISTANCES)
def test_the_filler_is_as_long_as_was_asked(distance):
    tokenizer = code_tokenizer()
    for task in TASKS.values():
        if distance not in task.distances:
            continue
        far = draw(task, tokenizer, 8, distance=distance)
        # Encoded together, pieces of filler may take a token less than apart.
        assert far.lengths[0] >= 0.85 * distance, task.name
        assert far.lengths[1] <= distance + 90, task.name


def test_a_batch_spells_out_its_prompts_and_answers():
    tokenizer = code_tokenizer()
    for task in TASKS.values():
        batch = draw(task, tokenizer, 6)
        sides = (
            (batch.tokens_a, batch.last_a, batch.answer_a, "prompt_a", "answer_a"),
            (batch.tokens_b, batch.last_b, batch.answer_b, "prompt_b", "answer_b"),
        )
        for tokens, last, answers, prompt, answer in sides:
            for row, end, token, pair in zip(tokens.tolist(), last.tolist(), answers, batch.pairs):
                assert row[0] == tokenizer.eot
                assert set(row[end + 1 :]) <= {tokenizer.eot}
                whole = getattr(pair, prompt) + getattr(pair, answer)
                read = tokenizer.decode(row[1 : end + 1])
                assert whole.startswith(read), task.name
                if token != OPEN:
                    assert whole.startswith(read + tokenizer.decode([int(token)]))
        assert (batch.answer_a != batch.answer_b).all()
        assert ((batch.answer_b == OPEN) == task.one_vs_rest).all()


def test_bytes_alone_are_enough():
    """Under a tokenizer without merges every answer is its first byte that differs."""
    tokenizer = code_tokenizer(257)
    for task in TASKS.values():
        batch = draw(task, tokenizer, 4)
        assert len(batch) == 4
        for token in batch.answer_a.tolist():
            assert len(tokenizer.token_bytes[token]) == 1


def test_the_same_seed_gives_the_same_batch():
    tokenizer, task = code_tokenizer(), TASKS["var_if"]
    first, again = (draw(task, tokenizer, 8, distance=8, seed=3) for _ in range(2))
    assert first.pairs == again.pairs
    assert torch.equal(first.tokens_a, again.tokens_a)
    assert draw(task, tokenizer, 8, distance=8, seed=4).pairs != first.pairs


def test_a_subset_keeps_rows_together():
    batch = draw(TASKS["for_while"], code_tokenizer(), 8)
    mask = torch.tensor([True, False] * 4)
    for part, rows in ((batch.subset(mask), [0, 2, 4, 6]), (batch.subset(slice(2, 4)), [2, 3])):
        assert part.pairs == tuple(batch.pairs[i] for i in rows)
        assert torch.equal(part.last_b, batch.last_b[rows])
        assert part.aligned.tolist() == batch.aligned[rows].tolist()


def test_answers_are_encoded_with_their_prompts():
    """`ab` and `c` are tokens: alone `b` would be the answer, in running text it is `ab`."""
    codes = {"xab": [9, 2], "xac": [9, 1, 3], "yab": [8, 2], "yac": [8, 1, 3]}
    found = encode(Pair("xa", "ya", "b", "c"), codes.__getitem__)
    assert found == ([9], [8], 2, 1)


def test_shared_beginnings_belong_to_the_prompt():
    found = encode(Pair("x", "yy", "else", "elif"), lambda text: list(text.encode()))
    assert (bytes(found.prompt_a), bytes(found.prompt_b)) == (b"xel", b"yyel")
    assert bytes([found.answer_a, found.answer_b]) == b"si"


@pytest.mark.parametrize(
    "answers, sentence",
    [(("ab", "abc"), "begins with all of the other"), (("ab", "ab"), "begins with all")],
)
def test_answers_that_are_not_distinguishable_are_refused(answers, sentence):
    tokenizer = code_tokenizer(257)
    with pytest.raises(UserError, match=f"'mine'.*{sentence}"):
        pack([Pair("x", "y", *answers)], tokenizer, name="mine")


def test_answers_that_begin_differently_after_each_prompt_are_refused():
    codes = {"xa": [1, 2], "xb": [1, 3], "ya": [1, 4], "yb": [1, 3]}
    found = encode(Pair("x", "y", "a", "b"), codes.__getitem__)
    assert "begin with other tokens after 'x' than 'y'" in found


def test_what_is_not_there_is_a_sentence():
    tokenizer = code_tokenizer()
    with pytest.raises(UserError, match="prompts have up to .* at most the context, 12"):
        draw(TASKS["else_elif"], tokenizer, 8, context=12)
    with pytest.raises(UserError, match="'for_while' has no distance 8"):
        draw(TASKS["for_while"], tokenizer, 8, distance=8)
    with pytest.raises(UserError, match="'train' is unknown: loop, dev, test"):
        TASKS["for_while"](np.random.default_rng(0), family="train", count=len)
    with pytest.raises(UserError, match="'nope' is unknown: single_double_quote"):
        find_task("nope")
    with pytest.raises(UserError, match="no pair was given"):
        pack([], tokenizer, name="mine")
