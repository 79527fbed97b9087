"""The corpora, by the word that chooses them: `data=python`, `data=files data.path=…`.

A corpus is a `Configurable` with `side_channels`, `left_out`, `listing()` (lines that change when
the sources change, found without reading them) and `documents()` in an order that never varies.
A new one is one file and one line here.
"""

from collections.abc import Iterator
from typing import Protocol

from pellucid.data.documents import Document, LeftOut
from pellucid.data.generated import Generated
from pellucid.data.hub import HubDataset
from pellucid.data.latent import Latent
from pellucid.data.pypi import PyPI
from pellucid.data.python_source import PythonCore, PythonInstalled
from pellucid.data.text_files import TextFiles


class Corpus(Protocol):
    """What a corpus offers: its documents, one by one."""

    side_channels: tuple[str, ...]
    left_out: LeftOut

    def listing(self) -> list[str]: ...
    def documents(self) -> Iterator[Document]: ...


CORPORA = {
    "python": PythonCore,
    "python+site": PythonInstalled,
    "pypi": PyPI,
    "files": TextFiles,
    "hf": HubDataset,
    "generated": Generated,
    "latent": Latent,
}
