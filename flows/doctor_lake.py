"""Looks at a lake: its store, the head of its log, its newest snapshot. Quickly; `make verify` looks at everything."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from flows.diagnosis import Finding, fail, ok, warn
from flows.doctor_clock import look_at_time_of
from storage.errors import LogError, StorageError, StoreError
from storage.lake import open_store
from storage.log import read_entry
from storage.manifest import manifest_seqs, newest_manifest
from storage.place import Place
from storage.probe import require_conditional_writes
from storage.store import Store

BEHIND: Final = 1_500
"""Log entries after a snapshot that show that nobody makes another: infer asks for one after 500."""


def look_at_lake(place: Place) -> Iterator[Finding]:
    """Look at the lake at a place; of one that is not there, say so."""
    if not place.is_s3 and not Path(place.url).is_dir():
        yield warn("store", f"{place.url}: no lake yet; `make up` makes one")
        return
    store = open_store(place)
    found = look_at_store(store)
    yield found
    if found.level is not found.level.OK:
        return
    try:
        yield from look_at_log(store)
    except StorageError as error:
        yield fail("log", str(error))


def look_at_store(store: Store) -> Finding:
    """Say whether a store can be reached, and never lets one writer overwrite another."""
    try:
        require_conditional_writes(store)
    except StoreError as error:
        return fail("store", str(error))
    return ok("store", f"{store}: reached, and a second write leaves the first alone")


def look_at_log(store: Store) -> Iterator[Finding]:
    """Say whether the log has no gap, its newest entry can be read, and a snapshot is near it."""
    seqs = sorted(int(stem) for name in store.names("log") if (stem := name.removesuffix(".json")).isdecimal())
    if not seqs:
        yield warn("log", "empty: nothing was taken in yet")
        return
    missing = next((seq for seq, there in enumerate(seqs, 1) if seq != there), None)
    if missing is not None:
        yield fail(
            "log",
            f"entry {missing} is not there, and {seqs[-1]} is the newest: readers stop before it. Restore log/ from a "
            "copy of the lake",
        )
        return
    newest = read_entry(store, seqs[-1])
    if newest is None:
        raise LogError(f"log entry {seqs[-1]} went away while it was looked at")
    yield ok("log", f"{len(seqs)} entries without a gap, the newest ({newest.op}) of {newest.committed_at:%F %T} UTC")
    yield look_at_time_of(newest)
    yield _look_at_snapshot(store, head=seqs[-1])


def _look_at_snapshot(store: Store, head: int) -> Finding:
    newest, seqs = newest_manifest(store), manifest_seqs(store)
    after = head - (newest.seq if newest else 0)
    remedy = "Start a run of maintain, which makes another: prefect deployment run maintain/maintain"
    if newest is not None:
        for file in newest.tables.values():
            stored = store.stat(file.path)
            if stored is None or stored.size_bytes != file.size_bytes:
                return fail("snapshot", f"{newest.seq}: {file.path} is not there as it was written. {remedy}")
        if newest.seq != seqs[0]:
            return warn("snapshot", f"{seqs[0]} cannot be used, and {newest.seq} is used in its place. {remedy}")
    if after > BEHIND:
        return warn(
            "snapshot", f"{after} entries have come since the newest one, so every start takes longer. {remedy}"
        )
    return ok("snapshot", f"of entry {newest.seq}, {after} entries ago" if newest else "none yet, and none is needed")
