"""`prepare`: the tokens a config asks for, from the cache or built into it, once for all processes.

$PELLUCID_CACHE (else the user's cache folder)/tokens/
    FINGERPRINT/        a finished folder (store.py), known by its content
    by-key/KEY          the fingerprint that a config and its sources, unchanged, lead to
    building-KEY/       being built; renamed when finished
    locks/
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pellucid.data.build import Build
from pellucid.data.config import DataConfig
from pellucid.data.corpora import Corpus
from pellucid.data.display import Display
from pellucid.data.store import FORMAT, MANIFEST, TokenData, digest, read_manifest
from pellucid.data.tokenizer import Tokenizer
from pellucid.errors import DataError, UserError
from pellucid.settings import fields
from pellucid.storage import files

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


def prepare(config: DataConfig, *, progress: bool = True) -> TokenData:
    """The tokens that `config` describes: opened when they are in the cache, otherwise built.

    Safe when several processes prepare the same corpus at once: one builds, the others wait.
    DataError when the corpus, the tokenizer or the cache cannot be used; nothing is left behind.
    """
    display = Display(progress)
    corpus: Corpus = config.corpus.build()
    given = Tokenizer.load(config.tokenizer) if config.tokenizer else None
    cache = Cache(cache_folder(), cache_key(config, corpus, given))
    found = cache.open(display.say)
    if found is None:
        with cache.writable(), cache.lock(cache.key, display.say):
            # Another process may have built it while this one waited for the lock.
            found = cache.open(display.say) or _build(cache, config, corpus, given, display)
    return found


def open_prepared(fingerprint: str) -> TokenData:
    """The tokens of this fingerprint, as a run's manifest names them; DataError if not in cache."""
    root = cache_folder()
    folder = root / fingerprint
    if not fingerprint.isalnum() or not folder.is_dir():
        raise DataError(
            f"the token cache {root} holds no data with fingerprint {fingerprint!r}: prepare the "
            "run's corpus again, or set PELLUCID_CACHE to the cache that it was trained from"
        )
    return TokenData(folder)


def cache_folder() -> Path:
    """`$PELLUCID_CACHE/tokens`, else `pellucid/tokens` in the user's cache folder."""
    given = os.environ.get("PELLUCID_CACHE")
    user = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return (Path(given).expanduser() if given else Path(user, "pellucid")).absolute() / "tokens"


def cache_key(config: DataConfig, corpus: Corpus, given: Tokenizer | None) -> str:
    """What is known without reading the text: the config, the listing of its sources, a tokenizer."""
    tokenizer = given.sha256 if given else None
    known = [FORMAT, fields.to_json(config), corpus.listing(), tokenizer]
    return digest(known)[:32]


def _build(
    cache: "Cache", config: DataConfig, corpus: Corpus, given: Tokenizer | None, display: Display
) -> TokenData:
    described = fields.to_json(config)
    with cache.building() as folder:
        with display.open():
            manifest = Build(config, corpus, given, folder, display).run(described)
        data = cache.keep(folder, manifest)
    display.say(summary(manifest, data.folder))
    return data


def summary(manifest: dict[str, Any], folder: Path) -> str:
    """What was prepared, in one paragraph."""
    splits = manifest["splits"].values()
    count = {key: sum(c[key] for c in splits) for key in ("documents", "bytes", "tokens")}
    entries = {**manifest["left_out"], **{f"{k} copies": v for k, v in manifest["copies"].items()}}
    dropped = ", ".join(f"{entry['count']} {reason}" for reason, entry in entries.items())
    return (
        f"{manifest['config']['corpus']['type']}: {count['documents']} documents, "
        f"{count['bytes'] / 1e6:.1f} MB, {count['tokens'] / 1e6:.2f}M tokens "
        f"({manifest['bytes_per_token']:.2f} bytes each) in {manifest['seconds']:.1f} s"
        + (f"; left out: {dropped}" if dropped else "")
        + f"; kept in {folder}"
    )


class Cache:
    """The entry of one key in the cache at `root`."""

    def __init__(self, root: Path, key: str) -> None:
        self.root, self.key = root, key
        self._manifest = root / "by-key" / f"{key}.json"

    def open(self, say: Callable[[str], None]) -> TokenData | None:
        """The finished folder, or None where there is none or it is damaged, which is said."""
        if not self._manifest.is_file():
            return None
        try:
            manifest = read_manifest(self._manifest)
            return TokenData(self.root / manifest["fingerprint"], manifest)
        except DataError as error:
            say(f"{error}; preparing the corpus again")
            return None

    @contextmanager
    def writable(self) -> Iterator[None]:
        """Turns a full disk or a forbidden folder, wherever it strikes, into a DataError."""
        try:
            for name in ("by-key", "locks"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
            yield
        except Exception as error:
            explained = _explained(error, self.root)
            if explained is None:
                raise
            raise explained from None

    @contextmanager
    def lock(self, name: str, say: Callable[[str], None]) -> Iterator[None]:
        """Holds the lock `name`, which the system releases also when the process is killed."""
        with (self.root / "locks" / name).open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("another process is preparing the same corpus; waiting for it to finish")
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def building(self) -> Iterator[Path]:
        """An empty folder to build in, gone afterwards unless it was renamed."""
        folder = self.root / f"building-{self.key}"
        # What a killed process left: the lock is ours, so nobody is using it.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def keep(self, folder: Path, manifest: dict[str, Any]) -> TokenData:
        """Moves a finished folder to its place, unless the same content is there already."""
        final = self.root / manifest["fingerprint"]
        with self.lock("placing", lambda _: None):
            if final.exists() and not _intact(final):
                damaged = folder / "damaged"
                final.rename(damaged)
                shutil.rmtree(damaged)
            if not final.exists():
                folder.rename(final)
            # The same content may come of another corpus, so each key keeps a manifest of its own.
            files.replace(self._manifest, files.dump(manifest, MANIFEST, DataError))
            files.sync(self.root)
        return TokenData(final, manifest)


def _intact(folder: Path) -> bool:
    try:
        TokenData(folder).verify()
    except DataError:
        return False
    return True


def _explained(error: BaseException, root: Path) -> UserError | None:
    """The user's mistake behind `error`, if any: libraries wrap what a generator or a write raises."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            return cause
        if isinstance(cause, OSError) and cause.errno in FULL:
            return DataError(
                f"the disk of the token cache {root} is full ({cause.strerror}): free some space, "
                "or set PELLUCID_CACHE to a folder on another disk; nothing was kept"
            )
        if isinstance(cause, OSError) and cause.errno in FORBIDDEN:
            return _forbidden(cause, root)
        cause = cause.__cause__ or cause.__context__
    return None


def _forbidden(cause: OSError, root: Path) -> DataError:
    place = Path(os.fsdecode(cause.filename or root))
    if place.is_relative_to(root) or root.is_relative_to(place):
        return DataError(
            f"the token cache {root} cannot be written ({cause.strerror}: {place}): "
            "set PELLUCID_CACHE to a folder that you may write to"
        )
    return DataError(f"{place} cannot be read: {cause.strerror}")
