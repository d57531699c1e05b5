"""The recordings' bytes, kept under the hash of their content. It must not know what is in them."""

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final
from uuid import UUID

from storage.store import Store, writing

BLOCK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes in the media store."""

    sha256: str
    size_bytes: int

    @property
    def file_id(self) -> UUID:
        """The id of the recording with these bytes."""
        return file_id_of(self.sha256)


def file_id_of(sha256: str) -> UUID:
    """Return the id of the recording whose bytes hash to `sha256`: the hash's first 128 bits."""
    return UUID(hex=sha256[:32])


def trash_path(sha256: str) -> str:
    """Return where the bytes lie once nothing seems to need them."""
    return f"trash/{sha256}"


def media_path(sha256: str) -> str:
    """Return where the bytes that hash to `sha256` lie in the store."""
    return f"media/{sha256[:2]}/{sha256}"


class Media:
    """The media store of a lake.

    A blob that nothing seems to need lies in the trash for a while before it goes for good, and comes back from there
    as soon as it is needed: an upload of the same bytes may arrive while maintenance looks.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, content: BinaryIO) -> Blob:
        """Copy `content` into the store, durably, in blocks; the same bytes again change nothing.

        Raises:
            OSError: `content` cannot be read.
            StoreError: The store cannot be written, or is full.
        """
        digest, size_bytes = hashlib.sha256(), 0
        with self._store.staging() as (file, staged):
            while block := content.read(BLOCK_BYTES):
                digest.update(block)
                size_bytes += len(block)
                with writing(staged.parent):
                    file.write(block)
            with writing(staged.parent):
                file.flush()
            blob = Blob(digest.hexdigest(), size_bytes)
            self._store.adopt(staged, media_path(blob.sha256))
        return blob

    def has(self, sha256: str) -> bool:
        """Say whether the bytes are there; they are taken back out of the trash where need be."""
        path = media_path(sha256)
        return self._store.stat(path) is not None or self._store.move(trash_path(sha256), path)

    @contextlib.contextmanager
    def on_disk(self, sha256: str) -> Iterator[Path]:
        """Give a file on this host with the bytes, for as long as the context lasts.

        Raises:
            MissingError: They are not in the store.
        """
        self.has(sha256)
        with self._store.on_disk(media_path(sha256)) as path:
            yield path

    def remove(self, sha256: str) -> None:
        """Remove the bytes for good."""
        self._store.remove(media_path(sha256))
        self._store.remove(trash_path(sha256))
