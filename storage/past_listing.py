"""Pages of the recordings that one reference has, with what that reference said. It must not know HTTP.

An index holds latest references only, so these rows are read from Parquet files: of the whole reference once, to know
which recordings it has, and then of each page's recordings.
"""

import dataclasses
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from storage.choosing import FileRow, Wanted, choose, first_since
from storage.history import reference, reference_rows
from storage.index import Index
from storage.lake import Lake
from storage.listing import Listed, Listing, Shown
from storage.recordings import Prediction, Utterance, in_order

PART: Final = 2_000  # recordings that are looked at by one statement


class PastListing:
    """Pages of the recordings of one reference, published or not; like `Listing`, and for one request."""

    def __init__(self, lake: Lake, index: Index, id_: UUID) -> None:
        """Look the reference up.

        Raises:
            UnknownReferenceError: There never was one.
            ExpiredReferenceError: It is not kept any more.
        """
        self._lake, self._index, self._listing = lake, index, Listing(index)
        self._reference = reference(index, id_)
        self._ids: list[UUID] | None = None

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Nothing: what a reference said does not change, and files that are replaced meanwhile are found again."""
        yield

    def choose(self, wanted: Wanted, after: UUID | None, limit: int, *, scan: bool = False) -> list[FileRow]:
        """Return the first recordings of the reference after `after` that are wanted, in order of their ids."""
        if self._ids is None:
            self._ids = self._chosen_by_answers(wanted)
        of_files = dataclasses.replace(wanted, model=None, label=None)
        found: list[FileRow] = []
        start = 0 if after is None else bisect_right(self._ids, after)
        while len(found) < limit and start < len(self._ids):
            part = self._ids[start : start + PART]
            start += PART
            with self._index.at_once():
                if wanted.since is not None and self._reference.seq >= first_since(self._index, wanted.since):
                    of_files = dataclasses.replace(of_files, since=None)
                found += choose(self._index, of_files, after, limit - len(found), among=part, scan=scan)
        return found

    def read(self, chosen: Sequence[FileRow], wanted: Wanted, shown: Shown) -> list[Listed]:
        """Return recordings with what the reference said of them; see `Listing.read`.

        Raises:
            UnknownReferenceError: The reference is not known any more.
            ExpiredReferenceError: It has expired since.
            StoreError: A file of it cannot be read.
        """
        facts_only = dataclasses.replace(shown, predictions=False, utterances=False)
        with self._index.at_once():
            found = self._listing.read(chosen, wanted, facts_only, sparse=True)
        ids = frozenset(one.recording.file_id for one in found)
        detected = self._by_file("predictions", ids, wanted) if shown.predictions else {}
        said = self._by_file("utterances", ids, wanted) if shown.utterances else {}
        return [
            Listed(
                dataclasses.replace(
                    one.recording,
                    seq=self._reference.seq,
                    reference=self._reference.reference,
                    predicted_at=self._reference.committed_at,
                ),
                in_order(Prediction(**row) for row in detected.get(one.recording.file_id, ())),
                in_order(Utterance(**row) for row in said.get(one.recording.file_id, ())),
            )
            for one in found
        ]

    def _rows(self, table: str, file_ids: frozenset[UUID] | None = None) -> pa.Table:
        return reference_rows(self._lake, self._index, self._reference.reference, table, file_ids)

    def _chosen_by_answers(self, wanted: Wanted) -> list[UUID]:
        """Return the recordings of which the reference has what is wanted, in order."""
        coverage = self._rows("coverage")
        if wanted.model is not None:
            coverage = coverage.filter(pc.field("model") == wanted.model)
        ids = set(coverage["file_id"].to_pylist())
        if wanted.label is not None:
            ids &= set(_detected(self._rows("predictions"), wanted)["file_id"].to_pylist())
        return sorted(ids)

    def _by_file(self, table: str, ids: frozenset[UUID], wanted: Wanted) -> dict[UUID, list[dict[str, Any]]]:
        rows = self._rows(table, ids)
        if table == "predictions":
            rows = _detected(rows, wanted)
        elif wanted.model is not None:
            rows = rows.filter(pc.field("model") == wanted.model)
        found: dict[UUID, list[dict[str, Any]]] = defaultdict(list)
        for row in rows.to_pylist():
            found[row["file_id"]].append(row)
        return found


def _detected(predictions: pa.Table, wanted: Wanted) -> pa.Table:
    """Return the detections that are shown."""
    condition = pc.field("confidence") >= wanted.min_confidence
    if wanted.model is not None:
        condition &= pc.field("model") == wanted.model
    if wanted.label is not None:
        condition &= pc.field("label") == wanted.label
    return predictions.filter(condition)
