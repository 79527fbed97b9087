"""Modified Kneser–Ney n-grams on integer tokens, fitted and queried by sorting alone.

Every m-gram is an integer: its (m-1)-gram's rank, times the vocabulary, plus its last token. A rank
is below the number of training tokens, so the product stays far from 2**63 for any vocabulary and
order.

Source: Chen & Goodman, "An empirical study of smoothing techniques for language modeling" (1999).
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Integer

from pellucid.errors import DataError

MISSING = -1


@dataclass(frozen=True)
class Order:
    """The table of one order m: what an m-gram adds, and what its context leaves to order m-1."""

    keys: Integer[np.ndarray, " gram"]
    """Sorted: rank of the context (an (m-1)-gram) times the vocabulary, plus the last token."""
    seen: Float[np.ndarray, " gram"]
    """(count - discount) / total of the context."""
    backoff: Float[np.ndarray, " context"]
    """Weight of the lower order after each context; 1 where the context never continues."""


class NGram:
    """Interpolated modified Kneser–Ney model of one stream of training tokens."""

    def __init__(
        self, tokens: Integer[np.ndarray, " token"], vocab_size: int, *, order: int = 5
    ) -> None:
        """Fit on `tokens`, each in [0, vocab_size). About 100 bytes of working memory per token."""
        if len(tokens) < order:
            raise DataError(f"an n-gram of order {order} needs {order} tokens, got {len(tokens)}")
        if int(tokens.max()) >= vocab_size:
            raise DataError(f"token {int(tokens.max())} is outside the vocabulary of {vocab_size}")
        self.vocab_size = vocab_size
        self.order = order
        self.orders = _fit(np.asarray(tokens), vocab_size, order)

    def log2_probs(self, tokens: Integer[np.ndarray, " token"]) -> Float[np.ndarray, " token"]:
        """log2 p(token | the up to order-1 tokens before it) for every token, in bits (<= 0)."""
        tokens = np.asarray(tokens, dtype=np.int64)
        context = np.zeros(len(tokens), dtype=np.int64)
        probs = np.full(len(tokens), 1.0 / self.vocab_size)
        for table in self.orders:
            gram = _find(table.keys, context, tokens, self.vocab_size)
            known = context != MISSING
            seen = np.where(gram != MISSING, table.seen[gram], 0.0)
            probs = np.where(known, seen + table.backoff[context] * probs, probs)
            # The m-gram that ends one token earlier is the context of order m+1 here.
            context = np.concatenate([[MISSING], gram[:-1]])
        return np.log2(probs)


def _fit(tokens: np.ndarray, vocab_size: int, order: int) -> list[Order]:
    """All orders from 1 to `order`. Orders below the highest count distinct left neighbors."""
    rank = np.zeros(len(tokens) + 1, dtype=np.int64)
    keys_below, totals_below, tables = None, None, []
    for m in range(1, order + 1):
        # rank[:-1] holds the (m-1)-gram that ends just before each token that has one.
        keys = rank[:-1] * vocab_size + tokens[m - 1 :]
        contexts = 1 if keys_below is None else len(keys_below)
        suffix_rank = rank[1:]
        keys, first, rank, counts = _rank(keys)
        if m > 1:
            distinct = np.bincount(suffix_rank[first], minlength=contexts)
            tables.append(_table(keys_below, distinct, totals_below, vocab_size))
        keys_below, totals_below = keys, contexts
    tables.append(_table(keys_below, counts, totals_below, vocab_size))
    return tables


def _rank(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sorted unique keys, a position of each, the rank of every key, and how often each occurs."""
    # PyTorch sorts numbers of 64 bits twice as fast as NumPy.
    ordered, order = (each.numpy() for each in torch.sort(torch.from_numpy(keys), stable=True))
    new = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    rank = np.empty(len(keys), dtype=np.int64)
    rank[order] = np.cumsum(new) - 1
    starts = np.flatnonzero(new)
    return ordered[starts], order[starts], rank, np.diff(np.append(starts, len(keys)))


def _table(keys: np.ndarray, counts: np.ndarray, contexts: int, vocab_size: int) -> Order:
    """Discount the counts of one order; what is taken off goes to the order below."""
    discount = np.array([0.0, *_discounts(counts)])[np.minimum(counts, 3)]
    context = keys // vocab_size
    total = np.bincount(context, weights=counts, minlength=contexts)
    freed = np.bincount(context, weights=discount, minlength=contexts)
    backoff = np.divide(freed, total, out=np.ones(contexts), where=total > 0)
    seen = np.divide(counts - discount, total[context], out=np.zeros(len(keys)), where=counts > 0)
    return Order(keys, seen, backoff)


def _discounts(counts: np.ndarray) -> tuple[float, float, float]:
    """D1, D2, D3+ of Chen & Goodman eq. 26; 0.5 where too few counts of counts define one."""
    n = np.bincount(np.minimum(counts, 5), minlength=5).astype(float)
    scale = n[1] / (n[1] + 2 * n[2]) if n[1] else 0.5
    raw = [m - (m + 1) * scale * n[m + 1] / n[m] if n[m] else 0.5 for m in (1, 2, 3)]
    return tuple(d if 0 < d < m else 0.5 for m, d in zip((1, 2, 3), raw, strict=True))


def _find(keys: np.ndarray, context: np.ndarray, tokens: np.ndarray, vocab_size: int) -> np.ndarray:
    """Rank of each (context, token) among the keys, MISSING where it was never seen."""
    wanted = context * vocab_size + tokens
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where((context != MISSING) & (keys[place] == wanted), place, MISSING)
