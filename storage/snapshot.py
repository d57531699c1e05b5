"""Makes snapshots: what an index holds, as Parquet, so that nobody has to read the whole log.

A snapshot has the whole of the small tables, and of predictions and utterances what is some file's latest, or held.
Whatever it holds could be had from the log and the Parquet files that it names.
"""

import hashlib
import logging
import uuid
from pathlib import Path
from typing import Final
from uuid import UUID

import duckdb
import pyarrow.parquet as pq

from storage.base import quoted
from storage.errors import IndexDamagedError, StoreError
from storage.index import Index
from storage.manifest import FOLDER, Manifest, SnapshotFile, manifest_path, newest_manifest
from storage.schema import SCHEMAS, SNAPSHOT_ORDER
from storage.steps import reached
from storage.store import Store
from storage.tail import Seen

log = logging.getLogger(__name__)

FOLD_AFTER: Final = 300
"""Log entries beyond the newest snapshot that make another one worth its cost."""

_SELECTIONS: Final = {
    "removed_files": (
        "SELECT r.* FROM removed_files r JOIN entries e USING (seq)"
        " WHERE e.committed_at > (SELECT max(committed_at) FROM entries) - INTERVAL 60 DAY"
    ),
    "coverage": "SELECT * FROM answers UNION ALL SELECT * FROM coverage WHERE seq IN (SELECT seq FROM withheld)",
    "utterances": "SELECT r.* FROM utterances r SEMI JOIN counting USING (file_id, seq)",
    "predictions": "SELECT r.* FROM predictions r SEMI JOIN counting USING (file_id, seq)",
}
_COUNTING: Final = """
WITH counting AS (
  SELECT file_id, seq FROM latest UNION ALL SELECT DISTINCT file_id, seq FROM coverage
  WHERE seq IN (SELECT seq FROM withheld) AND seq NOT IN (SELECT seq FROM decisions)
)
"""


def fold(store: Store, index: Index, *, after: int = FOLD_AFTER) -> Manifest | None:
    """Write a snapshot, unless fewer than `after` log entries have come since the newest one.

    Args:
        store: Where the lake lies.
        index: One of all tables, caught up.
        after: At least 1.

    Returns:
        The snapshot, or None where there was no need, another process was faster, or somebody was erased meanwhile.

    Raises:
        StoreError: It cannot be written.
    """
    newest = newest_manifest(store)
    if index.applied_seq - (newest.seq if newest else 0) < after:
        return None
    attempt = uuid.uuid4()
    try:
        seen, tables = _dumped(store, index, attempt)
    except IndexDamagedError:  # and the index has been made anew
        index.catch_up()
        seen, tables = _dumped(store, index, attempt)
    reached("snapshot written")
    index.catch_up()
    if index.query("SELECT 1 FROM tombstones WHERE seq > ? LIMIT 1", [seen.seq]):
        for file in tables.values():  # it has rows of somebody who was erased meanwhile
            store.remove(file.path)
        return None
    manifest = Manifest(seen.seq, seen.group_seq, tables)
    store.write_if_absent(manifest_path(manifest.seq), manifest.encode())
    reached("snapshot published")
    published = store.read(manifest_path(manifest.seq))
    return manifest if published == manifest.encode() else None


def _dumped(store: Store, index: Index, attempt: UUID) -> tuple[Seen, dict[str, SnapshotFile]]:
    """Write every table as it is in one state of the index."""
    with index.reading() as seen:
        folder = f"{FOLDER}/{seen.seq:020d}/{attempt}"
        return seen, {name: _dump(store, index, name, folder) for name in SCHEMAS}


def _dump(store: Store, index: Index, name: str, folder: str) -> SnapshotFile:
    selection = _SELECTIONS.get(name, f"SELECT * FROM {name}")  # noqa: S608  names of the schema
    path = f"{folder}/{name}.parquet"
    with store.staging() as (_, staged):
        try:
            index.run(
                f"COPY ({_COUNTING} SELECT * FROM ({selection}) ORDER BY {SNAPSHOT_ORDER[name]})"  # noqa: S608
                # No file beside the staged one, which nobody would look for after a kill.
                f" TO {quoted(staged)} (FORMAT parquet, COMPRESSION zstd, USE_TMP_FILE false)"
            )
        except duckdb.IOException as error:
            raise StoreError(
                f"{staged.parent}: the snapshot cannot be written ({error}). Make room there, or make it writable"
            ) from error
        size_bytes, rows, sha256 = staged.stat().st_size, pq.read_metadata(staged).num_rows, _sha256(staged)
        store.adopt(staged, path)
    return SnapshotFile(path, size_bytes, rows, sha256)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
