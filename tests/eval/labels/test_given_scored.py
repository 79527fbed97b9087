"""A user's labels under the metrics themselves: units planted to be them score 1, on either split."""

import json
import re

import numpy as np
import pytest
from support.planted import Planted, before, random_stream

from pellucid.eval.concepts import CONCEPTS
from pellucid.eval.labels import label_stream
from pellucid.eval.labels.choose import source_of
from pellucid.eval.labels.given import GivenLabels
from pellucid.eval.reader import Reader
from pellucid.eval.workbench import Workbench

VOCAB, CONTEXT = 8, 512
LETTERS = [b"", *(bytes([97 + i]) for i in range(VOCAB - 1))]
STREAM = random_stream(24, 60, vocab_size=VOCAB)


def behind_a(text: str, _name: str) -> dict:
    """The letter behind an a."""
    return {"behind_a": [(m.end(), min(m.end() + 1, len(text))) for m in re.finditer("a", text)]}


def by_function(folder, **said):
    function = lambda text, name: behind_a(text, name)
    for name, value in ({"families": {"behind_a": "both"}} | said).items():
        setattr(function, name, value)
    return GivenLabels(function, "f")


def by_file(folder, **said):
    bounds = zip(STREAM.names, STREAM.offsets, STREAM.offsets[1:])
    texts = {n: b"".join(LETTERS[t] for t in STREAM.tokens[a + 1 : b]) for n, a, b in bounds}
    spans = [
        {"document": name, "start": start, "end": end, "label": "behind_a", **said}
        for name, text in texts.items()
        for start, end in behind_a(text.decode(), name)["behind_a"]
    ]
    path = folder / "spans.jsonl"
    path.write_text("\n".join(map(json.dumps, spans)))
    return source_of(str(path))


def score(name: str, source, split: str):
    """What a metric of units against labels gives of units one of which is the label."""
    rules = [lambda t: before(t) == 1, lambda t: t == 2, lambda t: t % 3 == 0]
    reader = Reader(Planted(rules, vocab_size=VOCAB), STREAM, CONTEXT, keep_inputs=True)
    table = label_stream(STREAM, LETTERS, source)
    about = {"vocab_size": VOCAB, "split": split, "seed": 0, "labelled": lambda: table}
    (found,) = CONCEPTS[name].measure(Workbench(reader, reader, STREAM.tokens, **about))
    return found


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("given", [by_function, by_file])
@pytest.mark.parametrize("name", ["concept_coverage", "concept_reconstruction"])
def test_a_unit_that_is_a_users_label_scores_one(tmp_path, given, name, split):
    found = score(name, given(tmp_path), split)
    # But for the first letter of a row, whose left neighbour the model does not see.
    assert found.value == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(
    ("given", "said", "split"),
    [
        (by_function, {"families": {"behind_a": "test"}}, "val"),
        (by_function, {"lookahead": {"behind_a"}}, "val"),
        (by_file, {"family": "dev"}, "test"),
        (by_file, {"prefix": False}, "test"),
    ],
)
def test_labels_of_which_none_fits_are_no_value_and_no_mistake(tmp_path, given, said, split):
    family = {"val": "dev", "test": "test"}[split]
    found = score("concept_coverage", given(tmp_path, **said), split)
    assert found.value is None
    assert found.flags[0] == (
        f"no value: none of 1 labels is of the family '{family}', which goes with the split "
        f"'{split}', and decided by the text up to a token"
    )


def test_the_labels_are_those_of_the_letters():
    table = label_stream(STREAM, LETTERS, by_function(None))
    follows = np.append(False, STREAM.tokens[:-1] == 1)
    real = STREAM.tokens != STREAM.eot
    np.testing.assert_array_equal(table.after[real, 0], follows[real])
