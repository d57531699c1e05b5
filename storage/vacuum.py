"""Vacuum: removes what no log entry names any more, after a grace period; never what an acknowledged upload needs.

A Parquet file that nobody named may be one of a refresh that is still under way. So it is given up in the log first, by
an entry that says it is removed; a refresh that then tries to publish it is told so (storage/commit.py).
"""

import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from storage.commit import Draft
from storage.index import Index
from storage.lake import Lake
from storage.log import OPS
from storage.manifest import manifest_path, manifest_seqs, manifests, remove_snapshot, unfinished
from storage.media import BLOB, HASH, TRASH, file_id_of
from storage.steps import reached
from storage.store import Stored

KEPT_SNAPSHOTS: Final = 2
BATCH: Final = 5_000  # paths in one entry

_TRASHED: Final = re.compile(rf"{TRASH}/({HASH.pattern})\.(\d+)")


@dataclass(frozen=True, slots=True)
class Vacuumed:
    """What a vacuum removed."""

    parquet_files: int = 0
    snapshots: int = 0
    blobs: int = 0
    unfinished: int = 0
    freed_bytes: int = 0


def vacuum(lake: Lake, index: Index, key: UUID, *, grace: timedelta, now: datetime | None = None) -> Vacuumed:
    """Remove what has not counted for longer than `grace`.

    Args:
        lake: Where.
        index: Needs the table files; caught up.
        key: From which the keys of its commits are made.
        grace: How long readers of an older state, and writers whose work is under way, are waited for.
        now: From when ages count.
    """
    before = (now or datetime.now(UTC)) - grace
    old = [stored for stored in lake.store.found("data") if stored.modified_at < before]
    removed = [*_replaced(index, old, before), *give_up(lake, index, old, key)]
    for stored in removed:
        lake.store.remove(stored.path)
        reached("file removed")
    snapshots = _snapshots(lake, index, before)
    blobs = _blobs(lake, index, before, now or datetime.now(UTC))
    freed = [*removed, *blobs]
    return Vacuumed(
        parquet_files=len(removed),
        snapshots=snapshots,
        blobs=len(blobs),
        unfinished=lake.store.clear_unfinished(before),
        freed_bytes=sum(stored.size_bytes for stored in freed),
    )


def _replaced(index: Index, old: list[Stored], before: datetime) -> list[Stored]:
    """Return the Parquet files that an entry removed longer ago than the grace period."""
    sql = "SELECT path FROM removed_files JOIN entries USING (seq) WHERE committed_at < ?"
    paths = {row["path"] for row in index.query(sql, [before])}
    return [stored for stored in old if stored.path in paths]


def give_up(lake: Lake, index: Index, old: list[Stored], key: UUID) -> list[Stored]:
    """Give up, in the log, the Parquet files that no entry names; return them."""
    given_up: list[Stored] = []
    named_now = _named(index)
    unnamed = [stored for stored in old if stored.path not in named_now]
    for number, start in enumerate(range(0, len(unnamed), BATCH)):
        batch = unnamed[start : start + BATCH]

        def plan(batch: list[Stored] = batch) -> Draft | None:
            named = _named(index)
            orphans = tuple(stored.path for stored in batch if stored.path not in named)
            return Draft(removed=orphans, counts={"orphans": len(orphans)}) if orphans else None

        reached("orphans found")
        commit_key = uuid.uuid5(key, f"orphans/{number}")
        entry = lake.commit(
            index, op="expire", key=commit_key, plan=plan, started_at=datetime.now(UTC), replanned_by=OPS
        )
        reached("orphans given up")
        if entry is not None:
            gone = frozenset(entry.removed)
            given_up += [stored for stored in batch if stored.path in gone]
    return given_up


def _named(index: Index) -> set[str]:
    rows = index.query("SELECT path FROM data_files UNION ALL SELECT path FROM removed_files")
    return {row["path"] for row in rows}


def _erased_seq(index: Index) -> int:
    """Return the newest log entry that erased somebody, 0 where none did."""
    return int(index.query("SELECT coalesce(max(seq), 0) AS seq FROM tombstones")[0]["seq"])


def _snapshots(lake: Lake, index: Index, before: datetime) -> int:
    """Remove older snapshots, those of no use, and the files of those never finished; return how many went.

    Only snapshots that somebody could begin at count as kept.
    """
    erased_seq = _erased_seq(index)
    listed = manifest_seqs(lake.store)
    seqs = [manifest.seq for manifest in manifests(lake.store)]
    gone = [seq for place, seq in enumerate(seqs) if place >= KEPT_SNAPSHOTS or (place and seq < erased_seq)]
    for seq in listed:
        stored_manifest = lake.store.stat(manifest_path(seq)) if seq not in seqs else None
        if stored_manifest is not None and stored_manifest.modified_at < before:
            gone.append(seq)
    for seq in gone:
        remove_snapshot(lake.store, seq)
        reached("snapshot removed")
    for stored in unfinished(lake.store):
        if stored.modified_at < before:
            lake.store.remove(stored.path)
    return len(gone)


def _blobs(lake: Lake, index: Index, before: datetime, now: datetime) -> list[Stored]:
    """Trash recordings that neither the log nor a receipt knows, and remove what has lain in the trash for long.

    A receipt may arrive between a look and the move: so it is looked for once more after the move, and whoever needs
    the bytes takes them back out of the trash (`Media.has`).
    """
    removed: list[Stored] = []
    for stored in list(lake.store.found(TRASH)):
        match = _TRASHED.fullmatch(stored.path)
        if match is None:
            continue
        if needed(lake, index, file_id_of(match[1])):
            lake.media.has(match[1])
        elif datetime.fromtimestamp(int(match[2]), UTC) < before:
            lake.store.remove(stored.path)
            removed.append(stored)
    known = {row["sha256"] for row in index.query("SELECT sha256 FROM files")}
    for stored in lake.store.found("media"):
        match = BLOB.fullmatch(stored.path)
        if match is None or match[1] in known or stored.modified_at >= before:
            continue
        if needed(lake, index, file_id_of(match[1])):
            continue
        lake.media.trash(match[1], now)
        reached("blob trashed")
        index.catch_up()
        if needed(lake, index, file_id_of(match[1])):
            lake.media.has(match[1])
        else:
            lake.media.remove_beside(match[1])
    return removed


def needed(lake: Lake, index: Index, file_id: UUID) -> bool:
    """Say whether the log or a receipt knows a recording."""
    return bool(index.query("SELECT 1 FROM files WHERE file_id = ?", [file_id])) or bool(lake.inbox.receipts(file_id))
