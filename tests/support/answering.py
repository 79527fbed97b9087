"""Models that answer tasks in a way that is known, and a tokenizer for their prompts."""

from functools import cache

import numpy as np
import torch
from support.planted import Planted

from pellucid.data.tokenizer import Tokenizer, train_tokenizer
from pellucid.eval.tasks import OPEN, TASKS, TaskBatch

SURE = 20.0


@cache
def code_tokenizer(vocab_size: int = 700) -> Tokenizer:
    """A byte-level BPE trained on prompts of all tasks and their answers."""
    rng, count = np.random.default_rng(5), lambda text: len(text) // 4
    drawn = [
        task(rng, distance, family=family, count=count)
        for task in TASKS.values()
        for family in ("loop", "dev", "test")
        for distance in (0, *task.distances[:1])
        for _ in range(6)
    ]
    texts = [p + a for d in drawn for p, a in ((d.prompt_a, d.answer_a), (d.prompt_b, d.answer_b))]
    return train_tokenizer(iter(texts), vocab_size=vocab_size)


def silent(tokens: torch.Tensor) -> torch.Tensor:
    """A unit that does nothing."""
    return torch.zeros_like(tokens)


def lookup(batch: TaskBatch, vocab_size: int) -> Planted:
    """Knows the answer after every prompt of a batch, from a table of whole prompts."""
    table = {}
    sides = (
        (batch.tokens_a, batch.last_a, batch.answer_a),
        (batch.tokens_b, batch.last_b, batch.answer_b),
    )
    for tokens, last, answer in sides:
        for row, end, token in zip(tokens.tolist(), last.tolist(), answer.tolist()):
            # An open answer is anything but A; the eot is never A.
            table[tuple(row[: end + 1])] = 0 if token == OPEN else token

    def predict(tokens: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(*tokens.shape, vocab_size)
        for i, row in enumerate(tokens.tolist()):
            for end in range(len(row)):
                if tuple(row[: end + 1]) in table:
                    logits[i, end, table[tuple(row[: end + 1])]] = SURE
        return logits

    return Planted([silent], vocab_size=vocab_size, predict=predict)


def constant(logits: torch.Tensor) -> Planted:
    """Predicts the same (vocab,) logits everywhere."""
    return Planted(
        [silent], vocab_size=len(logits), predict=lambda tokens: logits.expand(*tokens.shape, -1)
    )
