"""The recordings' bytes, kept under the hash of their content. It must not know what is in them."""

import contextlib
import hashlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final
from uuid import UUID

from storage.errors import MissingError
from storage.store import Store, writing

TRASH: Final = "trash"
PEAKS: Final = ".peaks"
BLOCK_BYTES: Final = 1 << 20
HASH: Final = re.compile("[0-9a-f]{64}")
BLOB: Final = re.compile(rf"media/[0-9a-f]{{2}}/({HASH.pattern})(\..+)?")
"""A recording's path, or that of what lies beside it."""


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes in the media store."""

    sha256: str
    size_bytes: int

    @property
    def file_id(self) -> UUID:
        """The id of the recording with these bytes."""
        return file_id_of(self.sha256)


@dataclass(frozen=True, slots=True)
class Staged:
    """Bytes on this host that are hashed, and not in the store yet."""

    blob: Blob
    path: Path


class Staging:
    """A file on this host that is written piece by piece, and hashed on the way."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path = file, path
        self._digest, self._size_bytes = hashlib.sha256(), 0

    def write(self, piece: bytes | memoryview) -> None:
        """Append a piece.

        Raises:
            StoreError: This host's disk cannot be written, or is full.
        """
        self._digest.update(piece)
        self._size_bytes += len(piece)
        with writing(self._path.parent):
            self._file.write(piece)

    def staged(self) -> Staged:
        """Return what was written, once there is nothing more to write.

        Raises:
            StoreError: This host's disk cannot be written, or is full.
        """
        with writing(self._path.parent):
            self._file.flush()
        return Staged(Blob(self._digest.hexdigest(), self._size_bytes), self._path)


def file_id_of(sha256: str) -> UUID:
    """Return the id of the recording whose bytes hash to `sha256`: the hash's first 128 bits."""
    return UUID(hex=sha256[:32])


def trash_path(sha256: str, at: datetime) -> str:
    """Return where the bytes lie that nothing seemed to need at that time."""
    return f"{TRASH}/{sha256}.{int(at.timestamp())}"


def media_path(sha256: str) -> str:
    """Return where the bytes that hash to `sha256` lie in the store."""
    return f"media/{sha256[:2]}/{sha256}"


def peaks_path(sha256: str) -> str:
    """Return where the peaks of the recording with these bytes lie, beside it; see storage/peaks.py."""
    return f"{media_path(sha256)}{PEAKS}"


class Media:
    """The media store of a lake.

    A blob that nothing seems to need lies in the trash for a while before it goes for good, and comes back from there
    as soon as it is needed: an upload of the same bytes may arrive while maintenance looks.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, content: BinaryIO) -> Blob:
        """Copy `content` into the store, durably; the same bytes again change nothing.

        Raises:
            OSError: `content` cannot be read.
            StoreError: The store cannot be written, or is full.
        """
        with self.staged(content) as staged:
            self.keep(staged)
        return staged.blob

    @contextlib.contextmanager
    def staging(self) -> Iterator[Staging]:
        """Open a file on this host for content that comes in pieces; unless it is kept, it is gone with the context.

        Raises:
            StoreError: This host's disk cannot be written, or is full.
        """
        with self._store.staging() as (file, path):
            yield Staging(file, path)

    @contextlib.contextmanager
    def staged(self, content: BinaryIO) -> Iterator[Staged]:
        """Copy `content` to a file on this host, in blocks; unless it is kept, it is gone with the context.

        Raises:
            OSError: `content` cannot be read.
            StoreError: This host's disk cannot be written, or is full.
        """
        with self.staging() as staging:
            while block := content.read(BLOCK_BYTES):
                staging.write(block)
            yield staging.staged()

    def keep(self, staged: Staged) -> None:
        """Take a staged copy into the store, durably.

        Raises:
            StoreError: The store cannot be written, or is full.
        """
        self._store.adopt(staged.path, media_path(staged.blob.sha256))

    def has(self, sha256: str) -> bool:
        """Say whether the bytes are there; they are taken back out of the trash where need be."""
        path = media_path(sha256)
        return self._store.stat(path) is not None or any(
            self._store.move(trashed, path) for trashed in self._trashed(sha256)
        )

    @contextlib.contextmanager
    def on_disk(self, sha256: str) -> Iterator[Path]:
        """Give a file on this host with the bytes, for as long as the context lasts.

        Raises:
            MissingError: They are not in the store.
        """
        self.has(sha256)
        with self._store.on_disk(media_path(sha256)) as path:
            yield path

    def open(self, sha256: str) -> io.RawIOBase:
        """Open the bytes for reading from any place in them; they are taken back out of the trash where need be.

        Raises:
            MissingError: They are not in the store.
        """
        try:
            return self._store.open(media_path(sha256))
        except MissingError:
            self.has(sha256)
            return self._store.open(media_path(sha256))

    def link(self, sha256: str, **headers: str) -> str | None:
        """Return an address in the store at which whoever has it gets the bytes for a while; see `Store.link`."""
        return self._store.link(media_path(sha256), **headers)

    def put_peaks(self, sha256: str, content: bytes) -> None:
        """Write the peaks of a recording beside it; the same bytes always have the same ones.

        Raises:
            StoreError: The store cannot be written, or is full.
        """
        self._store.write(peaks_path(sha256), content)

    def peaks(self, sha256: str) -> bytes | None:
        """Return the peaks of a recording; None where there are none, which nothing may rely on."""
        return self._store.read(peaks_path(sha256))

    def has_peaks(self, sha256: str) -> bool:
        """Say whether there are peaks of a recording."""
        return self._store.exists(peaks_path(sha256))

    def remove_beside(self, sha256: str) -> None:
        """Remove what was made of the bytes and lies beside them: of a recording that is not needed any more."""
        self._store.remove(peaks_path(sha256))

    def trash(self, sha256: str, at: datetime) -> None:
        """Put the bytes where they are out of the way, and can still be had."""
        self._store.move(media_path(sha256), trash_path(sha256, at))

    def remove_trashed(self, sha256: str) -> None:
        """Remove what lies in the trash for good."""
        for path in self._trashed(sha256):
            self._store.remove(path)

    def _trashed(self, sha256: str) -> list[str]:
        return [f"{TRASH}/{name}" for name in self._store.names(TRASH) if name.startswith(sha256)]
