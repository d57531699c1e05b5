"""Bytes at paths, written durably. It must not know what the bytes mean.

`Store` is what the rest of storage may ask of a disk or a bucket; `LocalStore` is a folder, `storage.s3.S3Store` a
bucket. A path is relative, with forward slashes, and always made by this package: no name from outside becomes one.
"""

import contextlib
import io
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from storage.errors import MissingError, StoreError
from storage.steps import reached

STAGING: Final = "media/staging"
LINK_S: Final = 3600


_durable: Final[set[Path]] = set()
"""Folders that this process has made durable."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What a store says of the bytes at a path."""

    path: str
    size_bytes: int
    modified_at: datetime


class Store(Protocol):
    """What storage needs of a place that keeps bytes; its `str` names it. Whatever fails raises StoreError."""

    def read(self, path: str) -> bytes | None:
        """Return the bytes at `path`, or None where there are none."""

    def read_many(self, paths: Sequence[str]) -> list[bytes | None]:
        """Return the bytes at each path, as `read` does; a bucket is asked for all of them at once."""

    def write(self, path: str, content: bytes) -> None:
        """Write `content`, whole and durable before it returns; an older content is replaced at once."""

    def write_if_absent(self, path: str, content: bytes) -> bool:
        """Like `write`, but leave what is there: False says that something was."""

    def remove(self, path: str) -> None:
        """Remove the bytes at `path`, if any."""

    def names(self, folder: str) -> list[str]:
        """Return the names right below `folder`, sorted; none where it does not exist."""

    def found(self, folder: str) -> Iterator[Stored]:
        """Yield everything below `folder`, however deep; nothing where it does not exist."""

    def stat(self, path: str) -> Stored | None:
        """Say what is at `path`, or None where nothing is."""

    def exists(self, path: str) -> bool:
        """Say whether something is at `path`: of all looks the cheapest."""

    def staging(self) -> AbstractContextManager[tuple[BinaryIO, Path]]:
        """Open a file on this host, for content that does not fit into memory; what is not adopted is removed."""

    def adopt(self, staged: Path, path: str) -> None:
        """Make the bytes of a file that `staging` gave those at `path`, whole and durable before it returns.

        The file may be gone afterwards.
        """

    def on_disk(self, path: str) -> AbstractContextManager[Path]:
        """Give a file on this host with the bytes at `path`, for as long as the context lasts.

        Raises:
            MissingError: Nothing is at `path`.
        """

    def open(self, path: str) -> io.RawIOBase:
        """Open the bytes at `path` for reading from any place in them; a read may return less than was asked for.

        What a read of it raises, all OSError, says nothing of what was read before.

        Raises:
            MissingError: Nothing is at `path`.
        """

    def link(self, path: str, *, content_type: str, disposition: str) -> str | None:
        """Return an address at which whoever has it gets the bytes at `path` for LINK_S.

        None: the store has no such addresses. Whether something is at `path` is not looked at.

        Args:
            path: Where they lie.
            content_type: What the answer there says that they are.
            disposition: Its Content-Disposition.
        """

    def move(self, path: str, new_path: str) -> bool:
        """Move the bytes at `path`, replacing what is at `new_path`; False says that nothing was there."""

    def clear_unfinished(self, before: datetime) -> int:
        """Remove what writers that were killed before then left on this host; return how many files."""


class LocalStore:
    """A folder on a disk that honours fsync and hard links."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __str__(self) -> str:
        return str(self.root)

    def read(self, path: str) -> bytes | None:
        """Return the bytes at `path`, or None where there are none."""
        try:
            return self.local_path(path).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{self.local_path(path)}: cannot be read: {error.strerror}") from error

    def read_many(self, paths: Sequence[str]) -> list[bytes | None]:
        """Return the bytes at each path, as `read` does."""
        return [self.read(path) for path in paths]

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
        """Remove the bytes at `path`, if any, durably: what was erased must not come back with the power."""
        place = self.local_path(path)
        with writing(place.parent), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            place.unlink()
            sync_folder(place.parent)

    def names(self, folder: str) -> list[str]:
        """Return the names right below `folder`, sorted."""
        try:
            with os.scandir(self.local_path(folder)) as entries:
                return sorted(entry.name for entry in entries if not entry.name.startswith("."))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(f"{self.local_path(folder)}: cannot be read: {error.strerror}") from error

    def found(self, folder: str) -> Iterator[Stored]:
        """Yield everything below `folder`, but for what is hidden."""
        for name in self.names(folder):
            path = f"{folder}/{name}"
            if self.local_path(path).is_dir():
                yield from self.found(path)
            elif (stored := self.stat(path)) is not None:  # gone since the folder was listed
                yield stored

    def stat(self, path: str) -> Stored | None:
        """Say what is at `path`, or None where nothing is."""
        try:
            status = self.local_path(path).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StoreError(f"{self.local_path(path)}: cannot be read: {error.strerror}") from error
        return Stored(path, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))

    def exists(self, path: str) -> bool:
        """Say whether something is at `path`."""
        try:
            os.stat(f"{self.root}/{path}")  # noqa: PTH116  a Path costs more than the look
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise StoreError(f"{self.local_path(path)}: cannot be read: {error.strerror}") from error
        return True

    @contextlib.contextmanager
    def staging(self) -> Iterator[tuple[BinaryIO, Path]]:
        """Open a hidden file on the same disk."""
        with hidden_file(self.local_path(STAGING)) as opened:
            yield opened

    def adopt(self, staged: Path, path: str) -> None:
        """Move a staged file to `path`, durably."""
        place = self.local_path(path)
        with writing(place.parent):
            with staged.open("rb") as file:
                os.fsync(file.fileno())
            make_folder(place.parent)
            staged.replace(place)
            sync_folder(place.parent)

    @contextlib.contextmanager
    def on_disk(self, path: str) -> Iterator[Path]:
        """Give the file itself."""
        place = self.local_path(path)
        if not place.is_file():
            raise MissingError(f"{place}: is not there; restore it from a copy of the lake")
        yield place

    def open(self, path: str) -> io.RawIOBase:
        """Open the file; whoever reads it goes on when its name is removed."""
        place = self.local_path(path)
        try:
            return place.open("rb", buffering=0)
        except FileNotFoundError as error:
            raise MissingError(f"{place}: is not there; restore it from a copy of the lake") from error
        except OSError as error:
            raise StoreError(f"{place}: cannot be read: {error.strerror}") from error

    def link(self, path: str, *, content_type: str, disposition: str) -> str | None:  # noqa: ARG002
        """Return None: nobody else can reach this disk."""
        return None

    def move(self, path: str, new_path: str) -> bool:
        """Rename a file, durably."""
        old, new = self.local_path(path), self.local_path(new_path)
        with writing(new.parent):
            make_folder(new.parent)
            try:
                old.replace(new)
            except FileNotFoundError:
                return False
            sync_folder(new.parent)
            sync_folder(old.parent)
        return True

    def clear_unfinished(self, before: datetime) -> int:
        """Remove hidden files that nobody has written since then, and empty folders of Parquet files."""
        for parent in ("data", "snap"):
            for folder, _, _ in os.walk(self.root / parent, topdown=False):
                with contextlib.suppress(OSError):  # it is not empty
                    if Path(folder).stat().st_mtime < before.timestamp():
                        Path(folder).rmdir()
        return clear_hidden(self.root, before)

    def local_path(self, path: str) -> Path:
        """Return where `path` is on this disk."""
        return self.root / path

    @contextlib.contextmanager
    def _staged(self, path: str, content: bytes) -> Iterator[Path]:
        with hidden_file(self.local_path(path).parent) as (file, staged), writing(staged.parent):
            file.write(content)
            reached("bytes written")
            sync_file(file)
            reached("bytes synced")
            yield staged
            reached("bytes placed")
            sync_folder(staged.parent)


@contextlib.contextmanager
def hidden_file(folder: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """Open a hidden file in `folder`; what is left of it at the end is removed."""
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


def clear_hidden(folder: Path, before: datetime) -> int:
    """Remove what `hidden_file` made below `folder` and nobody has written since; return how many files."""
    cleared = 0
    for file in folder.rglob(f".{'[0-9a-f]' * 32}.tmp"):  # and no hidden file of a user's, in the watched folder
        with contextlib.suppress(OSError):  # gone meanwhile
            if file.stat().st_mtime < before.timestamp():
                file.unlink()
                cleared += 1
    return cleared


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
    """Make `folder` and those above it, each durable in the one above.

    One that is there may have been made by a process that was killed before it was durable: so it is made durable once
    by each process.
    """
    if folder in _durable and folder.is_dir():
        return
    if not folder.is_dir():
        make_folder(folder.parent)
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
    with contextlib.suppress(PermissionError):  # a folder above the store may be another user's
        sync_folder(folder.parent)
    _durable.add(folder)
