"""What the log says that others may wait for, as events in its order. It must not know who waits, or how.

An event is told from what the index has now: what was replaced or erased since is not told any more. A recording that
was rejected, and accepted later, is only told as accepted; of one that was erased only that is. What is told of
references and of drift stays so.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from storage.drift import Turn, turns
from storage.history import as_it_is_now
from storage.index import Index
from storage.recordings import names_of

BATCH: Final = 500  # events of one look
POSITION: Final = r"[0-9]{1,18}(-[0-9a-f]{1,32})?"

Kind = Literal[
    "file.accepted",
    "file.rejected",
    "file.erased",
    "reference.published",
    "reference.held",
    "reference.rejected",
    "drift.started",
    "drift.ended",
]

_LAST: Final = (1 << 128) - 1
_NOBODY: Final = UUID(int=0)

_NEWS: Final = """
SELECT * FROM (
    SELECT seq, 'file.' || status AS kind, file_id AS n, reason FROM {side}files WHERE seq >= $seq
    UNION ALL SELECT seq, 'file.erased', file_id, NULL FROM {side}tombstones WHERE seq >= $seq
    UNION ALL SELECT seq, op, $nobody::UUID, NULL FROM {side}entries
              WHERE seq >= $seq AND (op = 'drift' OR op IN ('refresh', 'release', 'reject') AND reference IS NOT NULL)
) WHERE seq > $seq OR n > $n::UUID
ORDER BY seq, n LIMIT $limit
"""

_ENTRIES: Final = """
SELECT seq, reference, committed_at, counts, seq IN (SELECT seq FROM held) AS held
FROM {side}entries WHERE seq IN (SELECT unnest($seqs::BIGINT[]))
"""

_DECIDED: Final = """
SELECT max(made.counts) AS counts FROM entries made
WHERE made.op = 'refresh' AND made.reference = $reference AND made.seq IN (SELECT seq FROM held)
HAVING count(*) > 0
   AND (SELECT min(seq) FROM entries WHERE op IN ('release', $op) AND reference = $reference) = $seq
"""
"""Decisions that change something: a release, whatever was before, and a reject of what was not released; the first."""


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in the log: event `n` of entry `seq`, which has events in order of this number.

    Of a recording it is its id, so that it stays when others of the same entry are erased; of anything else it is 0.
    """

    seq: int
    n: int = _LAST  # after all events of the entry

    def __str__(self) -> str:
        return str(self.seq) if self.n == _LAST else f"{self.seq}-{self.n:x}"

    @classmethod
    def parse(cls, text: str) -> "Position":
        """Return the position that `text` says.

        Raises:
            ValueError: It says none.
        """
        if not re.fullmatch(POSITION, text):
            raise ValueError("a position is the number of a log entry, with one of its events behind a hyphen or not")
        seq, hyphen, n = text.partition("-")
        return cls(int(seq), int(n, 16)) if hyphen else cls(int(seq))


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    Attributes:
        file_id: Of a recording that was accepted, rejected or erased.
        name: What it is called, unless it was erased.
        reason: Why it was rejected.
        reference: That was published, by a refresh or by the release of one that was held; or was held, or rejected.
            Of drift the newest one that the window has recordings of.
        counts: What its run counted.
        window: With which drift started or ended.
        descriptors: Those that drifted then, what moved most first.
    """

    position: Position
    kind: Kind
    at: datetime
    file_id: UUID | None = None
    name: str = ""
    reason: str | None = None
    reference: UUID | None = None
    counts: Mapping[str, float] = field(default_factory=dict)
    window: UUID | None = None
    descriptors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Batch:
    """Events after a position, and where to go on; `is_last`: there were no others then."""

    events: tuple[Event, ...]
    position: Position
    is_last: bool


def events_after(index: Index, position: Position, limit: int = BATCH) -> Batch:
    """Return what came after a position, in order.

    Args:
        index: Needs files, sources and drift.
        position: After which.
        limit: How many events at most; with as many, the next batch may have more.
    """
    return as_it_is_now(index, lambda: _read(index, position, limit))


def _read(index: Index, position: Position, limit: int) -> Batch:
    with index.reading() as seen:
        side = "tail." if index.side_of(position.seq) == "tail" else ""  # what is new is found without the rest
        bounds = {"seq": position.seq, "n": UUID(int=position.n), "nobody": _NOBODY, "limit": limit}
        rows = index.query(_NEWS.format(side=side), bounds)
        if not rows:
            return Batch((), max(position, Position(seen.seq)), True)
        entries = {
            row["seq"]: row
            for row in index.query(_ENTRIES.format(side=side), {"seqs": list({row["seq"] for row in rows})})
        }
        named = [row["n"] for row in rows if row["kind"] in ("file.accepted", "file.rejected")]
        names = names_of(index, named)
        turned = turns(index, [row["seq"] for row in rows if row["kind"] == "drift"])
        found = [_event(index, row, entries[row["seq"]], names, turned) for row in rows]
    is_last = len(rows) < limit
    last = Position(seen.seq) if is_last else Position(rows[-1]["seq"], rows[-1]["n"].int)
    return Batch(tuple(event for event in found if event is not None), last, is_last)


def _event(
    index: Index,
    row: Mapping[str, Any],
    entry: Mapping[str, Any],
    names: Mapping[UUID, str],
    turned: Mapping[int, Turn],
) -> Event | None:
    """Return what a row tells; None where it changed nothing."""
    position, at = Position(row["seq"], row["n"].int), entry["committed_at"]
    if row["kind"] == "drift":
        return _of_drift(position, at, turned.get(row["seq"]))
    if row["kind"] in ("refresh", "release", "reject"):
        return _of_reference(index, position, row["kind"], entry)
    file_id = row["n"]
    name = None if row["kind"] == "file.erased" else names.get(file_id)  # it may be there again, and told as well
    return Event(position, row["kind"], at, file_id, name or str(file_id), row["reason"])


def _of_drift(position: Position, at: datetime, turn: Turn | None) -> Event | None:
    if turn is None:
        return None
    kind: Kind = "drift.started" if turn.has_begun else "drift.ended"
    return Event(position, kind, at, reference=turn.reference, window=turn.window_id, descriptors=turn.descriptors)


def _of_reference(index: Index, position: Position, op: str, entry: Mapping[str, Any]) -> Event | None:
    kind: Kind = "reference.rejected" if op == "reject" else "reference.published"
    counts = entry["counts"]
    if op == "refresh":
        kind = "reference.held" if entry["held"] else kind
    else:
        decided = index.query(_DECIDED, {"reference": entry["reference"], "op": op, "seq": position.seq})
        if not decided:
            return None
        counts = decided[0]["counts"]
    return Event(position, kind, entry["committed_at"], reference=entry["reference"], counts=json.loads(counts))
