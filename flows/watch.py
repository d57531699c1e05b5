"""What waits to be ingested: acknowledged uploads, files in the watched folder, the demo. It must not decode any."""

import importlib.util
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import quote

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
    known = {
        row["uri"]: (row["size_bytes"], row["mtime_ns"], row["present"])
        for row in index.query("SELECT uri, size_bytes, mtime_ns, present FROM current_sources WHERE kind = 'folder'")
    }
    found = {candidate.uri: candidate for candidate in _files(folder)}
    fresh = {
        uri: candidate
        for uri, candidate in found.items()
        if known.get(uri) != (candidate.size_bytes, candidate.mtime_ns, True)
    }
    if fresh:
        time.sleep(settle_s)
        fresh = {uri: candidate for uri, candidate in fresh.items() if candidate.unchanged()}
    below = folder.as_uri().rstrip("/") + "/"
    gone = [uri for uri, (_, _, present) in known.items() if present and uri.startswith(below) and uri not in found]
    return Folder(list(fresh.values()), gone)


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


def _files(folder: Path) -> Iterator[Candidate]:
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(parent, name)
            if passed_over(name):
                continue
            try:
                status = path.lstat()
            except OSError:  # gone since the folder was listed
                continue
            if stat.S_ISREG(status.st_mode):
                shown = os.fsencode(name).decode("utf-8", errors="replace")
                yield Candidate("folder", path.as_uri(), shown, path, status.st_size, status.st_mtime_ns)
