import numpy as np
import pytest
import torch

from pellucid.data.rows import Windows
from pellucid.errors import DataError

CONTEXT = 32


def all_rows(data, seed, steps, batch):
    found = [data.rows(seed, step, batch=batch, context=CONTEXT).tokens for step in range(steps)]
    return torch.cat(found)


def windows_of(data, split="train"):
    return Windows.of(len(data.split(split).tokens), CONTEXT, split)


def test_ranks_together_see_what_one_process_sees(generated_data):
    whole = generated_data.rows(3, 5, batch=8, context=CONTEXT)
    for world in (2, 4):
        parts = [
            generated_data.rows(3, 5, batch=8, context=CONTEXT).tokens[rank::world]
            for rank in range(world)
        ]
        joined = torch.stack(parts, dim=1).flatten(0, 1)
        assert torch.equal(joined, whole.tokens)


def test_rows_do_not_depend_on_how_they_are_batched(generated_data):
    steps = 6
    assert torch.equal(
        all_rows(generated_data, 1, steps, 8), all_rows(generated_data, 1, 4 * steps, 2)
    )


def test_rows_are_the_same_whatever_was_asked_before(generated_data):
    first = generated_data.rows(0, 9, batch=4, context=CONTEXT).tokens
    generated_data.rows(5, 2, batch=3, context=7)
    assert torch.equal(generated_data.rows(0, 9, batch=4, context=CONTEXT).tokens, first)


@pytest.mark.parametrize("context", [1, 7, 32, 100])
def test_an_epoch_predicts_every_token_at_most_once_and_nearly_all(context):
    n_tokens = 1003
    windows = Windows.of(n_tokens, context, "train")
    for epoch in range(3):
        starts = windows.starts(11, epoch * windows.count, windows.count)
        predicted = (starts[:, None] + np.arange(1, context + 1)).ravel()
        assert len(np.unique(predicted)) == len(predicted)
        assert predicted.min() >= 1 and predicted.max() < n_tokens
        assert len(predicted) >= n_tokens - 2 * context


def test_a_batch_that_straddles_two_epochs_holds_the_end_of_one_and_the_start_of_the_next():
    windows = Windows.of(1000, 10, "train")
    edge = windows.count
    straddling = windows.starts(4, edge - 3, 8)
    assert np.array_equal(straddling[:3], windows.starts(4, edge - 3, 3))
    assert np.array_equal(straddling[3:], windows.starts(4, edge, 5))
    many = windows.starts(4, 0, 3 * edge)
    epochs = [many[:edge], many[edge : 2 * edge], many[2 * edge :]]
    assert all(len(np.unique(epoch)) == edge for epoch in epochs)
    assert len({epoch.tobytes() for epoch in epochs}) == 3


def test_epochs_begin_at_different_phases_and_cut_at_different_places():
    windows = Windows.of(5000, 64, "train")
    phases = {int(windows.starts(0, e * windows.count, 1)[0]) % 64 for e in range(40)}
    assert len(phases) > 15


def test_seeds_give_different_orders(generated_data):
    first = generated_data.rows(0, 0, batch=8, context=CONTEXT).tokens
    assert not torch.equal(first, generated_data.rows(1, 0, batch=8, context=CONTEXT).tokens)


def test_the_order_does_not_change_between_versions():
    assert Windows.of(100, 8, "train").starts(0, 0, 14).tolist() == GOLDEN_STARTS


# The permutation of eleven windows in test_permutation.py, times 8, from a phase of 5;
# then the second epoch.
GOLDEN_STARTS = [45, 37, 85, 53, 61, 5, 77, 29, 13, 69, 21, 29, 13, 45]


def test_tokens_are_those_of_the_split_where_the_row_begins(generated_data):
    split, windows = generated_data.split("val"), windows_of(generated_data, "val")
    batch = generated_data.rows(2, 1, batch=5, context=CONTEXT, split="val")
    assert batch.tokens.dtype == torch.int64 and batch.tokens.shape == (5, CONTEXT + 1)
    for row, start in enumerate(windows.starts(2, 5, 5)):
        here = slice(start, start + CONTEXT + 1)
        assert batch.tokens[row].tolist() == split.tokens[here].tolist()
        for name, labels in split.side.items():
            assert batch.side[name][row].tolist() == labels[here].tolist()


def test_doc_id_is_the_document_and_changes_exactly_at_eot(generated_data):
    split, eot = generated_data.split("train"), generated_data.tokenizer.eot
    batch = generated_data.rows(2, 1, batch=16, context=CONTEXT)
    starts = windows_of(generated_data).starts(2, 16, 16)
    for row, start in enumerate(starts):
        for place in (0, CONTEXT // 2, CONTEXT):
            doc = int(batch.doc_id[row, place])
            assert split.offsets[doc] <= start + place < split.offsets[doc + 1]
    changes = batch.doc_id.diff(dim=1) == 1
    assert torch.equal(changes, batch.tokens[:, 1:] == eot)


def test_a_split_of_one_row_gives_that_row():
    assert Windows.of(9, 8, "val").starts(0, 0, 3).tolist() == [0, 0, 0]
    assert set(Windows.of(12, 8, "val").starts(0, 0, 40)) <= {0, 1, 2, 3}


def test_a_split_shorter_than_a_row_is_refused(generated_data):
    n_tokens = len(generated_data.split("val").tokens)
    message = rf"split 'val' has {n_tokens} tokens: fewer than the {n_tokens + 1} of one row"
    with pytest.raises(DataError, match=message):
        generated_data.rows(0, 0, batch=1, context=n_tokens, split="val")
    with pytest.raises(DataError, match="split 'dev' is unknown: choose one of train, val, test"):
        generated_data.rows(0, 0, batch=1, context=8, split="dev")
