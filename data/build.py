"""From a corpus to a folder of tokens: read, drop copies, split, train a tokenizer, encode, write.

`datasets` holds the text and the tokens in Arrow files inside the folder meanwhile, so that memory
does not grow with the corpus.
"""

import platform
import shutil
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import pellucid
from pellucid.data.config import DataConfig
from pellucid.data.corpora import Corpus
from pellucid.data.display import Display
from pellucid.data.documents import Document, LeftOut, text_hash, usable
from pellucid.data.near_duplicates import NearDuplicates
from pellucid.data.splits import SPLITS, split_groups, splitting_groups
from pellucid.data.store import FORMAT, MANIFEST, content_fingerprint, file_sha256, sealed
from pellucid.data.tokenizer import Tokenizer, train_tokenizer
from pellucid.data.writing import new_file, write_array
from pellucid.errors import DataError
from pellucid.storage import files

if TYPE_CHECKING:
    import datasets

DOCUMENTS_PER_BATCH = 64
# The tokenizer is trained on at most this much text, taken evenly over the train split.
TOKENIZER_BYTES = 2**28
NO_LABEL = -1


class Build:
    """One preparation into an empty `folder`; `run()` leaves the finished folder, manifest last."""

    def __init__(
        self,
        config: DataConfig,
        corpus: Corpus,
        given: Tokenizer | None,
        folder: Path,
        display: Display,
    ) -> None:
        self.config, self.corpus, self.given = config, corpus, given
        self.folder, self.display = folder, display
        self.work = folder / "work"
        self.copies = LeftOut()
        self.left_out = LeftOut()

    def run(self, described: dict[str, Any]) -> dict[str, Any]:
        """The manifest, which also holds `described` (the config as JSON)."""
        begun = time.monotonic()
        documents = self._read()
        chosen = self._split(documents)
        tokenizer = self.given or self._train(documents, chosen["train"])
        encoded = self._encode(documents, tokenizer)
        counts = self._write(encoded, chosen, tokenizer)
        del documents, encoded
        shutil.rmtree(self.work)
        manifest = self._manifest(described, tokenizer, counts, time.monotonic() - begun)
        files.write(self.folder / MANIFEST, files.dump(manifest, MANIFEST, DataError))
        files.sync(self.folder)
        return manifest

    def _read(self) -> "datasets.Dataset":
        """The kept documents in the corpus's order, as rows of an Arrow file."""
        import datasets

        side = {name: datasets.List(datasets.Value("int32")) for name in self.corpus.side_channels}
        text = {name: datasets.Value("string") for name in ("name", "group", "hash", "text")}
        features = datasets.Features(text | {"bytes": datasets.Value("int64")} | side)
        with self.display.step("reading", None) as advance:
            return datasets.Dataset.from_generator(
                lambda: self._kept(advance),
                features=features,
                cache_dir=str(self.work),
                fingerprint="documents",
            )

    def _kept(self, advance: Any) -> Iterator[dict[str, Any]]:
        exact: dict[str, str] = {}
        threshold = self.config.near_duplicate
        near = NearDuplicates(threshold) if threshold < 1 else None
        for document in usable(self.corpus.documents(), self.left_out):
            advance(1)
            hashed = text_hash(document.text)
            if hashed in exact:
                self.copies.add("exact", f"{document.name} = {exact[hashed]}")
            elif near and (original := near.copy_of(document.name, document.text)):
                self.copies.add("near", f"{document.name} ~ {original}")
            else:
                exact[hashed] = document.name
                yield _row(document, hashed)
        if not exact:
            skipped = self.left_out.sentence() or self.corpus.left_out.sentence()
            raise DataError(
                "the corpus holds no text"
                + (f" (left out: {skipped})" if skipped else "")
                + ": give a file or a folder of UTF-8 text"
            )

    def _split(self, documents: "datasets.Dataset") -> dict[str, np.ndarray]:
        """{split: indices of its documents}."""
        hashes, sizes = documents["hash"][:], documents["bytes"][:]
        groups = splitting_groups(documents["group"][:], hashes)
        totals: dict[str, int] = {}
        for group, size in zip(groups, sizes, strict=True):
            totals[group] = totals.get(group, 0) + size
        fractions = {"val": self.config.val_fraction, "test": self.config.test_fraction}
        of_group = split_groups(totals, fractions)
        names = np.array([of_group[group] for group in groups])
        return {split: np.flatnonzero(names == split) for split in SPLITS}

    def _train(self, documents: "datasets.Dataset", train: np.ndarray) -> Tokenizer:
        sizes = np.asarray(documents["bytes"][:])[train]
        every = -(-int(sizes.sum()) // TOKENIZER_BYTES)
        chosen = train[::every]
        with self.display.step("training the tokenizer", len(chosen)) as advance:

            def texts() -> Iterator[str]:
                for batch in documents.select(chosen).select_columns("text").iter(1):
                    advance(1)
                    yield batch["text"][0]

            return train_tokenizer(texts(), vocab_size=self.config.vocab_size)

    def _encode(self, documents: "datasets.Dataset", tokenizer: Tokenizer) -> "datasets.Dataset":
        """The documents with `ids` and side channels per token in place of their text."""
        import datasets

        labels = list(self.corpus.side_channels)
        features = documents.features.copy()
        del features["text"]
        features["ids"] = datasets.List(datasets.Value("uint32"))
        with self.display.step("tokenizing", len(documents)) as advance:

            def encode(batch: dict[str, list]) -> dict[str, list]:
                columns = encode_batch(tokenizer, batch, labels)
                advance(len(columns["ids"]))
                return columns

            return documents.map(
                encode,
                batched=True,
                batch_size=DOCUMENTS_PER_BATCH,
                remove_columns=["text"],
                features=features,
                cache_file_name=str(self.work / "encoded.arrow"),
                new_fingerprint="encoded",
            )

    def _write(
        self, encoded: "datasets.Dataset", chosen: dict[str, np.ndarray], tokenizer: Tokenizer
    ) -> dict[str, dict[str, int]]:
        """Writes every file but the manifest; {split: counts}."""
        tokenizer.save(self.folder / "tokenizer.json")
        self.dtype = "uint16" if tokenizer.vocab_size <= 2**16 else "uint32"
        counts = {}
        with self.display.step("writing", len(SPLITS)) as advance:
            for split, indices in chosen.items():
                counts[split] = self._write_split(encoded.select(indices), split, tokenizer.eot)
                advance(1)
        return counts

    def _write_split(self, encoded: "datasets.Dataset", split: str, eot: int) -> dict[str, int]:
        lengths = self._write_flat(encoded, "ids", self.folder / f"tokens-{split}.bin", eot)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        for channel in self.corpus.side_channels:
            raw = self.work / f"side-{channel}-{split}"
            self._write_flat(encoded, channel, raw, NO_LABEL)
            labels = np.memmap(raw, dtype=np.int32, mode="r")
            write_array(self.folder / f"side-{channel}-{split}.npy", labels)
        names, groups = encoded["name"][:], encoded["group"][:]
        sizes = np.asarray(encoded["bytes"][:], dtype=np.int64)
        write_array(self.folder / f"offsets-{split}.npy", offsets)
        write_array(self.folder / f"bytes-{split}.npy", sizes)
        listed = {"names": names, "groups": groups}
        path = self.folder / f"documents-{split}.json"
        files.write(path, files.dump(listed, path.name, DataError))
        return {
            "documents": len(names),
            "groups": len(set(groups)),
            "bytes": int(sizes.sum()),
            "tokens": int(offsets[-1]),
        }

    def _write_flat(
        self, encoded: "datasets.Dataset", column: str, path: Path, first: int
    ) -> np.ndarray:
        """Writes a list column end to end, `first` before each list; the lengths with it."""
        dtype = self.dtype if column == "ids" else "int32"
        lengths = []
        with new_file(path) as file:
            arrow = encoded.select_columns(column).with_format("arrow")
            for table in arrow.iter(DOCUMENTS_PER_BATCH):
                lists = table[column].combine_chunks()
                starts = lists.offsets.to_numpy()
                values = lists.values.to_numpy()[starts[0] : starts[-1]]
                flat = np.insert(values.astype(dtype), starts[:-1] - starts[0], first)
                file.write(flat.tobytes())
                lengths.append(np.diff(starts) + 1)
        return np.concatenate(lengths)

    def _manifest(
        self,
        described: dict[str, Any],
        tokenizer: Tokenizer,
        counts: dict[str, dict[str, int]],
        seconds: float,
    ) -> dict[str, Any]:
        paths = sorted(path for path in self.folder.iterdir() if path.is_file())
        entries = {p.name: {"bytes": p.stat().st_size, "sha256": file_sha256(p)} for p in paths}
        versions = {name: version(name) for name in ("numpy", "datasets", "tokenizers")}
        text, tokens = (sum(c[key] for c in counts.values()) for key in ("bytes", "tokens"))
        manifest = {
            "format": FORMAT,
            "fingerprint": content_fingerprint(entries),
            "config": described,
            "tokenizer": {
                "sha256": tokenizer.sha256,
                "vocab_size": tokenizer.vocab_size,
                "eot": tokenizer.eot,
                "trained_here": self.given is None,
            },
            "token_dtype": self.dtype,
            "side_channels": list(self.corpus.side_channels),
            "splits": counts,
            "bytes_per_token": text / tokens,
            "left_out": self.corpus.left_out.reasons | self.left_out.reasons,
            "copies": self.copies.reasons,
            "versions": {
                "pellucid": pellucid.__version__,
                "python": platform.python_version(),
                **versions,
            },
            "seconds": round(seconds, 3),
            "files": entries,
        }
        return sealed(manifest)


def _row(document: Document, hashed: str) -> dict[str, Any]:
    size = len(document.text.encode())
    for channel, labels in document.side.items():
        if len(labels) != size:
            raise ValueError(f"{document.name}: {channel} has {len(labels)} labels, {size} bytes")
    text = {"name": document.name, "group": document.group, "hash": hashed, "text": document.text}
    return text | {"bytes": size} | dict(document.side)


def encode_batch(
    tokenizer: Tokenizer, batch: dict[str, list], channels: list[str]
) -> dict[str, list]:
    """The `ids` of a batch of documents and, of its byte labels, those of each token's last byte."""
    lengths = np.array([len(raw) for raw in tokenizer.token_bytes], dtype=np.int64)
    columns: dict[str, list] = {name: [] for name in ("ids", *channels)}
    encoded = tokenizer.encode_batch(batch["text"])
    for row, (text, ids) in enumerate(zip(batch["text"], encoded, strict=True)):
        tokenizer.check_lossless(text, ids, f"the tokenizer, on {batch['name'][row]},")
        found = np.array(ids, dtype=np.uint32)
        last = np.cumsum(lengths[found]) - 1
        columns["ids"].append(found)
        for channel in channels:
            columns[channel].append(np.asarray(batch[channel][row], dtype=np.int32)[last])
    return columns
