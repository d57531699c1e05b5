"""Erasure: people may demand that a recording goes, and everything that was made of it. A tombstone of its id stays.

It is one log entry, which hides the recording at once, and then work that can be done again at any time: its audio, its
upload's receipt, its rows in every live Parquet file, the snapshots that have them. Until all of that is done the
tombstone is not `purged`, and maintenance goes on with it.
"""

import contextlib
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from storage.commit import Draft
from storage.errors import MissingError, StoreError
from storage.index import Index
from storage.lake import Lake
from storage.log import DataFile, LogEntry
from storage.manifest import manifest_seqs, remove_snapshot, unfinished
from storage.media import HASH, TRASH
from storage.parquet import is_one_of, read_ids
from storage.rewrite import joined, rewritten
from storage.snapshot import fold
from storage.steps import reached
from storage.store import Stored
from storage.vacuum import give_up, needed

BATCH_FILES: Final = 64  # Parquet files in one entry
MAX_ENTRIES: Final = 10_000
UNDER_WAY: Final = timedelta(hours=1)
"""Files that no entry names, and that are younger, may belong to a run or a fold under way."""


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


@dataclass(frozen=True, slots=True)
class Purged:
    """What a purge came to: how many recordings nothing is left of, and why some have to wait for the next one."""

    recordings: int = 0
    waiting: tuple[str, ...] = ()


def purge(lake: Lake, index: Index, key: UUID, now: datetime | None = None) -> Purged:
    """Remove what is left of erased recordings. What is damaged, or may belong to a run under way, waits.

    Args:
        lake: Where.
        index: One of all tables, caught up.
        key: From which the keys of its commits are made.
        now: From when ages count.
    """
    pending = index.unpurged()
    if not pending:
        return Purged()
    before = (now or datetime.now(UTC)) - UNDER_WAY
    for file_id in pending:
        _remove_audio(lake, index, file_id)
    reached("audio erased")
    waiting = _remove_rows(lake, index, pending, key)
    waiting += _remove_uncounted(lake, index, pending, key, before)
    fold(lake.store, index, after=1)
    reached("erasure folded")
    for seq in manifest_seqs(lake.store):
        if seq < max(pending.values()):
            remove_snapshot(lake.store, seq)
    waiting += _remove_unfinished(lake, before)
    index.rebase()
    if waiting:
        return Purged(0, tuple(waiting))
    _mark(lake, index, pending, uuid.uuid5(key, "purged"))
    return Purged(len(pending))


def _remove_audio(lake: Lake, index: Index, file_id: UUID) -> None:
    """Remove a recording's bytes and what lies beside them, and receipts of uploads from before it was erased.

    An upload may arrive meanwhile, if the tombstone is lifted: so the bytes are put into the trash first, and looked
    for who needs them after that.
    """
    sql = "SELECT committed_at FROM tombstones JOIN entries USING (seq) WHERE file_id = ?"
    (erased_at,) = (row["committed_at"] for row in index.query(sql, [file_id]))
    for receipt in lake.inbox.receipts(file_id):
        if receipt.received_at < erased_at:
            lake.inbox.remove(receipt)
    folder = f"media/{file_id.hex[:2]}"
    for name in lake.store.names(folder):
        if not name.startswith(file_id.hex):
            continue
        if not HASH.fullmatch(name):  # what was made of it, and is made of the same bytes again if they come again
            index.catch_up()
            if index.erased([file_id]) or not needed(lake, index, file_id):
                lake.store.remove(f"{folder}/{name}")
            continue
        lake.media.trash(name, datetime.now(UTC))
        index.catch_up()
        if index.erased([file_id]):
            lake.media.remove_trashed(name)
        elif needed(lake, index, file_id):
            lake.media.has(name)
    for name in lake.store.names(TRASH):
        if name.startswith(file_id.hex) and index.erased([file_id]):
            lake.store.remove(f"{TRASH}/{name}")


def _remove_rows(lake: Lake, index: Index, pending: Mapping[UUID, int], key: UUID) -> list[str]:
    """Rewrite every Parquet file that holds rows from before a recording was erased; the old files go at once.

    Returns:
        What is damaged, and so cannot be rewritten.
    """
    done: dict[str, str] = {}  # paths of files without such rows, and what is wrong with them

    def drafts() -> Iterator[Draft]:
        for file in index.live_files():
            if file.path in done or not _may_hold(file, pending):
                continue
            try:
                holds = pc.any(is_one_of(read_ids(lake.store, file.path), pending)).as_py()
                draft = rewritten(lake, key, [file], lambda rows: _without(rows, pending)) if holds else None
            except MissingError:
                raise
            except StoreError as error:
                draft, done[file.path] = None, str(error)
            if draft is not None:
                yield draft
            else:
                done.setdefault(file.path, "")

    def plan() -> Draft | None:
        batch = list(islice(drafts(), BATCH_FILES))
        return replace(joined(batch), counts={"files_removed": len(batch)}) if batch else None

    for number in range(MAX_ENTRIES):
        commit_key = uuid.uuid5(key, f"purge/{number}")
        entry = lake.commit(index, op="rewrite", key=commit_key, plan=plan, started_at=datetime.now(UTC))
        if entry is None:
            return [wrong for wrong in done.values() if wrong]
        for path in entry.removed:
            lake.store.remove(path)
    raise StoreError(f"erasure: after {MAX_ENTRIES} rewrites there are still rows; the next maintenance goes on")


def _mark(lake: Lake, index: Index, purged: Mapping[UUID, int], key: UUID) -> None:
    """Say in the log that nothing is left, once nothing is: a purge that is cut off before is done again."""

    def plan() -> Draft | None:
        done = tuple(sorted(file_id for file_id, seq in index.unpurged().items() if purged.get(file_id) == seq))
        return Draft(deleted=done, counts={"purged": len(done)}) if done else None

    lake.commit(index, op="rewrite", key=key, plan=plan, started_at=datetime.now(UTC))


def _remove_uncounted(lake: Lake, index: Index, pending: Mapping[UUID, int], key: UUID, before: datetime) -> list[str]:
    """Remove Parquet files with such rows that count no more, or never did.

    Returns:
        Those that are so young that they may belong to a run under way.
    """
    live = {file.path for file in index.live_files()}
    holding: list[Stored] = []
    for stored in lake.store.found("data"):
        with contextlib.suppress(StoreError):  # gone by now, or damaged, and then of no use to anybody
            if stored.path not in live and pc.any(is_one_of(read_ids(lake.store, stored.path), pending)).as_py():
                holding.append(stored)
    replaced = set(index.given_up(stored.path for stored in holding))
    unnamed = [stored for stored in holding if stored.path not in replaced]
    given_up = give_up(lake, index, [stored for stored in unnamed if stored.modified_at < before], key)
    for path in [*replaced, *(stored.path for stored in given_up)]:
        lake.store.remove(path)
    return [f"{stored.path} may belong to a run under way" for stored in unnamed if stored.modified_at >= before]


def _remove_unfinished(lake: Lake, before: datetime) -> list[str]:
    """Remove files of snapshots that were never finished; return those that may be under way."""
    found = unfinished(lake.store)
    for stored in found:
        if stored.modified_at < before:
            lake.store.remove(stored.path)
    return [f"{stored.path} may be of a snapshot under way" for stored in found if stored.modified_at >= before]


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
