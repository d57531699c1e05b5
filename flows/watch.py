"""What waits to be ingested: acknowledged uploads, files in the watched folder, the demo. It must not decode any."""

import importlib.util
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import quote, quote_from_bytes

from storage.index import Index

UNFINISHED: Final = (".part", ".partial", ".tmp", ".crdownload", ".filepart", "~")
"""Endings of files that some program is still writing; names that start with a dot are passed over as well."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file on this host whose content may be new."""

    kind: str  # folder | demo
    uri: str
    name: str
    path: Path
    size_bytes: int
    mtime_ns: int
    etag: None = None  # those of a bucket have one

    def open(self) -> BinaryIO:
        """Open it for reading."""
        return self.path.open("rb")

    def unchanged(self) -> bool:
        """Say whether it is still as it was seen."""
        try:
            status = self.path.lstat()
        except OSError:
            return False
        return (status.st_size, status.st_mtime_ns) == (self.size_bytes, self.mtime_ns)

    def title(self) -> str:
        """Return the name that it is shown with."""
        return self.name


@dataclass(frozen=True, slots=True)
class Folder:
    """What a look at the watched folder found."""

    candidates: list[Candidate]  # new or changed, and settled
    gone: list[str]  # URIs of sources that were there and are not any more


def look(folder: Path, index: Index, settle_s: float) -> Folder:
    """Look for new, changed and vanished files below `folder`, twice, `settle_s` apart, if any is new.

    Files that changed between the looks are still being written: the next run takes them. Links are passed over, so
    that nothing outside of the folder is read. A folder that is not there at all says nothing of its files.

    Args:
        folder: The watched folder.
        index: Needs the table sources.
        settle_s: Seconds between the two looks.
    """
    if not folder.is_dir():
        return Folder([], [])
    columns = "uri, size_bytes, mtime_ns, present"
    known = {
        uri: (size_bytes, mtime_ns, present)
        for uri, size_bytes, mtime_ns, present in index.run(
            f"SELECT {columns} FROM current_sources WHERE kind = 'folder'"  # noqa: S608  from above
        ).fetchall()
    }
    fresh = [found for found in _files(folder) if known.pop(found[0], None) != (found[2], found[3], True)]
    candidates = [_candidate(*found) for found in fresh]
    if candidates:
        time.sleep(settle_s)
        candidates = [candidate for candidate in candidates if candidate.unchanged()]
    below = folder.as_uri().rstrip("/") + "/"
    gone = [uri for uri, (_, _, present) in known.items() if present and uri.startswith(below)]
    return Folder(candidates, gone)


def passed_over(name: str) -> bool:
    """Say whether a name is that of a hidden or an unfinished file."""
    return name.startswith(".") or name.lower().endswith(UNFINISHED)


def demo() -> list[Candidate]:
    """Return the recordings of speech that the moonshine-voice package ships."""
    package = importlib.util.find_spec("moonshine_voice")  # finds it without running it
    folders = package.submodule_search_locations if package else None
    if not folders:
        return []
    return [
        Candidate("demo", f"demo:{quote(path.name)}", path.name, path, path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted((Path(next(iter(folders))) / "assets").glob("*.wav"))
    ]


def _files(folder: Path) -> Iterator[tuple[str, str, int, int]]:
    """Yield URI, path, size and time of every file: plain values, as nearly all of them are known and passed over."""
    start = folder.as_uri().rstrip("/")
    try:
        entries = os.scandir(folder)
    except OSError:  # gone since its parent was listed, or not to be read
        return
    with entries:
        for entry in entries:
            try:
                if entry.is_dir(follow_symlinks=False):
                    if not entry.name.startswith("."):
                        yield from _files(Path(entry.path))
                    continue
                if passed_over(entry.name) or not entry.is_file(follow_symlinks=False):
                    continue
                status = entry.stat(follow_symlinks=False)
            except OSError:  # gone since the folder was listed
                continue
            uri = f"{start}/{quote_from_bytes(os.fsencode(entry.name))}"
            yield uri, entry.path, status.st_size, status.st_mtime_ns


def _candidate(uri: str, path: str, size_bytes: int, mtime_ns: int) -> Candidate:
    shown = os.fsencode(os.path.basename(path)).decode("utf-8", errors="replace")  # noqa: PTH119
    return Candidate("folder", uri, shown, Path(path), size_bytes, mtime_ns)
