"""Byte-level BPE that never loses a byte: trained here, or a given `tokenizer.json` once checked."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from pellucid.errors import DataError

EOT = "<|endoftext|>"
# What other tokenizers call the token between two documents.
EOT_NAMES = (EOT, "<|end_of_text|>", "<|endofdoc|>", "<eos>", "</s>")
BYTES = 256
SMALLEST_VOCABULARY = BYTES + 1
LARGEST_FILE = 2**28


def byte_characters() -> dict[str, int]:
    """{character: byte} of the byte-level alphabet (GPT-2): printable bytes stand for themselves."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(BYTES) if byte not in printable]
    moved = {chr(BYTES + place): byte for place, byte in enumerate(others)}
    return {chr(byte): byte for byte in printable} | moved


# Text that a lossy tokenizer changes: every byte UTF-8 can hold, spaces at both ends, control
# characters, composed and decomposed accents, wide and rare planes, text that looks special.
PROBES = (
    "".join(map(chr, range(0x800))),
    "".join(map(chr, range(0x800, 0xD800, 61))) + "".join(map(chr, range(0xE000, 0x110000, 4093))),
    "  two  spaces\t\ttabs \r\n\r\n\n trailing   ",
    "e\u0301 \u00e9 \ufb01 \u2126 \u1e9b\u0323 \u200b\u200d \ufeff \uff21 ILİıſß",
    " ".join(EOT_NAMES) + " <s> <unk> <pad> [CLS] [MASK] ##a ▁b",
    "👩‍👩‍👧‍👦🏳️‍🌈 नमस्ते 한국어 עברית",
)


class Tokenizer:
    """Text to token ids and back. `token_bytes[id]` is exactly what a token stands for.

    The end-of-text token stands between documents and for no bytes; text that spells it out is
    encoded as ordinary bytes. Ids the vocabulary skips also stand for no bytes.
    """

    def __init__(self, inner: tokenizers.Tokenizer, *, source: str = "tokenizer") -> None:
        inner.no_padding()
        inner.no_truncation()
        inner.encode_special_tokens = True
        self._inner = inner
        self.json = inner.to_str()
        self.sha256 = hashlib.sha256(self.json.encode()).hexdigest()
        self.eot = _end_of_text(inner, source)
        self.token_bytes = _token_bytes(inner, self.eot, source)
        self.vocab_size = len(self.token_bytes)

    def encode(self, text: str) -> list[int]:
        return self._inner.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        encodings = self._inner.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        return b"".join(map(self.token_bytes.__getitem__, ids))

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; bytes that are not UTF-8 on their own become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def token_text(self, token: int) -> str:
        """The token for a reader: its text, bytes that are not UTF-8 as `\\xNN`, or its name."""
        raw = self.token_bytes[token]
        if not raw:
            return self._inner.id_to_token(token) or f"<unused {token}>"
        return raw.decode("utf-8", errors="backslashreplace")

    def save(self, path: Path | str) -> None:
        Path(path).write_text(self.json, encoding="utf-8", newline="\n")

    @classmethod
    def load(cls, path: Path | str, *, checked: bool = False) -> "Tokenizer":
        """The tokenizer in a `tokenizer.json`; DataError when it is not one or loses bytes.

        `checked` says that it is known not to, as in a folder whose every document was compared.
        """
        path = Path(path).expanduser()
        try:
            size, text = path.stat().st_size, ""
            if size <= LARGEST_FILE:
                text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8"
            raise DataError(f"tokenizer {path} cannot be read: {reason}") from None
        if size > LARGEST_FILE:
            raise DataError(f"tokenizer {path} has {size} bytes: at most {LARGEST_FILE} are read")
        return cls.from_json(text, source=f"tokenizer {path}", checked=checked)

    @classmethod
    def from_json(
        cls, text: str, *, source: str = "tokenizer", checked: bool = False
    ) -> "Tokenizer":
        try:
            inner = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # noqa: BLE001 - the library raises bare Exception
            raise DataError(f"{source} is not a `tokenizer.json`: {error}") from None
        tokenizer = cls(inner, source=source)
        for probe in () if checked else PROBES:
            tokenizer.check_lossless(probe, tokenizer.encode(probe), source)
        return tokenizer

    def check_lossless(self, text: str, ids: Sequence[int], source: str) -> None:
        """DataError unless the bytes of `ids` are those of `text`."""
        decoded, original = self.decode_bytes(ids), text.encode()
        if decoded != original:
            at = next(
                (i for i, (a, b) in enumerate(zip(decoded, original, strict=False)) if a != b),
                min(len(decoded), len(original)),
            )
            raise DataError(
                f"{source} loses bytes: {original[at : at + 8]!r} comes back as "
                f"{decoded[at : at + 8]!r}; a byte-level BPE without a normalizer is accepted"
            )


def train_tokenizer(texts: Iterator[str], *, vocab_size: int) -> Tokenizer:
    """A byte-level BPE of at most `vocab_size` tokens; the same texts give the same tokenizer."""
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[EOT],
        # Without the whole alphabet, bytes that train does not hold would vanish silently.
        initial_alphabet=sorted(byte_characters()),
        show_progress=False,
    )
    inner.train_from_iterator(texts, trainer)
    return Tokenizer(inner)


def _end_of_text(inner: tokenizers.Tokenizer, source: str) -> int:
    special = {
        added.content: token
        for token, added in inner.get_added_tokens_decoder().items()
        if added.special
    }
    for name in EOT_NAMES:
        if name in special:
            return special[name]
    raise DataError(
        f"{source} has no end-of-text token: one special token of {', '.join(EOT_NAMES)} is needed"
    )


def _token_bytes(inner: tokenizers.Tokenizer, eot: int, source: str) -> list[bytes]:
    """What every id stands for: added tokens as they are spelt, others through the alphabet."""
    added = inner.get_added_tokens_decoder()
    vocabulary = inner.get_vocab(with_added_tokens=True)
    alphabet = byte_characters()
    table = [b""] * (max(vocabulary.values()) + 1)
    for token, index in vocabulary.items():
        if index == eot:
            continue
        if index in added:
            table[index] = added[index].content.encode()
        elif all(character in alphabet for character in token):
            table[index] = bytes(alphabet[character] for character in token)
        else:
            kind = json.loads(inner.to_str())["model"]["type"]
            raise DataError(
                f"{source} ({kind}) is not byte-level: token {index} is {token!r}; "
                "a byte-level BPE (GPT-2's alphabet) is accepted"
            )
    return table
