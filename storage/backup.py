"""Copies a lake while it is in use: `python -m storage.backup <folder or s3://bucket/prefix>`.

What names something is written after it: receipts after their bytes, log entries after everything that they name. So
a backup that breaks off leaves a copy that the next one completes. The copy loses what the lake lost, because people
may demand that their recordings go.
"""

import argparse
import contextlib
import hashlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from storage.copying import Objects, sha256_of
from storage.errors import MissingError, SettingsError, StorageError, StoreError
from storage.inbox import Receipt
from storage.index import Index
from storage.lake import Lake, open_store
from storage.log import LARGEST_BATCH, entry_path
from storage.manifest import Manifest, manifest_path, newest_manifest
from storage.media import BLOB, HASH, media_path
from storage.place import Place, normalised
from storage.report import Progress
from storage.settings import Settings, get_settings
from storage.store import Store
from storage.ticker import Ticker
from storage.verify import require_lake

LOOKS: Final = 20  # at a lake whose maintenance removes files faster than they are copied
FILES: Final = frozenset({"files"})

_ID: Final = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_OURS: Final = re.compile(
    rf"data/[a-z_]+/{_ID}/{_ID}-[^/]+\.parquet"
    rf"|{BLOB.pattern}|inbox/{HASH.pattern}\.[0-9a-f]+\.json|snap/\d{{20}}(\.json|/.+)"
)
"""What a backup may remove from its target: nothing that somebody else keeps there."""


@dataclass(frozen=True, slots=True)
class Copied:
    """What a backup did.

    Attributes:
        head: The last log entry that the copy has.
        copied: How many objects were copied.
        copied_bytes: How large they were.
        kept: How many were there already.
        removed: How many the lake has no more.
        damaged: What the lake should have and has not, or not whole. The copy lacks it as well, unless it had it.
    """

    head: int
    copied: int
    copied_bytes: int
    kept: int
    removed: int
    damaged: tuple[str, ...]


def backup(source: Lake, target: Place, *, progress: Progress | None = None) -> Copied:
    """Bring the copy of a lake at `target` up to date, or make it.

    Args:
        source: The lake, which may be written meanwhile.
        target: Where the copy lies.
        progress: Is told how far it is.

    Raises:
        SettingsError: `target` has another lake or a newer state of this one, or is within it.
        StoreError: One of the two cannot be reached, read or written.
    """
    _require_apart(source.place, target)
    store = open_store(target)
    store.clear_unfinished(datetime.now(UTC) - timedelta(days=1))
    copy = _Copy(source, store, progress, Objects(source.store, store))
    with source.index(FILES) as index:
        copy.require_same_lake(index.applied_seq)
        receipts = copy.inbox()
        snapshot, head = copy.contents(index)
        copy.log(head)
        copy.remove_what_is_gone(index, receipts, snapshot)
    return copy.copied(head)


@dataclass(slots=True)
class _Copy:
    """A backup under way."""

    source: Lake
    target: Store
    progress: Progress | None
    objects: Objects
    _removed: int = 0

    def copied(self, head: int) -> Copied:
        """Return what was done."""
        return Copied(
            head,
            len(self.objects.copied),
            sum(self.objects.copied.values()),
            len(self.objects.kept - self.objects.copied.keys()),
            self._removed,
            tuple(f"{path}: {wrong}" for path, wrong in self.objects.damaged.items()),
        )

    def require_same_lake(self, head: int) -> None:
        """Refuse to overwrite another lake, or to undo what a copy that was restored has gone through since."""
        names = [name for name in self.target.names("log") if name.endswith(".json")]
        for path in {f"log/{name}" for name in (names[:1] + names[-1:])}:
            if self.source.store.read(path) != self.target.read(path):
                raise SettingsError(
                    f"{self.target}: {path} is not the one of {self.source.store}, whose log ends at entry {head}: it "
                    "is no earlier state of this lake. Give the backup another place, or look which of the two is right"
                )

    def inbox(self) -> list[Receipt]:
        """Copy receipts, each after its bytes; what is ingested meanwhile is in the log by now."""
        receipts = self.source.inbox.receipts()
        for number, receipt in enumerate(receipts, 1):
            content = self.source.store.read(receipt.path)
            try:
                if content is not None:
                    self.objects.stream(media_path(receipt.sha256), receipt.sha256, receipt.size_bytes)
                    self._write(receipt.path, content)
            except MissingError as error:
                if self.source.store.stat(receipt.path) is not None:
                    self.objects.damaged[receipt.path] = str(error)
            self._at("receipts", number, len(receipts))
        return receipts

    def contents(self, index: Index) -> tuple[Manifest | None, int]:
        """Copy what the log names; where something is gone meanwhile, by a newer state of the log.

        Returns:
            The snapshot that was copied, and the log entry that all of it is of.
        """
        for _ in range(LOOKS):
            index.catch_up()
            missing = {*self._tables(index), *self._media(index)}
            snapshot = self._snapshot(index.applied_seq)
            if not missing:
                break
            head = index.applied_seq
            if index.catch_up() == head:
                self.objects.damaged |= dict.fromkeys(sorted(missing), "the log names it, and it is not there")
                break
        else:
            self.objects.damaged |= dict.fromkeys(sorted(missing), "it was not there whenever it was looked for")
        return snapshot, index.applied_seq

    def log(self, head: int) -> None:
        """Copy the log up to entry `head`, in order."""
        there = {f"log/{name}" for name in self.target.names("log")}
        wanted = [path for path in map(entry_path, range(1, head + 1)) if path not in there]
        self.objects.kept |= there
        for start in range(0, len(wanted), LARGEST_BATCH):
            paths = wanted[start : start + LARGEST_BATCH]
            for path, content in zip(paths, self.source.store.read_many(paths), strict=True):
                if content is None:
                    self.objects.damaged[path] = "it is missing, and later entries are there"
                else:
                    self.objects.write(path, content)
            self._at("log entries", start + len(paths), len(wanted))

    def remove_what_is_gone(self, index: Index, receipts: list[Receipt], snapshot: Manifest | None) -> None:
        """Remove from the target what the lake has given up: replaced files, older snapshots, what was erased."""
        erased = index.erased({receipt.file_id for receipt in receipts})
        waiting = [receipt for receipt in receipts if receipt.file_id not in erased]
        recordings = {row["sha256"] for row in index.query("SELECT sha256 FROM files")}
        recordings |= {receipt.sha256 for receipt in waiting}
        wanted = {file.path for file in index.live_files()} | {receipt.path for receipt in waiting}
        if snapshot is not None:
            wanted |= {manifest_path(snapshot.seq), *(file.path for file in snapshot.tables.values())}
        gone = [
            path
            for path in self.objects.there
            if _OURS.fullmatch(path) and path not in wanted and sha256_of(path) not in recordings
        ]
        for number, path in enumerate(sorted(gone, key=_manifests_first), 1):
            self.target.remove(path)
            self._removed += 1
            self._at("removing", number, len(gone))

    def _tables(self, index: Index) -> Iterator[str]:
        """Copy live Parquet files; yield what is missing."""
        files = index.live_files()
        for number, file in enumerate(files, 1):
            if not self.objects.has(file.path, file.size_bytes):
                content = self.source.store.read(file.path)
                if content is None:
                    yield file.path
                elif hashlib.sha256(content).hexdigest() != file.sha256:
                    self.objects.damaged[file.path] = "its sha256 is not the one in the log"
                else:
                    self.objects.write(file.path, content)
            self._at("Parquet files", number, len(files))

    def _media(self, index: Index) -> Iterator[str]:
        """Copy recordings and what lies beside them; yield what is missing."""
        rows = index.query("SELECT sha256, size_bytes, status FROM files")
        known = {row["sha256"] for row in rows}
        beside = [s for s in self.source.store.found("media") if sha256_of(s.path) in known]
        for number, stored in enumerate(beside, 1):
            sha256 = "" if Path(stored.path).suffix else sha256_of(stored.path)
            with contextlib.suppress(MissingError):  # if it is one that must be there, it is looked for below
                self.objects.stream(stored.path, sha256, stored.size_bytes)
            self._at("recordings", number, len(beside))
        for row in rows:
            path = media_path(row["sha256"])
            is_done = path in self.objects.there or path in self.objects.damaged
            if row["status"] == "accepted" and not is_done:
                try:
                    self.objects.stream(path, row["sha256"], row["size_bytes"])
                except MissingError:
                    yield path

    def _snapshot(self, head: int) -> Manifest | None:
        """Copy the newest snapshot that is not newer than the log of the copy, unless it is removed meanwhile."""
        for _ in range(LOOKS):
            manifest = newest_manifest(self.source.store, below=head + 1)
            if manifest is None:
                return None
            content = self.source.store.read(manifest_path(manifest.seq))
            try:
                for file in manifest.tables.values():
                    self.objects.stream(file.path, file.sha256, file.size_bytes)
            except MissingError as error:
                if self.source.store.stat(manifest_path(manifest.seq)) is not None:
                    self.objects.damaged[manifest_path(manifest.seq)] = str(error)
                    return None
                continue
            if any(file.path in self.objects.damaged for file in manifest.tables.values()):
                return None
            if content is not None:
                self._write(manifest_path(manifest.seq), content)
                return manifest
        return None

    def _write(self, path: str, content: bytes) -> None:
        if not self.objects.has(path, len(content)):
            self.objects.write(path, content)

    def _at(self, what: str, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(what, done, total)


def _manifests_first(path: str) -> tuple[bool, str]:
    """So that nobody begins with half of a snapshot."""
    return not path.endswith(".json"), path


def _require_apart(source: Place, target: Place) -> None:
    if source.is_s3 == target.is_s3:
        one, other = (place.url if place.is_s3 else str(Path(place.url).resolve()) for place in (source, target))
        if f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/"):
            raise SettingsError(
                f"{target.url}: one of it and the lake {source.url} is within the other; choose a place apart"
            )


def place_of(url: str, settings: Settings) -> Place:
    """Return the place that a user names, with this host's own folder and its way to buckets.

    Raises:
        SettingsError: It is no folder's path and no `s3://bucket/prefix`.
    """
    try:
        url = normalised(url)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    return Place(url, settings.local, settings.access)


def main(arguments: list[str] | None = None) -> int:
    """Back up the lake of the settings; return 0 where all is well, 1 where the lake is damaged, 2 where it failed."""
    parser = argparse.ArgumentParser(
        prog="python -m storage.backup", description="Copy the lake at AUDIOPHILE_DATA, which may be in use."
    )
    parser.add_argument("target", help="a folder, or s3://bucket/prefix, reached as the settings say")
    options = parser.parse_args(arguments)
    ticker = Ticker()
    try:
        if not options.target:
            raise StoreError("say where to: make backup TO=/mnt/copy, or TO=s3://bucket/prefix")
        settings = get_settings()
        require_lake(settings.place)
        done = backup(Lake.open(settings.place), place_of(options.target, settings), progress=ticker)
    except StorageError as error:
        ticker.close()
        sys.stderr.write(f"audiophile: {error}\n")
        return 2
    ticker.close()
    sys.stdout.write(
        f"{options.target}: the lake up to log entry {done.head}; {done.copied:,} objects copied "
        f"({done.copied_bytes:,} bytes), {done.kept:,} were there, {done.removed:,} removed\n"
    )
    for one in done.damaged:
        sys.stderr.write(f"audiophile: the lake is damaged: {one}\n")
    return 1 if done.damaged else 0


if __name__ == "__main__":
    sys.exit(main())
