"""Bytes at paths, written durably. It must not know what the bytes mean.

`Store` is what the rest of storage may ask of a disk or a bucket; `LocalStore` is a folder. A path is relative, with
forward slashes, and always made by this package: no name from outside ever becomes one.
"""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from storage.errors import StoreError


class Store(Protocol):
    """What storage needs of a place that keeps bytes."""

    def read(self, path: str) -> bytes | None:
        """Return the bytes at `path`, or None where there are none."""

    def write(self, path: str, content: bytes) -> None:
        """Write `content`, whole and durable before it returns; an older content is replaced at once."""

    def write_if_absent(self, path: str, content: bytes) -> bool:
        """Like `write`, but leave what is there: False says that something was."""

    def remove(self, path: str) -> None:
        """Remove the bytes at `path`, if any."""

    def names(self, folder: str) -> list[str]:
        """Return the names right below `folder`, sorted; none where it does not exist."""


class LocalStore:
    """A folder on a disk that honours fsync and hard links."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, path: str) -> bytes | None:
        """Return the bytes at `path`, or None where there are none."""
        try:
            return self.local_path(path).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{self.local_path(path)}: cannot be read: {error.strerror}") from error

    def write(self, path: str, content: bytes) -> None:
        """Write `content`, whole and durable before it returns."""
        with self._staged(path, content) as staged:
            staged.replace(self.local_path(path))

    def write_if_absent(self, path: str, content: bytes) -> bool:
        """Write `content` unless something is there.

        A hard link, because a file opened with O_EXCL can be seen half-written, and a rename replaces.
        """
        with self._staged(path, content) as staged:
            try:
                os.link(staged, self.local_path(path))
            except FileExistsError:
                return False
        return True

    def remove(self, path: str) -> None:
        """Remove the bytes at `path`, if any."""
        self.local_path(path).unlink(missing_ok=True)

    def names(self, folder: str) -> list[str]:
        """Return the names right below `folder`, sorted."""
        try:
            with os.scandir(self.local_path(folder)) as entries:
                return sorted(entry.name for entry in entries if not entry.name.startswith("."))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(f"{self.local_path(folder)}: cannot be read: {error.strerror}") from error

    def local_path(self, path: str) -> Path:
        """Return where `path` is on this disk."""
        return self.root / path

    @contextlib.contextmanager
    def staging_file(self, path: str) -> Iterator[tuple[BinaryIO, Path]]:
        """Open a hidden file in the folder of `path`, for content that does not fit into memory.

        The caller moves it to its place; what is left at the end is removed.
        """
        folder = self.local_path(path).parent
        with writing(folder):
            make_folder(folder)
            staged = folder / f".{uuid.uuid4().hex}.tmp"
            file = staged.open("xb")
        try:
            yield file, staged
        finally:
            with contextlib.suppress(OSError):  # what could not be written once cannot be flushed either
                file.close()
            staged.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _staged(self, path: str, content: bytes) -> Iterator[Path]:
        with self.staging_file(path) as (file, staged), writing(staged.parent):
            file.write(content)
            sync_file(file)
            yield staged
            sync_folder(staged.parent)


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn an error of the disk into one that says where, and what to do.

    Raises:
        StoreError: The disk refused.
    """
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{folder}: cannot be written: {error.strerror or error}. Make room there, or make it writable"
        ) from error


def sync_file(file: BinaryIO) -> None:
    """Make what was written to `file` survive a power loss."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` survive a power loss."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make `folder` and those above it, each durable in the one above."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
    sync_folder(folder.parent)
