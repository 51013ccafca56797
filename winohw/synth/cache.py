"""Results that outlive the process, found again by the digest of what they were made of."""

import gzip
import hashlib
import os
import tempfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import platformdirs

__all__ = ["Cache", "cache_folder", "digest"]


def cache_folder() -> Path:
    """``$WINOHW_CACHE_DIR``, or the user's cache folder of this system."""
    wanted = os.environ.get("WINOHW_CACHE_DIR")
    return Path(wanted) if wanted else Path(platformdirs.user_cache_dir("winohw", appauthor=False))


def digest(parts: Iterable[str]) -> str:
    """SHA-256 of a sequence of texts, in hexadecimal; texts do not run into each other."""
    result = hashlib.sha256()
    for part in parts:
        data = part.encode()
        result.update(len(data).to_bytes(8, "little"))
        result.update(data)
    return result.hexdigest()


class Cache:
    """Texts on disk by key, compressed. Several processes may use it at a time: an entry is whole or not there.

    Parameters
    ----------
    folder : pathlib.Path, optional
        Default: ``synth`` in `cache_folder`.
    """

    def __init__(self, folder: Path | None = None):
        self.folder = cache_folder() / "synth" if folder is None else folder

    def get(self, key: str) -> str | None:
        """The text stored under a key; None if there is none, or if it is damaged."""
        try:
            data = self._path(key).read_bytes()
            return gzip.decompress(data).decode() if data else None
        except (OSError, EOFError, zlib.error, UnicodeDecodeError):
            return None

    def put(self, key: str, text: str) -> None:
        """Store a text under a key, in place of what was there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.folder, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(gzip.compress(text.encode(), compresslevel=4, mtime=0))
            os.replace(name, self._path(key))
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.gz"
