"""What others put into the bucket of uploads: new, changed and vanished objects. It must not decode any.

A look costs what is new, and a bounded sweep: it lists from after the greatest known key, where names in the order of
time show up at once, and some pages from where the last sweep ended, so that every object is looked at once in a while.
"""

import errno
import json
import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from flows.watch import passed_over
from storage.errors import StoreError
from storage.inbox import readable
from storage.index import Index
from storage.place import STORAGES, object_uri
from storage.store import hidden_file
from storage.uploads import title

if TYPE_CHECKING:  # s3fs takes a second to import
    from storage.bucket import Bucket, Object

log = logging.getLogger(__name__)

PAGES: Final = 10  # of a listing, from each of the two starts
PAGE_KEYS: Final = 1000
GONE: Final = 200  # objects that a run asks for once more, before it says that they are gone


@dataclass(frozen=True, slots=True)
class InBucket:
    """An object whose content may be new."""

    bucket: "Bucket" = field(compare=False, repr=False)
    found: "Object"

    @property
    def kind(self) -> str:
        """The kind of source."""
        return "s3"

    @property
    def uri(self) -> str:
        """Where it is."""
        return object_uri(self.bucket.name, self.found.key)

    @property
    def name(self) -> str:
        """Its key, for messages."""
        return readable(self.found.key.removeprefix(STORAGES))

    @property
    def size_bytes(self) -> int:
        """Its size."""
        return self.found.size_bytes

    @property
    def mtime_ns(self) -> int:
        """When it was put there."""
        return int(self.found.modified_at.timestamp() * 1e9)

    @property
    def etag(self) -> str:
        """Which content it has."""
        return self.found.etag

    def open(self) -> BinaryIO:
        """Open it for reading; what was changed since it was found raises OSError."""
        return self.bucket.open(self.found)

    def unchanged(self) -> bool:
        """Say whether it is still as it was found: every block that was read has said so."""
        return True

    def title(self) -> str:
        """Return the name that it is shown with.

        Raises:
            OSError: The bucket cannot be read.
        """
        try:
            return title(self.bucket, self.found.key)
        except StoreError as error:
            raise OSError(errno.EIO, str(error)) from error


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where the next look starts."""

    bucket: str
    sweep: str = ""  # the sweep goes on after this key
    tail: str | None = None  # list from after this key, rather than the greatest known one: some of it was left over


@dataclass(frozen=True, slots=True)
class Look:
    """What a look into the bucket found."""

    candidates: list[InBucket]  # new or changed
    gone: list[str]  # URIs of sources that were there and are not any more
    left_over: Cursor  # where the next look starts if candidates are left over ...
    all_taken: Cursor  # ... and if none is


@dataclass(frozen=True, slots=True)
class _Range:
    """A part of a listing."""

    after: str
    until: str | None  # its last key, where more follow
    objects: "list[Object]"


def look_into(
    bucket: "Bucket", index: Index, cursor: Cursor, *, pages: int = PAGES, page_keys: int = PAGE_KEYS
) -> Look:
    """Look for new, changed and vanished objects.

    Args:
        bucket: The bucket.
        index: Needs the table sources.
        cursor: Where to start.
        pages: How many pages to list from each start.
        page_keys: Keys a page.

    Raises:
        StoreError: The bucket cannot be listed.
    """
    tail = _greatest_known(index, bucket.name) if cursor.tail is None else cursor.tail
    ranges = [_listed(bucket, after, pages, page_keys) for after in dict.fromkeys((tail, cursor.sweep))]
    found = {object_uri(bucket.name, entry.key): entry for part in ranges for entry in part.objects}
    known = _known(index, found)
    fresh = [
        InBucket(bucket, entry) for uri, entry in found.items() if known.get(uri) != (entry.size_bytes, entry.etag)
    ]
    candidates = [candidate for candidate in fresh if not passed_over(candidate.found.key.rsplit("/", 1)[-1])]
    gone = [uri for part in ranges for uri in _vanished(bucket, index, part, found)]
    return Look(
        candidates,
        list(dict.fromkeys(gone)),
        left_over=Cursor(bucket.name, cursor.sweep, tail),
        all_taken=Cursor(bucket.name, ranges[-1].until or ""),
    )


def read_cursor(file: Path, bucket: str) -> Cursor:
    """Return what an earlier run wrote, or the beginning: the file may be lost at any time."""
    try:
        cursor = Cursor(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return Cursor(bucket)
    return cursor if cursor.bucket == bucket else Cursor(bucket)


def write_cursor(file: Path, cursor: Cursor) -> None:
    """Write where the next look starts, all of it or nothing."""
    if cursor == read_cursor(file, cursor.bucket):
        return
    with hidden_file(file.parent) as (opened, staged):
        opened.write(json.dumps(asdict(cursor)).encode())
        opened.close()
        staged.replace(file)


def _listed(bucket: "Bucket", after: str, pages: int, page_keys: int) -> _Range:
    objects: list[Object] = []
    last = after
    for number, page in enumerate(bucket.pages(STORAGES, after=after, keys=page_keys), 1):
        last = page.objects[-1].key if page.objects else last
        objects += [entry for entry in page.objects if not entry.key.endswith("/")]  # those only show an empty folder
        if number == pages and not page.is_last and last != after:
            return _Range(after, last, objects)
    return _Range(after, None, objects)


def _greatest_known(index: Index, bucket: str) -> str:
    """Return the last of the keys that the log knows, in the order of their UTF-8, which is S3's.

    But for those that the API gave: hashes follow most names, and would hide what comes after these.
    """
    (row,) = index.query(
        "SELECT max(uri) AS last FROM current_sources WHERE kind = 's3' AND present AND starts_with(uri, ?)"
        " AND NOT regexp_matches(uri, '/[0-9a-f]{64}$')",
        [object_uri(bucket, STORAGES)],
    )
    return str(row["last"]).removeprefix(object_uri(bucket, "")) if row["last"] else ""


def _known(index: Index, uris: Iterable[str]) -> dict[str, tuple[int, str]]:
    """Return size and etag of the objects that the log knows to be there."""
    rows = index.query(
        "SELECT uri, size_bytes, etag FROM current_sources WHERE kind = 's3' AND present AND uri IN (SELECT unnest(?))",
        [list(uris)],
    )
    return {row["uri"]: (row["size_bytes"], row["etag"]) for row in rows}


def _vanished(bucket: "Bucket", index: Index, part: _Range, found: "dict[str, Object]") -> list[str]:
    """Return the known objects that should be in a part of the listing, and are not.

    Each is asked for before it is called gone: some servers list in an order of their own.
    """
    base = object_uri(bucket.name, "")
    rows = index.query(
        "SELECT uri FROM current_sources WHERE kind = 's3' AND present AND starts_with(uri, ?)"
        " AND uri > ? AND (? IS NULL OR uri <= ?) ORDER BY uri",
        [base + STORAGES, base + part.after, part.until, base + (part.until or "")],
    )
    missing = [row["uri"] for row in rows if row["uri"] not in found][:GONE]
    return [uri for uri in missing if bucket.head(uri.removeprefix(base)) is None]
