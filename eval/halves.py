"""Two halves of a held-out stream: choices are made on A, and what was chosen is scored on B.

Whole documents go to a half, because tokens of one file are not independent draws. Units, rules,
thresholds and layers picked on the text that scores them would score themselves (DESIGN §3.4).
"""

from hashlib import blake2b

import numpy as np
from jaxtyping import Bool, Integer

from pellucid.eval.score import NoValue
from pellucid.eval.stream import Stream


def halves(stream: Stream, seed: int) -> Bool[np.ndarray, " token"]:
    """Which tokens of the stream are in half A; the halves differ by less than the longest document.

    Documents are paired by length, and of each pair the seed and the two names decide which one
    goes to A: so the halves do not depend on the run, nor on the order of the documents. Raises
    NoValue for a stream of one document, which cannot be halved.
    """
    if stream.n_documents < 2:
        raise NoValue("the text is one document, and choices need another one than scores")
    lengths = np.diff(stream.offsets)
    draws = [_draw(name, seed) for name in stream.names]
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], draws[i]))
    in_a = np.zeros(len(lengths), dtype=bool)
    for first, second in zip(order[::2], order[1::2]):
        in_a[first if draws[first] <= draws[second] else second] = True
    if len(order) % 2:
        in_a[order[-1]] = draws[order[-1]] < draws[order[0]]
    return in_a[stream.document]


def rearranged(
    document: Integer[np.ndarray, " place"], rng: np.random.Generator
) -> Integer[np.ndarray, " place"]:
    """For each place another one, so that whole documents come in a drawn order.

    What is read at these places is handed from document to document: within one the order stays,
    and so does the autocorrelation, which a shuffle of tokens would destroy.
    """
    starts = np.flatnonzero(np.diff(document, prepend=-1))
    blocks = np.split(np.arange(len(document)), starts[1:])
    return np.concatenate([blocks[i] for i in rng.permutation(len(blocks))])


def _draw(name: str, seed: int) -> bytes:
    """A document's lot: the same wherever the document stands."""
    return blake2b(f"{seed}\0{name}".encode(errors="surrogatepass"), digest_size=16).digest()
