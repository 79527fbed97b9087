"""Labels beside a corpus's text: one more side channel, `labels`, for corpora that hold Python."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from pellucid.data.documents import Document
from pellucid.data.python_labels import labels_of
from pellucid.settings.fields import Config, setting

CHANNEL = "labels"
UNKNOWN = -1


@dataclass(frozen=True, kw_only=True)
class LabeledConfig(Config):
    """What the configs of corpora with labels share."""

    labels: Literal["none", "loop"] = setting("none")
    """loop: say beside each token of Python source which of the labels of that family hold after
    it, for layers and rules that learn from them; other text has none."""


def channels(config: LabeledConfig) -> tuple[str, ...]:
    """The side channels that a corpus has because of its labels."""
    return () if config.labels == "none" else (CHANNEL,)


def labeled(documents: Iterator[Document], config: LabeledConfig) -> Iterator[Document]:
    """The documents with their labels, where labels are asked for and not there yet.

    A label is the bits of `python_labels.LOOP` after a byte, or -1 where a name does not end in
    `.py`.
    """
    for document in documents:
        if config.labels == "none" or CHANNEL in document.side:
            yield document
        else:
            labels = labels_by_name(document.name, document.text)
            yield replace(document, side={**document.side, CHANNEL: labels})


def labels_by_name(name: str, text: str) -> np.ndarray:
    """The labels `(byte,)` int32 of a file: unknown unless its name says that it is Python."""
    if name.endswith(".py"):
        return labels_of(text)
    return np.full(len(text.encode(errors="surrogatepass")), UNKNOWN, dtype=np.int32)
