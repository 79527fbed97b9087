"""Corpus to tokens: `prepare(DataConfig())` gives memory-mapped tokens and `rows(seed, step)`."""

from pellucid.data.cache import open_prepared, prepare
from pellucid.data.config import DataConfig
from pellucid.data.corpora import CORPORA
from pellucid.data.documents import Document
from pellucid.data.rows import Batch
from pellucid.data.store import Split, TokenData
from pellucid.data.tokenizer import Tokenizer

__all__ = [
    "CORPORA",
    "Batch",
    "DataConfig",
    "Document",
    "Split",
    "TokenData",
    "Tokenizer",
    "open_prepared",
    "prepare",
]
