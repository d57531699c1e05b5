"""The manifest of a snapshot: which Parquet files it is made of. Nothing of a snapshot counts before it is there."""

import dataclasses
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from storage.errors import LogError
from storage.log import SCHEMA_VERSION
from storage.store import Store

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
    """Return the seqs of all snapshots, newest first."""
    names = [name.removesuffix(".json") for name in store.names(FOLDER) if name.endswith(".json")]
    return sorted((int(name) for name in names if name.isdecimal()), reverse=True)


def newest_seq(store: Store) -> int:
    """Return the seq of the newest snapshot, 0 where there is none."""
    return next(iter(manifest_seqs(store)), 0)


def newest_manifest(store: Store, below: int | None = None) -> Manifest | None:
    """Return the newest snapshot's manifest, of those before log entry `below` only where given.

    One that cannot be understood is logged and passed over: there is an older one, or the log.
    """
    for seq in manifest_seqs(store):
        if below is not None and seq >= below:
            continue
        content = store.read(manifest_path(seq))
        if content is None:  # removed since the folder was listed
            continue
        try:
            return decode(content, seq)
        except LogError as error:
            log.error("%s", error)
    return None


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


def remove_snapshot(store: Store, seq: int) -> None:
    """Remove a snapshot: its manifest first, so that nobody begins with half of one."""
    store.remove(manifest_path(seq))
    for stored in list(store.found(f"{FOLDER}/{seq:020d}")):
        store.remove(stored.path)
