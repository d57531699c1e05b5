"""The log: one JSON file per commit, numbered without gaps, never changed; the only truth of a lake.

Whatever no log entry names does not exist for readers.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from storage.errors import LogError
from storage.store import Store

SCHEMA_VERSION: Final = 1
OPS: Final = frozenset({"ingest", "group", "refresh"})


@dataclass(frozen=True, slots=True)
class DataFile:
    """One Parquet file that an entry adds."""

    table: str
    path: str
    size_bytes: int
    rows: int
    min_file_id: UUID
    max_file_id: UUID
    sha256: str


@dataclass(frozen=True, slots=True)
class GroupModel:
    """One model of the group, as a `group` entry records it."""

    name: str
    version: str
    task: str
    enabled: bool
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One commit.

    `key` makes it idempotent: a run that tries again finds its own key and stops. `attempt` tells two tries apart.
    """

    seq: int
    op: str
    key: UUID
    attempt: UUID
    started_at: datetime
    committed_at: datetime
    group_seq: int
    counts: Mapping[str, float] = field(default_factory=dict)
    reference: UUID | None = None
    group: tuple[GroupModel, ...] = ()
    files: tuple[DataFile, ...] = ()
    removed: tuple[str, ...] = ()
    schema_version: int = SCHEMA_VERSION


def entry_path(seq: int) -> str:
    """Return where entry `seq` lies in the store."""
    return f"log/{seq:020d}.json"


def read_entry(store: Store, seq: int) -> LogEntry | None:
    """Return entry `seq`, or None where the log ends before it.

    Raises:
        LogError: It cannot be understood.
    """
    content = store.read(entry_path(seq))
    return None if content is None else decode(content, seq)


def read_entries(store: Store, after: int) -> Iterator[LogEntry]:
    """Yield the entries that follow `after`, in order, up to the end of the log."""
    seq = after + 1
    while (entry := read_entry(store, seq)) is not None:
        yield entry
        seq += 1


def encode(entry: LogEntry) -> bytes:
    """Return the JSON of `entry`."""
    return json.dumps(dataclasses.asdict(entry), default=_plain, indent=1).encode()


def decode(content: bytes, seq: int) -> LogEntry:
    """Return the entry whose JSON is `content`.

    Raises:
        LogError: It is damaged, has another number than `seq`, or is of a newer format.
    """
    try:
        raw = json.loads(content)
        if raw["schema_version"] > SCHEMA_VERSION:
            raise LogError(
                f"log entry {seq} has format {raw['schema_version']}, and this version reads up to {SCHEMA_VERSION}: "
                "update Audiophile on this host"
            )
        entry = LogEntry(
            **raw
            | {
                "key": UUID(raw["key"]),
                "attempt": UUID(raw["attempt"]),
                "reference": UUID(raw["reference"]) if raw["reference"] else None,
                "started_at": datetime.fromisoformat(raw["started_at"]),
                "committed_at": datetime.fromisoformat(raw["committed_at"]),
                "group": tuple(GroupModel(**model) for model in raw["group"]),
                "files": tuple(
                    DataFile(
                        **file | {"min_file_id": UUID(file["min_file_id"]), "max_file_id": UUID(file["max_file_id"])}
                    )
                    for file in raw["files"]
                ),
                "removed": tuple(raw["removed"]),
            }
        )
        if entry.seq != seq or entry.op not in OPS:
            raise ValueError(f"it says seq={entry.seq}, op={entry.op!r}")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise LogError(f"log entry {seq} is damaged ({error}): restore log/ from a copy of the lake") from error
    return entry


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no JSON")
