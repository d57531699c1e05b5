"""Copies objects from one store to another, whole and hashed. It must not know what they are for."""

import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from storage.errors import MissingError
from storage.media import BLOB, BLOCK_BYTES, TRASH, media_path
from storage.store import Store, writing

_FOLDERS: Final = ("data", "media", "snap", "inbox")


class Objects:
    """What a target has of a source, and what was done to it.

    Attributes:
        there: Size of each object of the target, by path; its log is not among them.
        copied: Size of those that were copied just now.
        kept: Paths of those that were there already.
        damaged: What is wrong with objects of the source, by path.
    """

    def __init__(self, source: Store, target: Store) -> None:
        self._source, self._target = source, target
        self.there = {stored.path: stored.size_bytes for folder in _FOLDERS for stored in target.found(folder)}
        self.copied: dict[str, int] = {}
        self.kept: set[str] = set()
        self.damaged: dict[str, str] = {}

    def stream(self, path: str, sha256: str, size_bytes: int) -> None:
        """Copy what may be large, in blocks; what does not hash to `sha256` is damaged, and not copied.

        Raises:
            MissingError: It is not there.
        """
        if self.has(path, size_bytes):
            return
        digest, copied_bytes = hashlib.sha256(), 0
        with self._opened(path) as place, self._target.staging() as (file, staged):
            with place.open("rb") as content:
                while block := content.read(BLOCK_BYTES):
                    digest.update(block)
                    copied_bytes += len(block)
                    with writing(staged.parent):
                        file.write(block)
            with writing(staged.parent):
                file.flush()
            if sha256 and digest.hexdigest() != sha256:
                self.damaged[path] = "its sha256 is not the one that it must have"
                return
            self._target.adopt(staged, path)
        self.there[path] = self.copied[path] = copied_bytes

    @contextlib.contextmanager
    def _opened(self, path: str) -> Iterator[Path]:
        """Give the bytes at a path of the lake; those of a recording may lie in the trash for a while."""
        with contextlib.ExitStack() as stack:
            place: Path | None = None
            for candidate in (path, *self._trashed(path)):
                with contextlib.suppress(MissingError):
                    place = stack.enter_context(self._source.on_disk(candidate))
                    break
            if place is None:
                raise MissingError(f"{self._source}: {path} is not there")
            yield place

    def _trashed(self, path: str) -> Iterable[str]:
        sha256 = sha256_of(path)
        if sha256 and path == media_path(sha256):
            yield from (f"{TRASH}/{name}" for name in self._source.names(TRASH) if name.startswith(sha256))

    def write(self, path: str, content: bytes) -> None:
        """Write what is small."""
        self._target.write(path, content)
        self.there[path] = self.copied[path] = len(content)

    def has(self, path: str, size_bytes: int) -> bool:
        """Say whether the target has it: what has a name here never changes."""
        if self.there.get(path) != size_bytes:
            return False
        self.kept.add(path)
        return True


def sha256_of(path: str) -> str:
    """Return the hash of the recording that lies at a path, or beside which it lies; empty for other paths."""
    match = BLOB.fullmatch(path)
    return match[1] if match else ""
