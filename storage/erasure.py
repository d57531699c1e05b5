"""Erasure: people may demand that a recording goes, and everything that was made of it. A tombstone of its id stays.

It is one log entry, which hides the recording at once, and then work that can be done again at any time: its audio, its
upload's receipt, its rows in every live Parquet file, the snapshots that have them. Until all of that is done the
tombstone is not `purged`, and maintenance goes on with it.
"""

import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from storage.commit import Draft
from storage.errors import StoreError
from storage.index import Index
from storage.lake import Lake
from storage.log import DataFile, LogEntry
from storage.manifest import manifest_seqs, remove_snapshot
from storage.media import TRASH
from storage.parquet import is_one_of, read_ids
from storage.rewrite import rewritten
from storage.snapshot import fold
from storage.steps import reached

BATCH_FILES: Final = 64  # Parquet files in one entry
MAX_ENTRIES: Final = 10_000


def erase(lake: Lake, index: Index, file_ids: Iterable[UUID], key: UUID) -> LogEntry | None:
    """Hide recordings for good, and keep their bytes from coming in again; `purge` removes what is left of them.

    An id that is not known yet is refused from now on as well.

    Returns:
        The entry, or None where all of them were erased before.
    """
    wanted = frozenset(file_ids)

    def plan() -> Draft | None:
        new = sorted(wanted - index.erased(wanted))
        return Draft(deleted=tuple(new), counts={"files": len(new)}) if new else None

    entry = lake.commit(index, op="delete", key=key, plan=plan, started_at=datetime.now(UTC))
    if entry is not None:
        reached("erasure committed")
    return entry


def lift(lake: Lake, index: Index, file_ids: Iterable[UUID], key: UUID) -> LogEntry | None:
    """Let recordings be taken in again, which brings nothing back.

    Returns:
        The entry, or None where none of them was erased.
    """
    wanted = frozenset(file_ids)

    def plan() -> Draft | None:
        known = sorted(index.erased(wanted))
        return Draft(lifted=tuple(known), counts={"files": len(known)}) if known else None

    return lake.commit(index, op="delete", key=key, plan=plan, started_at=datetime.now(UTC))


def purge(lake: Lake, index: Index, key: UUID) -> int:
    """Remove what is left of erased recordings; return how many they were.

    Args:
        lake: Where.
        index: One of all tables, caught up.
        key: From which the keys of its commits are made.
    """
    pending = index.unpurged()
    if not pending:
        return 0
    for file_id in index.erased(pending):
        _remove_audio(lake, file_id)
    reached("audio erased")
    _remove_rows(lake, index, pending, key)
    _remove_replaced(lake, index, pending)
    fold(lake.store, index, after=1)
    reached("erasure folded")
    for seq in manifest_seqs(lake.store):
        if seq < max(pending.values()):
            remove_snapshot(lake.store, seq)
    index.rebase()
    _mark(lake, index, pending, uuid.uuid5(key, "purged"))
    return len(pending)


def _remove_audio(lake: Lake, file_id: UUID) -> None:
    """Remove a recording's bytes and what lies beside them, and receipts of its uploads."""
    for folder in (f"media/{file_id.hex[:2]}", TRASH, "inbox"):
        for name in lake.store.names(folder):
            if file_id.hex in name:
                lake.store.remove(f"{folder}/{name}")


def _remove_rows(lake: Lake, index: Index, pending: Mapping[UUID, int], key: UUID) -> None:
    """Rewrite every Parquet file that holds rows from before a recording was erased; the old files go at once."""
    clean: set[str] = set()

    def plan() -> Draft | None:
        drafts: list[Draft] = []
        for file in index.live_files():
            if file.path in clean or not _may_hold(file, pending):
                continue
            draft = rewritten(lake, key, [file], lambda rows: _without(rows, pending)) if _holds(file) else None
            if draft is None:
                clean.add(file.path)
            else:
                drafts.append(draft)
            if len(drafts) == BATCH_FILES:
                break
        if not drafts:
            return None
        return Draft(
            files=tuple(file for draft in drafts for file in draft.files),
            removed=tuple(path for draft in drafts for path in draft.removed),
            counts={"files_removed": len(drafts)},
        )

    def _holds(file: DataFile) -> bool:
        return pc.any(is_one_of(read_ids(lake.store, file.path), pending)).as_py() or False

    for number in range(MAX_ENTRIES):
        commit_key = uuid.uuid5(key, f"purge/{number}")
        entry = lake.commit(index, op="rewrite", key=commit_key, plan=plan, started_at=datetime.now(UTC))
        if entry is None:
            return
        for path in entry.removed:
            lake.store.remove(path)
    raise StoreError(f"erasure: after {MAX_ENTRIES} rewrites there are still rows; the next maintenance goes on")


def _mark(lake: Lake, index: Index, purged: Mapping[UUID, int], key: UUID) -> None:
    """Say in the log that nothing is left, once nothing is: a purge that is cut off before is done again."""

    def plan() -> Draft | None:
        done = tuple(sorted(file_id for file_id, seq in index.unpurged().items() if purged.get(file_id) == seq))
        return Draft(deleted=done, counts={"purged": len(done)}) if done else None

    lake.commit(index, op="rewrite", key=key, plan=plan, started_at=datetime.now(UTC))


def _remove_replaced(lake: Lake, index: Index, pending: Mapping[UUID, int]) -> None:
    """Remove Parquet files that count no more, and were waiting for the end of their grace period."""
    for stored in list(lake.store.found("data")):
        if index.given_up([stored.path]) and pc.any(is_one_of(read_ids(lake.store, stored.path), pending)).as_py():
            lake.store.remove(stored.path)


def _may_hold(file: DataFile, pending: Mapping[UUID, int]) -> bool:
    return any(
        file.min_file_id <= file_id <= file.max_file_id and (file.min_seq or 0) < seq
        for file_id, seq in pending.items()
    )


def _without(rows: pa.Table, pending: Mapping[UUID, int]) -> pa.Table:
    """Return `rows` without those that are older than their recording's erasure."""
    for file_id, seq in pending.items():
        gone = pc.and_(is_one_of(rows["file_id"], [file_id]), pc.less(rows["seq"], seq))
        rows = rows.filter(pc.invert(gone))
    return rows
