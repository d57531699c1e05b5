"""The manifest of a snapshot: which Parquet files it is made of. Nothing of a snapshot counts before it is there."""

import dataclasses
import json
import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from storage.errors import LogError
from storage.log import SCHEMA_VERSION, entry_path
from storage.store import Store, Stored

log = logging.getLogger(__name__)

FOLDER: Final = "snap"


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """One table of a snapshot."""

    path: str
    size_bytes: int
    rows: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A snapshot of the rows that count up to log entry `seq`."""

    seq: int
    group_seq: int
    tables: Mapping[str, SnapshotFile]
    schema_version: int = SCHEMA_VERSION

    def encode(self) -> bytes:
        """Return its JSON."""
        raw = {
            "seq": self.seq,
            "group_seq": self.group_seq,
            "schema_version": self.schema_version,
            "tables": {name: dataclasses.asdict(file) for name, file in self.tables.items()},
        }
        return json.dumps(raw, indent=1).encode()


def manifest_path(seq: int) -> str:
    """Return where the manifest of the snapshot of log entry `seq` lies."""
    return f"{FOLDER}/{seq:020d}.json"


def manifest_seqs(store: Store) -> list[int]:
    """Return the seqs that manifests are named after, newest first; some may be of no use."""
    names = [name.removesuffix(".json") for name in store.names(FOLDER) if name.endswith(".json")]
    return sorted((int(name) for name in names if name.isdecimal()), reverse=True)


def newest_seq(store: Store) -> int:
    """Return the seq of the newest snapshot that has a use, 0 where there is none."""
    newest = newest_manifest(store)
    return newest.seq if newest else 0


def newest_manifest(store: Store, below: int | None = None) -> Manifest | None:
    """Return the newest snapshot's manifest, of those before log entry `below` only where given."""
    return next(manifests(store, below=below), None)


def manifests(
    store: Store, *, above: int = 0, below: int | None = None, without: Collection[int] = ()
) -> Iterator[Manifest]:
    """Yield the manifests of snapshots, newest first.

    One that cannot be understood, or is of an entry that the log does not have, is logged and passed over: there is an
    older one, or the log.

    Args:
        store: Where they lie.
        above: Only those after this log entry.
        below: Only those before this log entry.
        without: Log entries whose snapshots are not looked at.
    """
    for seq in manifest_seqs(store):
        if seq <= above or (below is not None and seq >= below) or seq in without:
            continue
        try:
            manifest = read_manifest(store, seq)
        except LogError as error:
            log.error("%s", error)
            continue
        if manifest is not None:  # or else it was removed since the folder was listed
            yield manifest


def read_manifest(store: Store, seq: int) -> Manifest | None:
    """Return the manifest of the snapshot of log entry `seq`, or None where there is none.

    Raises:
        LogError: It is damaged, of a newer format, or of an entry that the log does not have.
    """
    content = store.read(manifest_path(seq))
    if content is None:
        return None
    manifest = decode(content, seq)
    if store.stat(entry_path(seq)) is None:  # whoever began there would leave a gap in the log
        raise LogError(f"snapshot {seq} cannot be used (the log has no such entry); it is passed over")
    return manifest


def decode(content: bytes, seq: int) -> Manifest:
    """Return the manifest whose JSON is `content`.

    Raises:
        LogError: It is damaged, or of a newer format.
    """
    try:
        raw = json.loads(content)
        if raw["schema_version"] > SCHEMA_VERSION or raw["seq"] != seq:
            raise ValueError(f"it says format {raw['schema_version']}, seq {raw['seq']}")
        tables = {name: SnapshotFile(**file) for name, file in raw["tables"].items()}
        return Manifest(seq, raw["group_seq"], tables, raw["schema_version"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise LogError(f"snapshot {seq} cannot be used ({error}); it is passed over") from error


def unfinished(store: Store) -> list[Stored]:
    """Return the files of snapshots that no manifest of use names: of folds that were cut off, or are under way."""
    named = {file.path for manifest in manifests(store) for file in manifest.tables.values()}
    return [stored for stored in store.found(FOLDER) if not stored.path.endswith(".json") and stored.path not in named]


def remove_snapshot(store: Store, seq: int) -> None:
    """Remove a snapshot: its manifest first, so that nobody begins with half of one."""
    store.remove(manifest_path(seq))
    for stored in list(store.found(f"{FOLDER}/{seq:020d}")):
        store.remove(stored.path)
