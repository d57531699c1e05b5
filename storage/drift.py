"""What the log knows of drift: baselines, closed windows with their verdicts, what waits for one, and what is held.

It must not know how drift is found, nor what follows from it.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

import pyarrow as pa

from storage.index import Index
from storage.tables import table_from_rows

Outcome = Literal["drift", "no_drift", "insufficient", "model_change"]
OUTCOMES: Final[tuple[Outcome, ...]] = ("model_change", "drift", "no_drift", "insufficient")
"""What a window says is the first of these that one of its tests says."""

SAYS: Final = f"arg_min(verdict, list_position({list(OUTCOMES)}, verdict))"
"""The same in SQL, over rows of `drift`."""

_REJECTED: Final = """
rejected AS (SELECT seq FROM withheld WHERE seq NOT IN (SELECT seq FROM undecided))
"""
"""Nothing comes in one-offs either."""

_KNOWN: Final = """
SELECT file_id FROM drift_files
WHERE arrived_seq NOT IN (SELECT seq FROM rejected) OR window_id IN (SELECT baseline_id FROM baselines)
"""
"""Recordings that are in a baseline, or in a window, and do not come again."""

_WAITING: Final = f"""
WITH {_REJECTED},
settled AS (SELECT coalesce(max(arrived_seq), 0) AS seq FROM drift_files
            WHERE window_id NOT IN (SELECT baseline_id FROM baselines)),
dropped AS (SELECT file_id FROM drift_files WHERE arrived_seq IN (SELECT seq FROM rejected)),
answered AS (SELECT file_id, seq, max(coalesce(descriptors, 0)) AS utterances FROM coverage
             WHERE (seq >= (SELECT seq FROM settled) OR file_id IN (SELECT file_id FROM dropped))
               AND seq NOT IN (SELECT seq FROM rejected)
             GROUP BY file_id, seq HAVING bool_or(state <> 'failed')),
came AS (SELECT file_id, min(seq) AS seq, arg_min(utterances, seq)::INTEGER AS utterances
         FROM answered GROUP BY file_id),
known AS ({_KNOWN}),
real AS (SELECT DISTINCT file_id FROM sources WHERE kind <> 'demo')
SELECT c.file_id, c.seq, e.committed_at AS at, c.utterances
FROM came c ANTI JOIN known USING (file_id) SEMI JOIN real USING (file_id) JOIN entries e USING (seq)
ORDER BY c.seq, c.file_id
"""  # noqa: S608  names from above

_WINDOWS: Final = """
SELECT * FROM drift WHERE seq IN (
  SELECT DISTINCT seq FROM drift WHERE {condition} ORDER BY seq DESC LIMIT ?
) ORDER BY seq DESC, place
"""

_OF_REFERENCE: Final = """
reference = ? OR window_id IN (SELECT window_id FROM drift_files WHERE arrived_seq = ?)
"""
"""The newest reference of a window stays known when its recordings are erased, and with them their rows."""

_VERDICTS: Final = f"""
WITH asked AS (SELECT unnest($seqs::BIGINT[]) AS seq, unnest($references::UUID[]) AS reference),
of_them AS (SELECT a.reference, f.window_id FROM asked a JOIN drift_files f ON f.arrived_seq = a.seq
            UNION SELECT a.reference, d.window_id FROM asked a JOIN drift d USING (reference))
SELECT o.reference, {SAYS} AS verdict FROM of_them o JOIN drift d USING (window_id)
WHERE d.verdict <> 'model_change' GROUP BY o.reference
"""  # noqa: S608  names from above

_TURNS: Final = f"""
WITH said AS (SELECT seq, any_value(window_id) AS window_id, any_value(reference) AS reference, {SAYS} AS verdict,
                     list(descriptor ORDER BY place) FILTER (verdict = 'drift') AS descriptors
              FROM drift GROUP BY seq HAVING {SAYS} IN ('drift', 'no_drift')),
after AS (SELECT *, lag(verdict, 1, 'no_drift') OVER (ORDER BY seq) AS before FROM said)
SELECT * EXCLUDE (before) FROM after WHERE verdict <> before AND seq IN (SELECT unnest(?::BIGINT[]))
ORDER BY seq
"""  # noqa: S608

_HELD: Final = """
WITH drifted AS (SELECT f.file_id FROM drift_files f JOIN drift d USING (window_id)
            WHERE d.verdict = 'drift' AND f.arrived_seq IN (SELECT seq FROM undecided))
SELECT e.seq, e.reference, e.committed_at,
       coalesce(list(DISTINCT c.file_id), []) AS file_ids,
       coalesce(bool_or(c.file_id IN (SELECT file_id FROM drifted)), false) AS has_drifted
FROM entries e LEFT JOIN coverage c ON c.seq = e.seq
WHERE e.seq IN (SELECT seq FROM undecided) GROUP BY ALL ORDER BY e.seq
"""


@dataclass(frozen=True, slots=True)
class BaselineRow:
    """A baseline, as the log has it."""

    baseline_id: UUID
    name: str
    version: int
    chosen: str
    recordings: int
    utterances: int
    made_at: datetime


@dataclass(frozen=True, slots=True)
class Waiting:
    """A recording that is in no baseline and no window."""

    file_id: UUID
    seq: int  # of the refresh that it came in
    at: datetime  # when that was committed
    utterances: int


@dataclass(frozen=True, slots=True)
class TestRow:
    """What one test of a window said: see the table `drift`."""

    __test__ = False  # for pytest, which takes any class of such a name for one of its own

    detector: str
    descriptor: str
    statistic: float | None
    p_value: float | None
    threshold: float | None
    effect: float | None
    verdict: Outcome
    reason: str | None
    details: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Window:
    """A closed window, or the comparison of two versions of a model, with what its tests said."""

    window_id: UUID
    seq: int  # of its log entry
    reference: UUID
    baseline: BaselineRow | None  # None: two versions of a model were compared
    opened_at: datetime
    closed_at: datetime
    closed_by: Literal["size", "age", "model_change"]
    recordings: int
    utterances: int
    tests: tuple[TestRow, ...]  # what moved most first

    @property
    def verdict(self) -> Outcome:
        """What its tests say together: drift where one does, insufficient where all are."""
        said = {test.verdict for test in self.tests}
        return next(outcome for outcome in OUTCOMES if outcome in said)


@dataclass(frozen=True, slots=True)
class Turn:
    """A window with which drift began, or ended."""

    seq: int  # of its log entry
    window_id: UUID
    reference: UUID
    has_begun: bool
    descriptors: tuple[str, ...]  # that drifted, what moved most first; none where it ended


@dataclass(frozen=True, slots=True)
class Held:
    """A refresh that waits for a decision."""

    seq: int
    reference: UUID
    committed_at: datetime
    file_ids: frozenset[UUID]
    has_drifted: bool  # some of its recordings came in a refresh that is held, and are in a window that drifted


def baselines(index: Index) -> list[BaselineRow]:
    """Return all baselines, newest first."""
    rows = index.query("SELECT * EXCLUDE (seq) FROM baselines ORDER BY seq DESC")
    return [BaselineRow(**row) for row in rows]


def active_baseline(index: Index) -> BaselineRow | None:
    """Return the baseline that windows are compared with: the one that was made last."""
    return next(iter(baselines(index)), None)


def files_of_window(index: Index, window: UUID) -> dict[UUID, int]:
    """Return the recordings of a window, or of a baseline, with the refresh that each came in."""
    rows = index.query("SELECT file_id, arrived_seq FROM drift_files WHERE window_id = ? ORDER BY file_id", [window])
    return {row["file_id"]: row["arrived_seq"] for row in rows}


def waiting(index: Index) -> list[Waiting]:
    """Return the recordings that are in no baseline and no window, in the order in which they came.

    Held refreshes count; of rejected ones recordings come again once they are computed again, or at once where another
    refresh has them, however long ago, but for those of baselines. Those of the demo never come, nor those of which
    every model failed.

    Args:
        index: Needs sources, coverage, baselines and drift_files.
    """
    return [Waiting(**row) for row in index.query(_WAITING)]


def are_waiting(index: Index, file_ids: Collection[UUID]) -> bool:
    """Say whether recordings that waited still do: none of them has come into a baseline or a window."""
    sql = f"WITH {_REJECTED} SELECT file_id FROM ({_KNOWN}) WHERE file_id IN (SELECT unnest(?::UUID[])) LIMIT 1"  # noqa: S608
    return not index.query(sql, [list(file_ids)])


def count_waiting(index: Index, *, seq: int | None = None) -> int:
    """Return how many recordings wait; of those that came in one refresh only, where its log entry is given."""
    sql = f"SELECT count(*) AS count FROM ({_WAITING}) WHERE ?::BIGINT IS NULL OR seq = ?"  # noqa: S608
    return int(index.query(sql, [seq, seq])[0]["count"])


def windows(
    index: Index, *, limit: int = 100, before_seq: int | None = None, verdict: Outcome | None = None
) -> list[Window]:
    """Return closed windows and comparisons of models, newest first.

    Args:
        index: Needs baselines and drift.
        limit: How many at most.
        before_seq: Only older ones than this: the `seq` of the last one of the page before.
        verdict: Only those that say this.
    """
    conditions, parameters = ["true"], list[object]()
    if before_seq is not None:
        conditions.append("seq < ?")
        parameters.append(before_seq)
    if verdict is not None:
        conditions.append(f"seq IN (SELECT seq FROM drift GROUP BY seq HAVING {SAYS} = ?)")  # noqa: S608
        parameters.append(verdict)
    return _windows(index, " AND ".join(conditions), [*parameters, limit])


def count_windows(index: Index) -> dict[Outcome, int]:
    """Return how many windows and comparisons of models say what."""
    said = f"SELECT {SAYS} AS verdict FROM drift GROUP BY seq"  # noqa: S608
    rows = index.query(f"SELECT verdict, count(*) AS count FROM ({said}) GROUP BY verdict")  # noqa: S608
    return dict.fromkeys(OUTCOMES, 0) | {row["verdict"]: row["count"] for row in rows}


def windows_of_reference(index: Index, reference: UUID, seq: int) -> list[Window]:
    """Return the windows that recordings of a reference came in, and what it showed of changed models."""
    return _windows(index, _OF_REFERENCE, [reference, seq, 2**31 - 1])


def verdicts(index: Index, seqs: Mapping[UUID, int]) -> dict[UUID, Outcome]:
    """Return what the closed windows of references say together; none of those that have none yet.

    Args:
        index: Needs drift_files and drift.
        seqs: The references, each with its log entry.
    """
    asked = {"references": list(seqs), "seqs": list(seqs.values())}
    return {row["reference"]: row["verdict"] for row in index.query(_VERDICTS, asked)} if seqs else {}


def window(index: Index, id_: UUID) -> Window | None:
    """Return one window, if there is such."""
    return next(iter(_windows(index, "window_id = ?", [id_, 1])), None)


def is_drifting(index: Index) -> bool:
    """Say whether the last window that said anything said drift."""
    rows = index.query(
        "SELECT bool_or(verdict = 'drift') AS drifting FROM drift WHERE verdict IN ('drift', 'no_drift')"
        " GROUP BY seq ORDER BY seq DESC LIMIT 1"
    )
    return bool(rows and rows[0]["drifting"])


def turns(index: Index, seqs: Collection[int]) -> dict[int, Turn]:
    """Return those of some log entries with which drift began or ended, by entry, in their order.

    It begins with a window that says drift where the last one that said anything did not, and ends the other way round.
    """
    rows = index.query(_TURNS, [list(seqs)]) if seqs else []
    return {
        row["seq"]: Turn(
            seq=row["seq"],
            window_id=row["window_id"],
            reference=row["reference"],
            has_begun=row["verdict"] == "drift",
            descriptors=tuple(row["descriptors"] or ()),
        )
        for row in rows
    }


def closed_at(index: Index) -> list[datetime]:
    """Return when each window closed."""
    sql = "SELECT max(closed_at) AS closed_at FROM drift WHERE detector <> 'model_change' GROUP BY window_id"
    return [row["closed_at"] for row in index.query(sql)]


def table_of_files(window_id: UUID, recordings: Iterable[Waiting]) -> pa.Table:
    """Return the recordings of a window, or of a baseline, as rows of `drift_files`."""
    rows = [
        {"file_id": one.file_id, "window_id": window_id, "arrived_seq": one.seq, "utterances": one.utterances}
        for one in recordings
    ]
    return table_from_rows("drift_files", rows)


def held(index: Index) -> list[Held]:
    """Return the refreshes that wait for a decision, oldest first; one-offs do not."""
    return [Held(**row | {"file_ids": frozenset(row["file_ids"])}) for row in index.query(_HELD)]


def _windows(index: Index, condition: str, parameters: list[object]) -> list[Window]:
    rows = index.query(_WINDOWS.format(condition=condition), parameters)
    known = {row.baseline_id: row for row in baselines(index)} if rows else {}
    by_seq: dict[int, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_seq.setdefault(row["seq"], []).append(row)
    return [_window(of_one, known) for of_one in by_seq.values()]


def _window(rows: list[Mapping[str, Any]], known: Mapping[UUID, BaselineRow]) -> Window:
    first = rows[0]
    return Window(
        window_id=first["window_id"],
        seq=first["seq"],
        reference=first["reference"],
        baseline=known.get(first["baseline_id"]),
        opened_at=first["opened_at"],
        closed_at=first["closed_at"],
        closed_by=first["closed_by"],
        recordings=first["recordings"],
        utterances=first["utterances"],
        tests=tuple(_tests(rows)),
    )


def _tests(rows: Iterable[Mapping[str, Any]]) -> Iterable[TestRow]:
    names = ("detector", "descriptor", "statistic", "p_value", "threshold", "effect", "verdict", "reason")
    for row in rows:
        details = None if row["details"] is None else json.loads(row["details"])
        yield TestRow(**{name: row[name] for name in names}, details=details)
