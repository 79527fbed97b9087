"""A workbench over held-out Python, read by a model that knows nothing."""

import numpy as np
import pytest
import torch
from support.answering import code_tokenizer, constant

from pellucid.eval.reader import Reader
from pellucid.eval.stream import Stream
from pellucid.eval.workbench import Workbench

CODE = '''import os


def first_{i}(path, size):
    """Return what is read."""
    if size == {i} and path is not None:
        return path
    names = [name for name in os.listdir(path) if name not in (size, {i})]
    while size == 3:
        size = size + {i}
        path = names[0]
    return {{"names": names, "size": (size, {i})}}


def second_{i}(value):
    for item in value:
        yield from item
    return value
'''


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """Twelve short files that differ in their numbers."""
    return [CODE.format(i=i) for i in range(12)]


@pytest.fixture(scope="session")
def stream(texts) -> Stream:
    tokenizer = code_tokenizer()
    laid = [[tokenizer.eot, *tokenizer.encode(text)] for text in texts]
    return Stream(
        tokens=np.concatenate(laid).astype(np.int64),
        offsets=np.concatenate([[0], np.cumsum([len(d) for d in laid])]),
        names=[f"file_{i}.py" for i in range(len(laid))],
        doc_bytes=np.array([len(text.encode()) for text in texts]),
        eot=tokenizer.eot,
        complete=True,
    )


@pytest.fixture
def make_bench(stream):
    """make_bench(model) is a workbench of a planted model beside one that is even everywhere."""

    def make(model, context=256, **fields) -> Workbench:
        size = code_tokenizer().vocab_size
        twin = constant(torch.zeros(size))
        return Workbench(
            reader=Reader(model, stream, context),
            twin=Reader(twin, stream, context),
            train=stream.tokens,
            vocab_size=size,
            split="val",
            seed=0,
            tokenizer=code_tokenizer(),
            **fields,
        )

    return make
