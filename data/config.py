"""Which text a model is trained on, and how it is cut into tokens."""

from dataclasses import dataclass
from typing import ClassVar

from pellucid.data.corpora import CORPORA
from pellucid.data.labels import LabeledConfig
from pellucid.data.tokenizer import SMALLEST_VOCABULARY
from pellucid.errors import ConfigError
from pellucid.settings.fields import Config, setting, slot

LARGEST_HELD_OUT = 0.5


@dataclass(frozen=True, kw_only=True)
class DataConfig(Config):
    """Which corpus, which tokenizer, and what is held out."""

    forward: ClassVar[str | None] = "corpus"

    corpus: Config = slot(CORPORA, "python")
    """Where the text comes from."""
    vocab_size: int = setting(1024, low=SMALLEST_VOCABULARY, high=2**20)
    """Tokens of the byte-level BPE that is trained on the train split (257: bytes alone)."""
    tokenizer: str | None = setting(None)
    """The path of a `tokenizer.json` to use instead of training one; it sets the vocabulary."""
    val_fraction: float = setting(0.05, above=0.0)
    """Share of the corpus, in bytes, to choose and tune on."""
    test_fraction: float = setting(0.05, above=0.0)
    """Share of the corpus, in bytes, that is opened only for final results."""
    near_duplicate: float = setting(0.8, above=0.0, high=1.0)
    """Documents whose five-word runs overlap this much (Jaccard) are copies; 1: only exact ones."""

    @property
    def labels(self) -> str:
        """Which family of labels stands beside the tokens; none where the corpus has no labels."""
        return self.corpus.labels if isinstance(self.corpus, LabeledConfig) else "none"

    def check(self) -> None:
        held_out = self.val_fraction + self.test_fraction
        if held_out > LARGEST_HELD_OUT:
            raise ConfigError(
                f"val_fraction={self.val_fraction} and test_fraction={self.test_fraction} hold out "
                f"{held_out:.0%} of the corpus: at most {LARGEST_HELD_OUT:.0%} is accepted"
            )
