"""The commit: Parquet files first, then one log entry that makes them visible all at once.

The steps are written in ARCHITECTURE.md. What matters here: nothing is visible before its log entry; a key is
published once, however often its commit is tried; a plan made before somebody else's commit is made anew.
"""

import logging
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import pyarrow as pa

from storage.errors import CommitConflictError, MissingError, StoreError
from storage.index import Index
from storage.log import DataFile, GroupModel, LogEntry, encode, entry_path, read_entry
from storage.parquet import write_tables
from storage.steps import reached
from storage.store import Store

log = logging.getLogger(__name__)

MAX_TRIES: Final = 200
PAUSES_S: Final = (0.05, 0.5)  # between tries at one place, when the store fails

REPLANNED_BY: Final[Mapping[str, frozenset[str]]] = {
    "ingest": frozenset({"ingest", "delete"}),
    "group": frozenset({"group"}),
    "refresh": frozenset({"group", "refresh", "release", "delete"}),
    "drift": frozenset({"drift", "delete"}),
    "release": frozenset({"release", "reject"}),
    "reject": frozenset({"release", "reject"}),
    "delete": frozenset({"ingest", "delete"}),
    "rewrite": frozenset({"rewrite", "expire", "delete"}),
    "expire": frozenset({"refresh", "release", "rewrite", "expire", "delete"}),
}
"""Which commits of others make a plan of each kind stale.

A `reject` makes no refresh stale: nothing is carried from what is held, and of what was left out because it waited the
next refresh knows.
"""


@dataclass(frozen=True, slots=True)
class Draft:
    """What a commit is to add and to remove, planned against the index as it was; see `LogEntry`."""

    tables: Mapping[str, pa.Table] = field(default_factory=dict)
    files: tuple[DataFile, ...] = ()  # Parquet files that are written already
    counts: Mapping[str, float] = field(default_factory=dict)
    reference: UUID | None = None
    group: tuple[GroupModel, ...] = ()
    removed: tuple[str, ...] = ()
    held: bool = False
    expired: tuple[UUID, ...] = ()
    deleted: tuple[UUID, ...] = ()
    lifted: tuple[UUID, ...] = ()


Plan = Callable[[], Draft | None]


def commit(
    store: Store,
    index: Index,
    *,
    op: str,
    key: UUID,
    plan: Plan,
    started_at: datetime,
    replanned_by: frozenset[str] | None = None,
) -> LogEntry | None:
    """Publish what `plan` drafts, once.

    Args:
        store: Where the lake lies.
        index: The index that `plan` reads; it is caught up before each call of `plan`.
        op: What kind of entry.
        key: The commit's identity: an entry with this key ends the matter, whoever wrote it.
        plan: Drafts the commit against the index as it is; None says that nothing is left to commit.
        started_at: When the work began.
        replanned_by: Which commits of others make the plan stale. Default: REPLANNED_BY of `op`.

    Returns:
        The published entry, or None when the plan came to nothing.

    Raises:
        CommitConflictError: Others won every one of MAX_TRIES places.
        StoreError: The store failed, and what it holds shows that nothing was published.
    """
    attempt = uuid.uuid4()
    stale_by = REPLANNED_BY[op] if replanned_by is None else replanned_by
    index.catch_up()
    draft: Draft | None = None
    files: tuple[DataFile, ...] = ()
    planned_at = -1
    for tries in range(MAX_TRIES):
        published = index.entry_with_key(key)
        if published is not None:
            return read_entry(store, published)
        if draft is None or index.has_entries_of(stale_by, after=planned_at):
            attempt = uuid.uuid4()
            draft, planned_at = _planned(index, plan), index.applied_seq
            if draft is None:
                return None
            reached("planned")
            files = draft.files + write_tables(store, key, attempt, draft.tables)
            reached("tables written")
        if gone := index.given_up(file.path for file in files):
            raise StoreError(
                f"{op} {key}: {gone[0]} lay unused for longer than GRACE_H and was removed; the next run writes it anew"
            )
        entry = _entry(index, draft, files, op=op, key=key, attempt=attempt, started_at=started_at)
        reached("head found")
        if publish(store, entry):
            reached("read back")
            index.catch_up()
            return entry
        log.info("commit %s lost place %d in the log, try %d", key, entry.seq, tries + 1)
        index.catch_up()
    raise CommitConflictError(
        f"{op} {key}: other writers won {MAX_TRIES} places in the log in a row; the next run tries again"
    )


def _planned(index: Index, plan: Plan) -> Draft | None:
    """Plan; once more where a file that the plan reads was removed meanwhile, which the log says by now."""
    try:
        return plan()
    except MissingError:
        index.catch_up()
        return plan()


def _entry(
    index: Index, draft: Draft, files: tuple[DataFile, ...], *, op: str, key: UUID, attempt: UUID, started_at: datetime
) -> LogEntry:
    seq = index.applied_seq + 1
    return LogEntry(
        seq=seq,
        op=op,
        key=key,
        attempt=attempt,
        started_at=started_at,
        committed_at=datetime.now(UTC),
        group_seq=seq if op == "group" else index.group_seq,
        counts=draft.counts,
        reference=draft.reference,
        group=draft.group,
        files=files,
        removed=draft.removed,
        held=draft.held,
        expired=draft.expired,
        deleted=draft.deleted,
        lifted=draft.lifted,
    )


def publish(store: Store, entry: LogEntry) -> bool:
    """Put `entry` at its place in the log; False says that another entry has the place.

    After any error the place is read back, because a store may have accepted what it then failed to acknowledge; where
    it is empty, the entry is put again.

    Raises:
        StoreError: The store failed at every try, and the place is empty or cannot be read.
    """
    for pause_s in (*PAUSES_S, None):
        try:
            store.write_if_absent(entry_path(entry.seq), encode(entry))
        except (OSError, StoreError) as error:
            failure: Exception = error
        else:
            failure = StoreError("what was written is not there")
        reached("entry put")
        try:
            there = read_entry(store, entry.seq)
        except StoreError as error:
            there, failure = None, error
        if there is not None:
            return there.attempt == entry.attempt
        if pause_s is not None:
            time.sleep(pause_s)
    raise StoreError(
        f"log entry {entry.seq} could not be written, or it could not be seen whether it was: {failure}"
    ) from failure
