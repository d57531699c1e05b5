"""Past references: which there were, what each says, and what each said of one recording.

An index has the predictions of latest references only, so those of others are read from Parquet files. A reference
that is not kept any more has no rows, whatever is still left of it.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from storage.errors import ExpiredReferenceError, IndexDamagedError, MissingError, UnknownReferenceError
from storage.index import Index
from storage.lake import Lake
from storage.log import GroupModel
from storage.parquet import is_one_of, read_tables
from storage.recordings import Prediction, Utterance, in_order

PUBLISHED, HELD, REJECTED, EXPIRED = "published", "held", "rejected", "expired"
STATES: Final = (PUBLISHED, HELD, REJECTED, EXPIRED)

TRIES: Final = 5  # at files that maintenance replaces while they are read

_STATE: Final = f"""
CASE WHEN e.seq IN (SELECT seq FROM expired) THEN '{EXPIRED}'
     WHEN e.seq NOT IN (SELECT seq FROM withheld) THEN '{PUBLISHED}'
     WHEN e.seq IN (SELECT seq FROM decisions) THEN '{REJECTED}'
     ELSE '{HELD}' END AS state
"""  # noqa: S608  names from above

_REFERENCES: Final = f"""
SELECT e.reference, e.seq, e.started_at, e.committed_at, e.group_seq, e.counts, {_STATE}
FROM entries e WHERE e.op = 'refresh' AND {{condition}} ORDER BY e.seq DESC LIMIT ?
"""  # noqa: S608

_ANSWERS: Final = f"""
SELECT c.*, e.reference, e.committed_at, {_STATE.replace(" AS state", " AS reference_state")}
FROM coverage c JOIN entries e USING (seq) WHERE c.file_id = ? ORDER BY c.seq DESC, c.model
"""  # noqa: S608

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reference:
    """A refresh that was committed.

    Attributes:
        seq: Its log entry. Later references have higher ones.
        state: published | held (waits for a decision) | rejected (never published) | expired (not kept).
        models: The model group that it was made with: of a one-off its own.
        counts: What its run counted.
    """

    reference: UUID
    seq: int
    started_at: datetime
    committed_at: datetime
    state: str
    models: tuple[GroupModel, ...]
    counts: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """How one model answered for a recording in one reference."""

    model: str
    version: str
    state: str  # computed | carried | failed
    reason: str | None
    tries: int
    predictions: int
    first_reference: UUID | None  # in which it was computed


@dataclass(frozen=True, slots=True)
class FileAnswer:
    """What one reference said of a recording.

    Attributes:
        state: The reference's, as in `Reference`: an expired one is here only while it is the recording's latest.
        is_latest: Its rows are what the recording shows.
    """

    reference: UUID
    seq: int
    committed_at: datetime
    state: str
    is_latest: bool
    models: tuple[ModelAnswer, ...]

    @property
    def is_expired(self) -> bool:
        """Say that the reference cannot be asked for any more."""
        return self.state == EXPIRED


def references(
    index: Index, *, limit: int = 100, before_seq: int | None = None, states: Collection[str] = STATES
) -> list[Reference]:
    """Return references, newest first.

    Args:
        index: Any.
        limit: How many at most.
        before_seq: Only older ones than this: the `seq` of the last one of the page before.
        states: Only those in one of these states.
    """
    condition, parameters = "list_contains(?, state)", [list(states)]
    if before_seq is not None:
        return _references(index, f"{condition} AND e.seq < ?", [*parameters, before_seq, limit])
    return _references(index, condition, [*parameters, limit])


def newest(index: Index) -> Reference:
    """Return the newest reference that is published, and kept.

    Raises:
        UnknownReferenceError: There is none.
    """
    for found in references(index, limit=1, states=(PUBLISHED,)):
        return found
    raise UnknownReferenceError("no reference has been published yet: the first follows the first recording by minutes")


def seq_of(index: Index, id_: UUID) -> int:
    """Return the log entry of a reference, kept or not.

    Raises:
        UnknownReferenceError: There never was such a reference.
    """
    return _known(index, id_).seq


def state_of(index: Index, id_: UUID) -> str:
    """Return the state of a reference, kept or not; see `Reference`.

    Raises:
        UnknownReferenceError: There never was such a reference.
    """
    return _known(index, id_).state


def reference_at(index: Index, seq: int) -> UUID:
    """Return the reference of a log entry that has one."""
    (row,) = index.query("SELECT reference FROM entries WHERE seq = ?", [seq])
    return UUID(str(row["reference"]))


def reference(index: Index, id_: UUID) -> Reference:
    """Return one reference that is kept, published or not.

    Raises:
        UnknownReferenceError: There never was one.
        ExpiredReferenceError: It is not kept any more.
    """
    found = _known(index, id_)
    if found.state == EXPIRED:
        made_at = found.committed_at.astimezone(UTC)
        raise ExpiredReferenceError(
            f"the reference {id_} of {made_at:%Y-%m-%d %H:%M} UTC is older than KEEP_REFERENCES and KEEP_DAYS ask to "
            "keep: choose a newer one, or a backup from before it expired"
        )
    return found


def _known(index: Index, id_: UUID) -> Reference:
    for found in _references(index, "e.reference = ?", [id_, 1]):
        return found
    raise UnknownReferenceError(f"no refresh has made the reference {id_}: choose one from the list of references")


def reference_rows(lake: Lake, index: Index, id_: UUID, table: str, file_ids: Iterable[UUID] | None = None) -> pa.Table:
    """Return the rows of one table as a reference has them, without recordings that were erased since.

    Args:
        lake: Where from.
        index: Any, caught up.
        id_: The reference.
        table: coverage, utterances or predictions.
        file_ids: Only of these recordings, where given.

    Raises:
        UnknownReferenceError: There never was such a reference.
        ExpiredReferenceError: It is not kept any more.
        StoreError: A file of it cannot be read.
    """
    wanted = None if file_ids is None else frozenset(file_ids)
    return _tables(lake, index, id_, (table,), wanted)[1][0]


def _tables(
    lake: Lake, index: Index, id_: UUID, names: tuple[str, ...], wanted: frozenset[UUID] | None
) -> tuple[Reference, list[pa.Table]]:
    """Return a reference and its rows, all as they are at one moment: half of one would look like the whole."""

    def read() -> tuple[Reference, list[pa.Table]]:
        with index.at_once():
            found = reference(index, id_)
            files = {name: index.live_files(name, seq=found.seq) for name in names}
            sql = "SELECT file_id FROM tombstones WHERE seq > ?"
            erased = [row["file_id"] for row in index.query(sql, [found.seq])]
        tables = [read_tables(lake.store, files[name], name, wanted, found.seq) for name in names]
        return found, [rows.filter(pc.invert(is_one_of(rows["file_id"], erased))) for rows in tables]

    return as_it_is_now(index, read)


@dataclass(frozen=True, slots=True)
class FileInReference:
    """What one reference said of a recording, in order of channel and time."""

    reference: Reference
    predictions: tuple[Prediction, ...]
    utterances: tuple[Utterance, ...]


def file_in_reference(lake: Lake, index: Index, id_: UUID, file_id: UUID) -> FileInReference | None:
    """Return what one reference said of a recording; None where it does not contain it.

    Raises:
        UnknownReferenceError: There never was such a reference.
        ExpiredReferenceError: It is not kept any more.
        StoreError: A file of it cannot be read.
    """
    names = ("coverage", "predictions", "utterances")
    found, (coverage, predictions, utterances) = _tables(lake, index, id_, names, frozenset([file_id]))
    if not coverage.num_rows:
        return None
    return FileInReference(
        found,
        tuple(in_order(Prediction(**row) for row in predictions.to_pylist())),
        tuple(in_order(Utterance(**row) for row in utterances.to_pylist())),
    )


def file_history(index: Index, file_id: UUID) -> list[FileAnswer]:
    """Return what references said of a recording, newest first; none where it is unknown, or erased.

    Args:
        index: Needs the table coverage.
        file_id: The recording.
    """
    rows = index.query(_ANSWERS, [file_id])
    latest = max((row["seq"] for row in rows if row["reference_state"] in (PUBLISHED, EXPIRED)), default=None)
    by_seq: dict[int, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["reference_state"] != EXPIRED or row["seq"] == latest:
            by_seq.setdefault(row["seq"], []).append(row)
    return [_file_answer(of_one, is_latest=seq == latest) for seq, of_one in by_seq.items()]


def as_it_is_now(index: Index, read: Callable[[], T]) -> T:
    """Return what `read` does; where a file is gone, maintenance has replaced it, and the log says by what.

    Raises:
        MissingError: It is gone, and nothing has replaced it.
    """
    for _ in range(TRIES):
        head = index.applied_seq
        try:
            return read()
        except MissingError:
            if index.catch_up() == head:
                raise
        except IndexDamagedError:  # and it has been made anew
            continue
    return read()


def _references(index: Index, condition: str, parameters: list[object]) -> list[Reference]:
    rows = index.query(_REFERENCES.format(condition=condition), parameters)
    groups = _groups(index, {row[name] for row in rows for name in ("seq", "group_seq")})
    return [
        Reference(
            reference=row["reference"],
            seq=row["seq"],
            started_at=row["started_at"],
            committed_at=row["committed_at"],
            state=row["state"],
            models=groups.get(row["seq"]) or groups.get(row["group_seq"], ()),
            counts=json.loads(row["counts"]),
        )
        for row in rows
    ]


def _groups(index: Index, seqs: set[int]) -> dict[int, tuple[GroupModel, ...]]:
    """Return the model group of each log entry that recorded one."""
    sql = "SELECT * FROM group_models WHERE seq IN (SELECT unnest(?::BIGINT[])) ORDER BY seq, name"
    groups: dict[int, tuple[GroupModel, ...]] = {}
    for row in index.query(sql, [list(seqs)]):
        seq, settings = row.pop("seq"), json.loads(row.pop("settings"))
        groups[seq] = (*groups.get(seq, ()), GroupModel(**row, settings=settings))
    return groups


def _file_answer(rows: list[Mapping[str, Any]], *, is_latest: bool) -> FileAnswer:
    first: Mapping[str, Any] = rows[0]
    models = tuple(
        ModelAnswer(
            model=row["model"],
            version=row["model_version"],
            state=row["state"],
            reason=row["reason"],
            tries=row["tries"],
            predictions=row["predictions"],
            first_reference=row["first_reference"],
        )
        for row in rows
    )
    return FileAnswer(
        reference=first["reference"],
        seq=first["seq"],
        committed_at=first["committed_at"],
        state=first["reference_state"],
        is_latest=is_latest,
        models=models,
    )
