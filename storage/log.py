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

SCHEMA_VERSION: Final = 4
OPS: Final = frozenset({"ingest", "group", "refresh", "drift", "release", "reject", "delete", "rewrite", "expire"})
FIRST_BATCH: Final = 1
LARGEST_BATCH: Final = 256


@dataclass(frozen=True, slots=True)
class DataFile:
    """One Parquet file that an entry adds.

    Its rows are of the entry's own seq, unless it was rewritten from others: then it has a column `seq`, and
    `min_seq` and `max_seq` say which there are.
    """

    table: str
    path: str
    size_bytes: int
    rows: int
    min_file_id: UUID
    max_file_id: UUID
    sha256: str
    min_seq: int | None = None
    max_seq: int | None = None


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

    Attributes:
        reference: The reference that a refresh makes, or that a release or reject is about.
        held: A refresh that is readable by its id, and never the latest until it is released.
        group: Of a group: the models from here on. Of a refresh: it is a one-off, and these have answered in it alone.
        files: Parquet files that it adds.
        removed: Paths of Parquet files that do not count any more.
        expired: References that are not kept any more. Rows of theirs that are some file's latest stay.
        deleted: Of a delete: recordings that are erased. Of a rewrite: those that no Parquet file holds any more.
        lifted: Of a delete: recordings that may be taken in again.
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
    held: bool = False
    expired: tuple[UUID, ...] = ()
    deleted: tuple[UUID, ...] = ()
    lifted: tuple[UUID, ...] = ()
    schema_version: int = SCHEMA_VERSION

    @property
    def live_files(self) -> tuple[DataFile, ...]:
        """The files that it adds, each with the seqs of its rows."""
        return tuple(
            file if file.min_seq is not None else dataclasses.replace(file, min_seq=self.seq, max_seq=self.seq)
            for file in self.files
        )


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
    """Yield the entries that follow `after`, in order, up to the end of the log.

    They are asked for in growing batches: a look that finds nothing costs one request, a long way takes few.
    """
    seq, batch = after + 1, FIRST_BATCH
    while True:
        for content in store.read_many([entry_path(seq + ahead) for ahead in range(batch)]):
            if content is None:
                return
            yield decode(content, seq)
            seq += 1
        batch = min(batch * 4, LARGEST_BATCH)


def entries_after(store: Store, seq: int) -> int:
    """Return how many entries follow `seq`, by looks that read nothing: one where none does, else some tens.

    Raises:
        StoreError: The store cannot be asked.
    """
    reach = 1
    while store.exists(entry_path(seq + reach)):
        reach *= 2
    there, absent = reach // 2, reach  # the log has no gaps
    while absent - there > 1:
        middle = (there + absent) // 2
        there, absent = (middle, absent) if store.exists(entry_path(seq + middle)) else (there, middle)
    return there


def encode(entry: LogEntry) -> bytes:
    """Return the JSON of `entry`."""
    return json.dumps(_plain(entry), default=_plain, indent=1).encode()


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
                **{name: tuple(UUID(one) for one in raw.get(name, ())) for name in ("expired", "deleted", "lifted")},
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
    if isinstance(value, DataFile | GroupModel | LogEntry):  # not asdict, which copies all that it finds
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    raise TypeError(f"{type(value).__name__} has no JSON")
