"""The recordings' bytes, kept under the hash of their content. It must not know what is in them."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final
from uuid import UUID

from storage.store import LocalStore, make_folder, sync_file, sync_folder, writing

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


def media_path(sha256: str) -> str:
    """Return where the bytes that hash to `sha256` lie in the store."""
    return f"media/{sha256[:2]}/{sha256}"


class Media:
    """The media store of a lake."""

    def __init__(self, store: LocalStore) -> None:
        self._store = store

    def add(self, content: BinaryIO) -> Blob:
        """Copy `content` into the store, durably, in blocks; the same bytes again change nothing.

        Raises:
            OSError: `content` cannot be read.
            StoreError: The store cannot be written, or is full.
        """
        digest, size_bytes = hashlib.sha256(), 0
        with self._store.staging_file("media/staging/-") as (file, staged):
            while block := content.read(BLOCK_BYTES):
                digest.update(block)
                size_bytes += len(block)
                with writing(staged.parent):
                    file.write(block)
            blob = Blob(digest.hexdigest(), size_bytes)
            place = self.path(blob.sha256)
            with writing(place.parent):
                sync_file(file)
                make_folder(place.parent)
                staged.replace(place)  # the same bytes, if anything was there
                sync_folder(place.parent)
        return blob

    def path(self, sha256: str) -> Path:
        """Return a path on this host from which the bytes can be read."""
        return self._store.local_path(media_path(sha256))
