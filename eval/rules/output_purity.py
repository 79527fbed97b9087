"""How few tokens a unit speaks for: where its direct effect on the logits is concentrated.

What a unit writes, seen through the unembedding, less its mean over the vocabulary: the share of
its squared sum that its ten largest entries hold; how evenly it is spread, as an entropy; and the
share of the ten tokens raised most that are of one class. A unit of an early layer may write for
later layers alone, and then this says nothing.
"""

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor

TOP = 10


def purity(logits: Float[Tensor, "unit vocab"]) -> Float[np.ndarray, " unit"]:
    """Share of each unit's squared effect on the logits that its ten tokens hold; 0 without one."""
    squares = _centered(logits).square()
    top = squares.topk(min(TOP, squares.shape[1]), dim=1).values.sum(1)
    whole = squares.sum(1)
    return torch.where(whole > 0, top / whole.clamp_min(1e-30), 0.0).cpu().numpy()


def classes_of_words(
    tokens: Integer[np.ndarray, " token"], classes: Integer[np.ndarray, " token"], vocab_size: int
) -> Integer[np.ndarray, " vocab"]:
    """The class that each word of the vocabulary most often has; one of its own where it has none.

    A class below 0 is none; of equally frequent ones it is the first.
    """
    known, n = classes >= 0, int(classes.max(initial=0)) + 1
    cells = tokens[known].astype(np.int64) * n + classes[known]
    counted = np.bincount(cells, minlength=vocab_size * n).reshape(vocab_size, n)
    return np.where(counted.any(1), counted.argmax(1), n + np.arange(vocab_size))


def class_purity(
    logits: Float[Tensor, "unit vocab"], classes: Integer[np.ndarray, " vocab"]
) -> Float[np.ndarray, " unit"]:
    """Share of each unit's ten most promoted tokens that its most frequent token class holds."""
    top = logits.topk(min(TOP, logits.shape[1]), dim=1).indices.cpu().numpy()
    return np.array([np.bincount(classes[row]).max() / len(row) for row in top])


def output_entropy(logits: Float[Tensor, "unit vocab"]) -> Float[np.ndarray, " unit"]:
    """Entropy in bits of each unit's squared effect over the vocabulary."""
    squares = _centered(logits).square()
    share = squares / squares.sum(1, keepdim=True).clamp_min(1e-30)
    return (torch.special.entr(share).sum(1) / np.log(2)).cpu().numpy()


def _centered(logits: Float[Tensor, "unit vocab"]) -> Float[Tensor, "unit vocab"]:
    logits = logits.double()
    return logits - logits.mean(1, keepdim=True)
