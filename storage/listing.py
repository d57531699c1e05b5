"""What readers ask of an index about many recordings: pages of them by their ids, each with its latest reference.

It must not know HTTP. Rows are read by the range of a page's ids; `storage.ranges` says why.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from storage.choosing import FileRow, Wanted, choose
from storage.index import Index
from storage.ranges import ID, Range, latest_in
from storage.recordings import Prediction, Recording, Utterance, in_order, status_of

SECOND_ROWS: Final = 4
"""Detections and texts in a second of one channel: more than models find as a rule."""

_PREDICTIONS: Final = f"{ID}, seq, model, model_version, channel, utterance, label, start_s, end_s, confidence"
_UTTERANCES: Final = f"{ID}, seq, model, model_version, channel, utterance, start_s, end_s, text"
_1970: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Shown:
    """What is shown of recordings.

    Attributes:
        predictions: Their detections.
        utterances: The texts.
        most_rows: Stop at a recording with which there would be more rows than that, unless it is the first. None: at
            none. Recordings that are short together are not counted, but taken to have SECOND_ROWS a second.
        scan: Pages follow from the first recording to the last; see `Range`.
    """

    predictions: bool = True
    utterances: bool = False
    most_rows: int | None = None
    scan: bool = False


@dataclass(frozen=True, slots=True)
class Listed:
    """A recording with what a reference says of it, in order of channel and time."""

    recording: Recording
    predictions: Sequence[Prediction]
    utterances: Sequence[Utterance]


class Listing:
    """Pages of recordings with their latest references."""

    def __init__(self, index: Index) -> None:
        self._index = index

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Let what is chosen and read be of one state of the index."""
        with self._index.at_once():
            yield

    def choose(self, wanted: Wanted, after: UUID | None, limit: int, *, scan: bool = False) -> list[FileRow]:
        """Return the first recordings after `after` that are wanted, in order of their ids; see `choose`."""
        return choose(self._index, wanted, after, limit, scan=scan)

    def known(self, file_ids: Sequence[UUID]) -> set[UUID]:
        """Return those of `file_ids` that are not waiting any more: they were taken in, or erased."""
        if not file_ids:
            return set()
        sql = (
            "SELECT file_id FROM files WHERE file_id IN (SELECT unnest($ids::UUID[]))"
            " UNION SELECT file_id FROM erased WHERE file_id IN (SELECT unnest($ids::UUID[]))"
        )
        return {row["file_id"] for row in self._index.query(sql, {"ids": list(file_ids)})}

    def read(
        self, chosen: Sequence[FileRow], wanted: Wanted, shown: Shown, *, sparse: bool | None = None
    ) -> list[Listed]:
        """Return recordings with what is wanted of them: all that were chosen, or as many as `shown` allows at once.

        Args:
            chosen: In order of their ids.
            wanted: What chose them.
            shown: What is shown of them.
            sparse: Others may lie between them. By default, where `wanted` is not all.

        Raises:
            IndexDamagedError: The index file was damaged, and has been made anew: ask again.
        """
        sparse = not wanted.is_all if sparse is None else sparse
        if chosen and shown.most_rows is not None:
            chosen = self._as_many_as_allowed(chosen, shown, sparse=sparse)
        if not chosen:
            return []
        ids = {row.file_id: UUID(row.file_id) for row in chosen}
        recordings = self._recordings(chosen, ids, shown)
        seqs = {file_id: one.seq for file_id, one in recordings.items() if one.seq is not None}
        within = self._range(list(ids.values()), shown, sparse=sparse)
        detected = self._predictions(within, seqs, ids, wanted) if shown.predictions else {}
        said = self._utterances(within, seqs, ids, wanted) if shown.utterances else {}
        return [
            Listed(one, in_order(detected.get(file_id, ())), in_order(said.get(file_id, ())))
            for file_id, one in recordings.items()
        ]

    def _range(self, ids: Sequence[UUID], shown: Shown, *, sparse: bool) -> Range:
        return Range(self._index, ids[0], ids[-1], only=ids if sparse else None, scan=shown.scan)

    def _as_many_as_allowed(self, chosen: Sequence[FileRow], shown: Shown, *, sparse: bool) -> Sequence[FileRow]:
        """Return as many of the recordings as may be read at once: detections are counted, a text takes a second."""
        assert shown.most_rows is not None  # noqa: S101  for the type checker
        if sum(map(_channel_seconds, chosen)) * SECOND_ROWS <= shown.most_rows:
            return chosen
        within = self._range([UUID(row.file_id) for row in chosen], shown, sparse=sparse)
        counts = latest_in(self._index, within) if shown.predictions else {}
        rows = 0.0
        for number, row in enumerate(chosen):
            rows += counts.get(row.file_id, (0, 0))[1]
            rows += _channel_seconds(row) if shown.utterances else 0.0
            if number and rows > shown.most_rows:
                return chosen[:number]
        return chosen

    def _recordings(self, chosen: Sequence[FileRow], ids: dict[str, UUID], shown: Shown) -> dict[str, Recording]:
        """Return what is known of recordings: the base's row says it all, unless the log has gone on."""
        told = self._index.told_since_base(ids.values())
        newer = self._newer(told, shown, sparse=len(told) < len(chosen)) if told else {}
        references = {row.reference: UUID(row.reference) for row in chosen if row.reference is not None}
        found = {}
        for row in chosen:
            name, demo, seq, reference, predicted_at, held = newer.get(row.file_id) or (
                row.name,
                row.demo,
                row.latest_seq,
                None if row.reference is None else references[row.reference],
                at(row.predicted_us),
                bool(row.held),
            )
            found[row.file_id] = Recording(
                file_id=ids[row.file_id],
                sha256=row.sha256,
                size_bytes=row.size_bytes,
                status=status_of(row.status, held=held),
                reason=row.reason,
                duration_s=row.duration_s,
                sample_rate=row.sample_rate,
                channels=row.channels,
                format=row.format,
                ingested_at=at(row.ingested_us),
                name=name,
                demo=demo,
                seq=seq,
                reference=reference,
                predicted_at=predicted_at,
            )
        return found

    def _newer(self, told: Sequence[UUID], shown: Shown, *, sparse: bool) -> dict[str, tuple[Any, ...]]:
        """Return name, demo, seq, reference, time and whether it is held of those of which the base says not all."""
        within = self._range(told, shown, sparse=sparse)
        names = _names(within.rows("sources", f"{ID}, name, kind, epoch_us(seen_at)"))
        latest = latest_in(self._index, within)
        entries = self._entries({seq for seq, _ in latest.values()})
        waiting = self._waiting(within)
        found = {}
        for file_id in map(str, told):
            seq = latest[file_id][0] if file_id in latest else None
            refreshed = (None, None) if seq is None else entries[seq]
            held = seq is None and file_id in waiting
            found[file_id] = (*names.get(file_id, (None, None)), seq, *refreshed, held)
        return found

    def _waiting(self, within: Range) -> set[str]:
        """Return the recordings that are in a reference that waits for a decision."""
        undecided = self._index.undecided()
        if not undecided:
            return set()
        rows = within.rows("coverage", ID, " AND seq IN (SELECT unnest(?::BIGINT[]))", [undecided])
        return {file_id for (file_id,) in rows}

    def _entries(self, seqs: set[int]) -> dict[int, tuple[UUID, datetime]]:
        """Return reference and time of log entries."""
        sql = (
            "SELECT seq, reference::VARCHAR, epoch_us(committed_at) FROM entries"
            " WHERE seq IN (SELECT unnest(?::BIGINT[]))"
        )
        rows = self._index.run(sql, [[*seqs]]).fetchall()
        return {seq: (UUID(reference), at(committed_us)) for seq, reference, committed_us in rows}

    def _predictions(
        self, within: Range, seqs: dict[str, int], ids: dict[str, UUID], wanted: Wanted
    ) -> dict[str, list[Prediction]]:
        and_ = " AND confidence >= ?"
        asked: list[object] = [wanted.min_confidence]
        for column, value in (("model", wanted.model), ("label", wanted.label)):
            if value is not None:
                and_, asked = f"{and_} AND {column} = ?", [*asked, value]
        found: dict[str, list[Prediction]] = defaultdict(list)
        for file_id, seq, *values in self._of_latest(within, "predictions", _PREDICTIONS, seqs, and_, asked):
            if seqs.get(file_id) == seq:
                found[file_id].append(Prediction(ids[file_id], *values))
        return found

    def _utterances(
        self, within: Range, seqs: dict[str, int], ids: dict[str, UUID], wanted: Wanted
    ) -> dict[str, list[Utterance]]:
        and_, asked = ("", []) if wanted.model is None else (" AND model = ?", [wanted.model])
        found: dict[str, list[Utterance]] = defaultdict(list)
        for file_id, seq, *values in self._of_latest(within, "utterances", _UTTERANCES, seqs, and_, asked):
            if seqs.get(file_id) == seq:
                found[file_id].append(Utterance(ids[file_id], *values))
        return found

    def _of_latest(
        self, within: Range, table: str, columns: str, seqs: dict[str, int], and_: str, values: list[Any]
    ) -> list[tuple[Any, ...]]:
        """Return rows among which are those of latest references: a side that has none of those is not asked."""
        newer = [seq for seq in seqs.values() if self._index.side_of(seq) == "tail"]
        rows = []
        if len(newer) < len(seqs):
            rows += within.base(table, columns, and_, values)
        if newer:
            rows += within.tail(table, columns, f" AND seq BETWEEN ? AND ?{and_}", [min(newer), max(newer), *values])
        return rows


def at(since_1970_us: int | None) -> Any:
    """Return the time that many microseconds after the beginning of 1970, UTC; None of None."""
    return None if since_1970_us is None else _1970 + timedelta(microseconds=since_1970_us)


def _channel_seconds(row: FileRow) -> float:
    return (row.duration_s or 0.0) * (row.channels or 1)


def _names(sources: Iterable[tuple[str, str, str, int]]) -> dict[str, tuple[str, bool]]:
    """Return of each recording its earliest name, and whether it is nothing but a demo."""
    earliest: dict[str, tuple[int, str, bool]] = {}
    for file_id, name, kind, seen_us in sources:
        known = earliest.get(file_id)
        demo = kind == "demo" and (known is None or known[2])
        if known is None or seen_us < known[0]:
            earliest[file_id] = seen_us, name, demo
        else:
            earliest[file_id] = *known[:2], demo
    return {file_id: (name, demo) for file_id, (_, name, demo) in earliest.items()}
