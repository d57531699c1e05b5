"""What changed between two references, and why.

A reference has the recordings of one refresh. So of each recording that is in either one, its answer as of the one is
compared with its answer as of the other: its newest answer that is published, is kept, and is not newer than the
reference. A reference that is held, or was rejected, is compared with the rows that it has itself.
"""

import bisect
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import polars as pl

from storage.history import Reference, as_it_is_now, reference
from storage.index import Index
from storage.lake import Lake
from storage.log import DataFile
from storage.pairing import Detection, pairs
from storage.parquet import read_each

ADDED, GONE, CHANGED = "added", "gone", "changed"

FIRST_SEEN = "first_seen"  # the recording had no answer yet as of the older of the two
NOT_KEPT = "expired"  # what it had then is not kept
NEW_MODEL = "new_model"  # the model answers in b, and did not in a
REMOVED_MODEL = "removed_model"  # and the other way round
FAILURE = "failure"  # the model failed in one of them
CARRIED = "carried"  # the newer one carries an answer of another version, which was computed before
CHANGED_PHRASES = "changed_phrases"
CHANGED_SETTINGS = "changed_settings"
NEW_VERSION = "new_version"  # of weights or code, or of how speech is cut: the group's settings are the same
COMPUTED_AGAIN = "computed_again"  # by the same version

_AS_OF: Final = """
WITH scope AS (
  SELECT DISTINCT file_id FROM coverage WHERE seq IN ($a, $b) AND ($file_id IS NULL OR file_id = $file_id)
  UNION SELECT $file_id WHERE $file_id IS NOT NULL
)
SELECT file_id, max(seq) AS seq FROM (
  SELECT file_id, seq FROM answers WHERE seq <= $at UNION ALL SELECT file_id, seq FROM coverage WHERE seq = $at
) WHERE file_id IN (SELECT file_id FROM scope) GROUP BY file_id
"""

_ROW: Final = {
    "file_id": pl.Binary,
    "model": pl.String,
    "channel": pl.Int16,
    "label": pl.String,
    "start_s": pl.Float64,
    "end_s": pl.Float64,
    "confidence": pl.Float64,
}
_GROUP: Final = ["file_id", "model", "channel", "label"]


@dataclass(frozen=True, slots=True)
class Change:
    """A detection that is in one of two references only, or in both and not the same."""

    file_id: UUID
    model: str
    channel: int
    label: str
    a: Detection | None
    b: Detection | None
    why: str

    @property
    def change(self) -> str:
        """Say what it is: added | gone | changed."""
        if self.a is None:
            return ADDED
        return GONE if self.b is None else CHANGED


@dataclass(frozen=True, slots=True)
class VersionChange:
    """A model that answers with another version.

    Attributes:
        settings: Those that differ: value in a and in b, None where there is none.
    """

    model: str
    version_a: str
    version_b: str
    why: str
    settings: Mapping[str, tuple[Any, Any]]


@dataclass(frozen=True, slots=True)
class Diff:
    """What has to happen to the predictions as of `a` for them to be those as of `b`.

    Attributes:
        files: How many recordings were compared.
        unchanged: How many of their predictions are the same.
        changes: By recording, model, channel and label.
        versions: Model versions that took the place of others.
    """

    a: Reference
    b: Reference
    files: int
    unchanged: int
    changes: tuple[Change, ...]
    versions: tuple[VersionChange, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many predictions were added, are gone, changed, and did not."""
        counted = Counter(change.change for change in self.changes)
        return {name: counted[name] for name in (ADDED, GONE, CHANGED)} | {"unchanged": self.unchanged}

    @property
    def reasons(self) -> dict[str, int]:
        """How many changes have which reason."""
        return dict(Counter(change.why for change in self.changes))


@dataclass(frozen=True, slots=True)
class _Answer:
    """A model's answer for a recording, as coverage has it."""

    seq: int
    version: str
    state: str
    predictions: int


@dataclass(frozen=True, slots=True)
class _Side:
    """The answers as of one of the two references."""

    reference: Reference
    seqs: Mapping[UUID, int]
    answers: Mapping[tuple[UUID, str], _Answer]


def diff(lake: Lake, index: Index, a: UUID, b: UUID, file_id: UUID | None = None) -> Diff:
    """Return what changed from reference `a` to reference `b`, whichever is the newer.

    Args:
        lake: Where from.
        index: Needs the tables files and coverage; caught up.
        a: A reference.
        b: Another one.
        file_id: Only of this recording, which need be in neither.

    Raises:
        UnknownReferenceError: There never was such a reference.
        ExpiredReferenceError: It is not kept any more.
        StoreError: A file cannot be read.
    """

    def compare() -> Diff:
        with index.at_once():
            return _compared(lake, index, reference(index, a), reference(index, b), file_id)

    return as_it_is_now(index, compare)


def _compared(lake: Lake, index: Index, a: Reference, b: Reference, file_id: UUID | None) -> Diff:
    side_a, side_b = (_side(index, at, a, b, file_id) for at in (a, b))
    other = {id_ for id_ in side_a.seqs.keys() | side_b.seqs.keys() if side_a.seqs.get(id_) != side_b.seqs.get(id_)}
    rows_a, rows_b = (
        _predictions(lake, index, {id_: side.seqs.get(id_) for id_ in other}) for side in (side_a, side_b)
    )
    left_a, left_b = _without(rows_a, rows_b), _without(rows_b, rows_a)
    why = _Reasons(index, side_a, side_b)
    unchanged = rows_a.height - left_a.height
    unchanged += sum(answer.predictions for (id_, _), answer in side_a.answers.items() if id_ not in other)
    changes: list[Change] = []
    for key, one, another in _groups(left_a, left_b):
        for before, after in pairs(one, another):
            if before is not None and after is not None and before.is_same(after):
                unchanged += 1
            else:
                changes.append(Change(*key, before, after, why.of(key[0], key[1])))
    files = len(side_a.seqs.keys() | side_b.seqs.keys())
    return Diff(a, b, files, unchanged, tuple(changes), tuple(why.versions()))


def _side(index: Index, at: Reference, a: Reference, b: Reference, file_id: UUID | None) -> _Side:
    rows = index.query(_AS_OF, {"a": a.seq, "b": b.seq, "at": at.seq, "file_id": file_id})
    seqs = {row["file_id"]: row["seq"] for row in rows}
    sql = """
        SELECT c.file_id, c.model, c.seq, c.model_version, c.state, c.predictions FROM coverage c
        JOIN (SELECT unnest(?::UUID[]) AS file_id, unnest(?::BIGINT[]) AS seq) wanted USING (file_id, seq)
    """
    answers = {
        (row["file_id"], row["model"]): _Answer(row["seq"], row["model_version"], row["state"], row["predictions"] or 0)
        for row in index.query(sql, [list(seqs), list(seqs.values())])
    }
    return _Side(at, seqs, answers)


class _Reasons:
    """Says why a model's answer for a recording is another one."""

    def __init__(self, index: Index, a: _Side, b: _Side) -> None:
        self._a, self._b = a, b
        self._older = min(a.reference.seq, b.reference.seq)
        self._first_expired = index.query("SELECT min(seq) AS seq FROM expired")[0]["seq"]
        ids = list(a.seqs.keys() ^ b.seqs.keys())
        rows = index.query("SELECT file_id, seq FROM files WHERE file_id IN (SELECT unnest(?::UUID[]))", [ids])
        self._ingested = {row["file_id"]: row["seq"] for row in rows}
        self._settings = {
            (row["name"], row["version"]): json.loads(row["settings"])
            for row in index.query("SELECT name, version, settings FROM group_models ORDER BY seq")
        }

    def of(self, file_id: UUID, model: str) -> str:
        """Return why the answer of `model` for a recording is another one."""
        if file_id not in self._a.seqs or file_id not in self._b.seqs:
            return self._of_new_file(file_id)
        a, b = self._a.answers.get((file_id, model)), self._b.answers.get((file_id, model))
        if a is None or b is None:
            return NEW_MODEL if a is None else REMOVED_MODEL
        if "failed" in (a.state, b.state):
            return FAILURE
        if a.version == b.version:
            return COMPUTED_AGAIN
        newer = a if a.seq > b.seq else b
        return CARRIED if newer.state == "carried" else self._of_version(model, a.version, b.version)

    def versions(self) -> Iterator[VersionChange]:
        """Yield the versions of models that took the place of others."""
        both = self._a.answers.keys() & self._b.answers.keys()
        other = {(key[1], self._a.answers[key].version, self._b.answers[key].version) for key in both}
        for model, a, b in sorted(other):
            if a != b:
                settings = self._different(model, a, b)
                yield VersionChange(model, a, b, self._of_version(model, a, b), settings)

    def _of_new_file(self, file_id: UUID) -> str:
        """A recording that was there, and has no answer that old, may have had one that is not kept."""
        was_there = self._ingested.get(file_id, 0) <= self._older
        expired = self._first_expired is not None and self._first_expired <= self._older
        return NOT_KEPT if was_there and expired else FIRST_SEEN

    def _of_version(self, model: str, a: str, b: str) -> str:
        different = self._different(model, a, b).keys()
        if not different:
            return NEW_VERSION
        return CHANGED_PHRASES if different == {"phrases"} else CHANGED_SETTINGS

    def _different(self, model: str, a: str, b: str) -> dict[str, tuple[Any, Any]]:
        if not {(model, a), (model, b)} <= self._settings.keys():
            return {}
        one, other = self._settings[model, a], self._settings[model, b]
        names = sorted(one.keys() | other.keys())
        return {name: (one.get(name), other.get(name)) for name in names if one.get(name) != other.get(name)}


def _predictions(lake: Lake, index: Index, seqs: Mapping[UUID, int | None]) -> pl.DataFrame:
    """Read the predictions of recordings in the log entries that hold their answers."""
    wanted = {file_id: seq for file_id, seq in seqs.items() if seq is not None}
    files = {
        file.path: file for seq in sorted(set(wanted.values())) for file in index.live_files("predictions", seq=seq)
    }
    keys = pl.DataFrame(
        {"file_id": [file_id.bytes for file_id in wanted], "seq": list(wanted.values())},
        schema={"file_id": pl.Binary, "seq": pl.Int64},
    )
    ids = sorted(wanted)
    tables = read_each(lake.store, (file for file in files.values() if _may_hold(file, ids)))
    frames = (pl.DataFrame(pl.from_arrow(table)) for table in tables)
    parts = [frame.join(keys, on=["file_id", "seq"], how="semi").select(*_ROW) for frame in frames]
    return pl.concat(parts) if parts else pl.DataFrame(schema=_ROW)


def _may_hold(file: DataFile, ids: list[UUID]) -> bool:
    at = bisect.bisect_left(ids, file.min_file_id)
    return at < len(ids) and ids[at] <= file.max_file_id


def _without(rows: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
    """Return `rows` without those that are among the others; what is there twice goes as often as it is there."""
    numbered, taken = (
        frame.with_columns(pl.int_range(pl.len()).over(*_ROW).alias("number")) for frame in (rows, others)
    )
    return numbered.join(taken, on=[*_ROW, "number"], how="anti", nulls_equal=True).drop("number")


def _groups(
    a: pl.DataFrame, b: pl.DataFrame
) -> Iterator[tuple[tuple[UUID, str, int, str], list[Detection], list[Detection]]]:
    """Yield the detections that differ by recording, model, channel and label, in that order."""
    one, other = _by_group(a), _by_group(b)
    for key in sorted(one.keys() | other.keys()):
        file_id, model, channel, label = key
        yield (UUID(bytes=file_id), model, channel, label), one.get(key, []), other.get(key, [])


def _by_group(rows: pl.DataFrame) -> dict[tuple[bytes, str, int, str], list[Detection]]:
    groups: dict[tuple[bytes, str, int, str], list[Detection]] = {}
    values: Iterable[tuple[Any, ...]] = rows.select(*_GROUP, "start_s", "end_s", "confidence").iter_rows()
    for file_id, model, channel, label, *detection in values:
        groups.setdefault((file_id, model, channel, label), []).append(Detection(*detection))
    return groups
