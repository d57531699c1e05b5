"""A store in a bucket, or below a prefix in one. It must not know what the bytes mean."""

import contextlib
import io
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final

from storage.bucket import Bucket
from storage.errors import MissingError
from storage.place import S3Access, split_url
from storage.steps import reached
from storage.store import LINK_S, Stored, clear_hidden, hidden_file

SETTING: Final = "AUDIOPHILE_DATA"


class S3Store:
    """A bucket that honours `If-None-Match: *`, without which two writers would overwrite each other's commits.

    Args:
        url: `s3://bucket` or `s3://bucket/prefix`.
        access: How the bucket is reached.
        staging_folder: A folder of this host's own, for what does not fit into memory.
    """

    def __init__(self, url: str, access: S3Access, staging_folder: Path) -> None:
        name, prefix = split_url(url)
        self._bucket = Bucket(name, access, SETTING)
        self._prefix = f"{prefix}/" if prefix else ""
        self._staging_folder = staging_folder
        self._url = url

    def __str__(self) -> str:
        return f"{self._bucket}, {self._url}" if self._prefix else str(self._bucket)

    def read(self, path: str) -> bytes | None:
        """Return the bytes at `path`, or None where there are none."""
        return self._bucket.get(self._prefix + path)

    def read_many(self, paths: Sequence[str]) -> list[bytes | None]:
        """Return the bytes at each path, asked for a few at a time."""
        return self._bucket.get_many([self._prefix + path for path in paths])

    def write(self, path: str, content: bytes) -> None:
        """Put `content`; S3 acknowledges it once it is durable."""
        reached("bytes written")
        self._bucket.put(self._prefix + path, content)
        reached("bytes placed")

    def write_if_absent(self, path: str, content: bytes) -> bool:
        """Put `content` unless something is there; after a repeated put, False may mean our own: read it back."""
        reached("bytes written")
        written = self._bucket.put_if_absent(self._prefix + path, content)
        reached("bytes placed")
        return written

    def remove(self, path: str) -> None:
        """Remove the bytes at `path`, if any."""
        self._bucket.remove(self._prefix + path)

    def names(self, folder: str) -> list[str]:
        """Return the names right below `folder`, sorted."""
        below = f"{self._prefix}{folder}/"
        names: set[str] = set()
        for page in self._bucket.pages(below, delimiter="/"):
            names |= {key.removeprefix(below).rstrip("/") for key in [*page.folders, *(o.key for o in page.objects)]}
        return sorted(name for name in names if name and not name.startswith("."))

    def found(self, folder: str) -> Iterator[Stored]:
        """Yield everything below `folder`, however deep."""
        for page in self._bucket.pages(f"{self._prefix}{folder}/"):
            for found in page.objects:
                if not found.key.endswith("/"):  # what consoles make to show an empty folder
                    yield Stored(found.key.removeprefix(self._prefix), found.size_bytes, found.modified_at)

    def stat(self, path: str) -> Stored | None:
        """Say what is at `path`, or None where nothing is."""
        found = self._bucket.head(self._prefix + path)
        return Stored(path, found.size_bytes, found.modified_at) if found else None

    def exists(self, path: str) -> bool:
        """Say whether something is at `path`."""
        return self._bucket.head(self._prefix + path) is not None

    @contextlib.contextmanager
    def staging(self) -> Iterator[tuple[BinaryIO, Path]]:
        """Open a hidden file in this host's own folder."""
        with hidden_file(self._staging_folder) as opened:
            yield opened

    def adopt(self, staged: Path, path: str) -> None:
        """Upload a file, in parts where it is large; it is at `path` once it is whole."""
        self._bucket.put_file(self._prefix + path, staged)

    @contextlib.contextmanager
    def on_disk(self, path: str) -> Iterator[Path]:
        """Download into this host's own folder, for as long as the context lasts."""
        with hidden_file(self._staging_folder) as (file, place):
            if not self._bucket.download(self._prefix + path, file, self._staging_folder):
                raise MissingError(f"{self}: {path} is not there; restore it from a copy of the lake")
            file.close()
            yield place

    def open(self, path: str) -> io.RawIOBase:
        """Open the object as it is now: each read is a request, for exactly what is asked for."""
        found = self._bucket.head(self._prefix + path)
        if found is None:
            raise MissingError(f"{self}: {path} is not there; restore it from a copy of the lake")
        return self._bucket.reader(found)

    def link(self, path: str, *, content_type: str, disposition: str) -> str | None:
        """Return a signed address; it has the key's id in it, and not its secret."""
        headers = {"ResponseContentType": content_type, "ResponseContentDisposition": disposition}
        return self._bucket.link(self._prefix + path, LINK_S, **headers)

    def move(self, path: str, new_path: str) -> bool:
        """Copy on the server, then remove: what breaks off in between leaves both."""
        return self._bucket.move(self._prefix + path, self._prefix + new_path)

    def clear_unfinished(self, before: datetime) -> int:
        """Remove what downloads and uploads left in this host's own folder."""
        return clear_hidden(self._staging_folder, before)
