"""Cross-entropy by class, recall of names and calibration, on bits that are known."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.answering import code_tokenizer, constant
from support.planted import stream_of

from pellucid.eval.capability.calibration import (
    Guesses,
    calibration,
    expected_error,
    guess,
    selective,
)
from pellucid.eval.capability.cross_entropy_by_class import (
    END,
    PARTS,
    by_class,
    classes_of,
    cross_entropy_by_class,
    targets,
)
from pellucid.eval.capability.identifier_recall import (
    NEW,
    NO_NAME,
    by_distance,
    distances,
    identifier_recall,
)
from pellucid.eval.labels.classes import UNKNOWN, classes
from pellucid.eval.labels.english import EnglishLabels
from pellucid.eval.labels.python import PythonLabels
from pellucid.eval.labels.source import label_stream
from pellucid.eval.score import NoValue

VOCAB = code_tokenizer().vocab_size
BYTES = [bytes([i]) for i in range(1, 256)]


def byte_stream(*texts):
    """A stream in which every byte but the zero is a token, and 0 the eot."""
    return stream_of([list(text.encode()) for text in texts]), [b"", *BYTES]


def test_a_token_has_the_class_of_what_it_is(make_bench, stream):
    tokenizer = code_tokenizer()
    found = classes_of(make_bench(constant(torch.zeros(VOCAB))))
    assert (np.flatnonzero(found == UNKNOWN) == stream.offsets[:-1]).all()
    by_token = {}
    for token, name in zip(stream.tokens, found):
        by_token.setdefault(tokenizer.token_bytes[token], set()).add(PARTS[name])
    assert by_token[b" if"] == {"keyword"}
    assert by_token[b" ="] == {"operator"}
    assert by_token[b"\n"] == {"layout"}


def test_labels_of_another_source_do_not_change_the_classes(make_bench):
    bench = make_bench(constant(torch.zeros(VOCAB)))
    english = label_stream(bench.stream, code_tokenizer().token_bytes, EnglishLabels())
    other = replace(bench, labelled=lambda: english)
    np.testing.assert_array_equal(classes_of(other), classes_of(bench))


def test_the_end_of_a_text_is_a_class_of_what_is_predicted():
    stream, _ = byte_stream("ab", "c")
    here = np.array([UNKNOWN, 4, 5, UNKNOWN, 4])
    np.testing.assert_array_equal(targets(stream, here), [4, 5, END, 4, END])


def test_bits_are_those_of_the_token_that_is_predicted():
    """A model that pays 7 bits for every bracket and none for the rest."""
    texts = ["f(x)\n"] * 12
    stream, token_bytes = byte_stream(*texts)
    named = replace(stream, names=[f"{i}.py" for i in range(len(texts))])
    target = targets(stream, classes(label_stream(named, token_bytes, PythonLabels()))[1])
    bits = np.where(np.isin(stream.targets(), list(b"()")), 7.0, 0.0)
    found = by_class(stream, bits, target, seed=0)
    assert found["bracket"][:4] == (7.0, 7.0, 7.0, 12)
    assert found["identifier_first"].value == 0
    assert found[None].value == pytest.approx(14 / 6)


def test_classes_stand_beside_their_controls(make_bench):
    scores = {s.metric: s for s in cross_entropy_by_class(make_bench(constant(torch.zeros(VOCAB))))}
    keyword_score = scores["cross_entropy_by_class:keyword"]
    assert keyword_score.value == pytest.approx(np.log2(VOCAB), rel=1e-6)
    assert keyword_score.controls["random_twin"] == pytest.approx(np.log2(VOCAB), rel=1e-6)
    assert keyword_score.controls["kneser_ney_5gram"] < keyword_score.controls["bigram"]


def test_distances_are_counted_in_tokens_within_a_row():
    text = "ab = cd\nef = ab\ncd\n"
    stream, token_bytes = byte_stream(text)
    since = distances(stream, [text], token_bytes, context=100)
    # Position p predicts token p + 1, and the text begins at token 1: character i is position i.
    found = {i: int(since[i]) for i in np.flatnonzero(since != NO_NAME)}
    assert found == {0: NEW, 5: NEW, 8: NEW, 13: 13, 16: 11}
    short = distances(stream, [text], token_bytes, context=8)
    assert {i: int(short[i]) for i in np.flatnonzero(short != NO_NAME)} == {
        0: NEW,
        5: NEW,
        8: NEW,
        13: NEW,
        16: NEW,
    }


def test_names_are_not_recalled_across_documents():
    stream, token_bytes = byte_stream("ab\n", "ab\n")
    assert (distances(stream, ["ab\n", "ab\n"], token_bytes, context=100) <= NEW).all()


THRICE = "{name} = 1\n{name}\n# " + 60 * "x" + "\n{name}\n"
"""A name of two letters that is new, comes back after 7 bytes, and again after 66."""
PLACES = np.array([0, 7, 73])


def recalled(names: list[str], paid: Callable[[str], tuple[float, float, float]]) -> dict:
    """What is found of a model that pays so much for a name at its three places, and 7 elsewhere."""
    texts = [THRICE.format(name=name) for name in names]
    stream, token_bytes = byte_stream(*texts)
    bits = np.full(len(stream.tokens), 7.0)
    for first, name in zip(stream.offsets, names):
        bits[first + PLACES] = paid(name)
    since = distances(stream, texts, token_bytes, context=len(bits))
    return by_distance(stream, bits, since, seed=0)


def test_a_model_that_remembers_eight_tokens_recalls_no_further():
    found = recalled(["ab"] * 12, lambda _: (7.0, 0.0, 7.0))
    assert found["1-8"][:4] == (0.0, 0.0, 0.0, 12)
    assert found["33-128"][:4] == found["new"][:4] == (7.0, 7.0, 7.0, 12)
    assert found[None].value == 3.5
    assert set(found) == {None, "new", "1-8", "33-128"}


def test_a_model_that_knows_common_names_and_remembers_none_has_no_gap():
    """It is sure of them, which is no memory: a new one is as cheap."""
    found = recalled(["ab"] * 9 + ["yz"] * 3, lambda name: (1.0 if name == "ab" else 9.0,) * 3)
    assert [found[part].value for part in ("new", "1-8", "33-128", None)] == [3.0] * 4


def test_a_space_before_a_name_belongs_to_its_token(stream, texts):
    tokenizer = code_tokenizer()
    since = distances(stream, texts, tokenizer.token_bytes, context=512)
    for at in np.flatnonzero(since > NEW):
        one, before = stream.tokens[at + 1], stream.tokens[at + 1 - since[at]]
        spelled = [tokenizer.token_bytes[t].strip(b" ([{\"'.\n") for t in (one, before)]
        assert spelled[0][:1] == spelled[1][:1]


def test_recall_stands_beside_its_controls(make_bench):
    scores = {s.metric: s for s in identifier_recall(make_bench(constant(torch.zeros(VOCAB))))}
    assert {"identifier_recall", "identifier_recall:new", "identifier_recall:9-32"} <= set(scores)
    assert scores["identifier_recall"].value == pytest.approx(np.log2(VOCAB), rel=1e-6)
    assert "kneser_ney_5gram" in scores["identifier_recall"].controls


def sure_stream(n=40):
    return stream_of([[1] * 9 for _ in range(n)])


def test_a_model_that_is_as_right_as_it_is_sure_has_no_error():
    """A model that says 0.7 and is right on 7 of every 10."""
    stream = sure_stream()
    right = np.tile([True] * 7 + [False] * 3, 40)
    found = expected_error(Guesses(np.full(400, 0.7), right), stream, seed=0)
    assert found.value == pytest.approx(0, abs=1e-12)
    over = expected_error(Guesses(np.full(400, 0.95), right), stream, seed=0)
    assert over[:3] == pytest.approx((0.25, 0.25, 0.25))


def test_errors_of_opposite_signs_do_not_cancel_across_bins():
    right = np.tile([True] * 5 + [False] * 5, 40)
    sure = np.tile([0.6] * 5 + [0.4] * 5, 40)
    found = expected_error(Guesses(sure, right), sure_stream(), seed=0)
    assert found.value == pytest.approx(0.4)


def test_the_interval_of_the_error_covers_it():
    """Documents of a model that is overconfident by 0.1: how often the interval holds 0.1."""
    stream, covered = stream_of([[1] * 49 for _ in range(60)]), 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        right = rng.random(len(stream.tokens)) < 0.6
        found = expected_error(Guesses(np.full(len(right), 0.7), right), stream, seed=seed)
        covered += found.low <= 0.1 <= found.high
    assert covered >= 52


def test_the_surer_half_is_chosen_on_other_documents():
    stream = sure_stream()
    in_a = stream.document % 2 == 0
    sure = np.tile([0.9] * 5 + [0.2] * 5, 40)
    right = np.tile([True] * 4 + [False] * 6, 40)
    assert selective(Guesses(sure, right), stream, in_a, seed=0).value == pytest.approx(0.8)
    # What is known of half A is not what is scored.
    on_a = np.where(in_a, True, right)
    assert selective(Guesses(sure, on_a), stream, in_a, seed=0).value == pytest.approx(0.8)


def test_guesses_are_the_likeliest_tokens(make_bench, stream):
    logits = torch.zeros(VOCAB)
    favourite = int(np.bincount(stream.tokens).argmax())
    logits[favourite] = 4.0
    found = guess(constant(logits), stream, context=32)
    np.testing.assert_allclose(found.sure, float(logits.softmax(-1).max()), rtol=1e-5)
    np.testing.assert_array_equal(found.right, stream.targets() == favourite)
    scores = {s.metric: s for s in calibration(make_bench(constant(logits)))}
    assert scores["calibration:accuracy"].value == pytest.approx(found.right.mean())
    assert scores["calibration"].value == pytest.approx(abs(found.right.mean() - found.sure[0]))
    assert scores["calibration"].better == "lower"


def test_a_model_of_nan_is_a_sentence(stream):
    with pytest.raises(NoValue, match="predicts NaN"):
        guess(constant(torch.full((VOCAB,), torch.nan)), stream, context=32)


def test_text_that_is_no_python_has_no_classes_and_no_names(make_bench):
    bench = make_bench(constant(torch.zeros(VOCAB)))
    broken = np.array([*code_tokenizer().encode("((( no python ")] * 3)
    tokens = np.concatenate([[bench.stream.eot], broken])
    other = replace(
        bench.stream,
        tokens=tokens,
        offsets=np.array([0, len(tokens)]),
        names=["x"],
        doc_bytes=np.array([42]),
    )
    for reader in (bench.reader, bench.twin):
        reader.stream = other
    for metric in (cross_entropy_by_class, identifier_recall):
        with pytest.raises(NoValue, match="held-out"):
            metric(bench)
