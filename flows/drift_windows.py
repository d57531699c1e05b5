"""Tests the windows that have closed, each once, and writes down what was said. It must not know what follows."""

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from flows.drift_evidence import Evidence, evidence
from models.drift import Baseline
from models.drift_samples import AUDIOS_OWN
from models.drift_verdicts import Budget, Outcome, Verdict, expected_windows, verdict_of
from models.drift_windows import Arrival, Window, WindowRule, closed_windows
from storage.commit import Draft
from storage.drift import BaselineRow, Waiting, are_waiting, closed_at, table_of_files, waiting
from storage.history import reference_at
from storage.index import Index
from storage.lake import Lake
from storage.tables import table_from_rows

TICK: Final = timedelta(microseconds=1)
_NAMESPACE: Final = UUID("c3b1a3c5-6d6b-5b39-8a53-0b8c1c2f2a41")


@dataclass(frozen=True, slots=True)
class ClosedWindow:
    """A window that has closed and was not tested yet."""

    window_id: UUID
    window: Window
    arrivals: tuple[Waiting, ...]


@dataclass(frozen=True, slots=True)
class TestedWindow:
    """A window with what its tests said, as the log has it now."""

    window_id: UUID
    reference: UUID
    window: Window
    verdicts: tuple[Verdict, ...]  # what moved most first
    evidence: Evidence

    @property
    def verdict(self) -> Outcome:
        """What its tests say together."""
        return verdict_of(self.verdicts)


def closed(index: Index, rule: WindowRule, now: datetime | None = None) -> list[ClosedWindow]:
    """Return the windows that have closed by now and were not tested, in order."""
    arrivals = {one.file_id.hex: one for one in waiting(index)}
    found = closed_windows(_in_time(arrivals.values()), now or datetime.now(UTC), rule)
    return [_closed(window, tuple(arrivals[name] for name in window.recordings)) for window in found]


def judge(
    lake: Lake, index: Index, one: ClosedWindow, row: BaselineRow, baseline: Baseline, budget: Budget
) -> TestedWindow | None:
    """Compare a window with its baseline and commit what comes of it; None where another run has been faster.

    Args:
        lake: Where to.
        index: Needs files, coverage, baselines, drift_files and drift.
        one: The window.
        row: The baseline, as the log has it.
        baseline: The same, fitted.
        budget: Of false alarms; where the last month had more windows than it says, there are as many to expect.
    """
    started_at = datetime.now(UTC)
    found = evidence(lake, index, [arrival.file_id for arrival in one.arrivals])
    expected = expected_windows(closed_at(index), one.window.closed_at, budget.windows_per_month)
    verdicts = baseline.verdicts(found.samples, Budget(budget.alarms_per_month, expected))
    verdicts = verdicts or tuple(
        Verdict("ks", name, None, None, None, "insufficient", reason="nothing of the baseline is left")
        for name in AUDIOS_OWN
    )
    reference = reference_at(index, max(arrival.seq for arrival in one.arrivals))

    def plan() -> Draft | None:
        if not are_waiting(index, [arrival.file_id for arrival in one.arrivals]):
            return None
        return _draft(index, one, row, reference, verdicts)

    entry = lake.commit(index, op="drift", key=one.window_id, plan=plan, started_at=started_at)
    if entry is None or entry.started_at != started_at:
        return None
    return TestedWindow(one.window_id, reference, one.window, verdicts, found)


def _closed(window: Window, arrivals: tuple[Waiting, ...]) -> ClosedWindow:
    first = arrivals[0]
    return ClosedWindow(uuid.uuid5(_NAMESPACE, f"{first.seq}/{first.file_id}"), window, arrivals)


def _in_time(arrivals: Iterable[Waiting]) -> Iterator[Arrival]:
    """Yield arrivals with times that only grow from refresh to refresh, whatever clocks of hosts said."""
    last: tuple[int, datetime] | None = None
    for one in arrivals:
        if last is None or one.seq != last[0]:
            last = one.seq, one.at if last is None else max(one.at, last[1] + TICK)
        yield Arrival(one.file_id.hex, last[1], one.utterances)


def _draft(index: Index, one: ClosedWindow, row: BaselineRow, reference: UUID, verdicts: tuple[Verdict, ...]) -> Draft:
    erased = index.erased([arrival.file_id for arrival in one.arrivals])
    left = [arrival for arrival in one.arrivals if arrival.file_id not in erased]
    tables = {
        "drift": table_from_rows("drift", _tests(one, row, reference, verdicts)),
        "drift_files": table_of_files(one.window_id, left),
    }
    return Draft(
        tables,
        counts={
            "recordings": len(one.arrivals),
            "utterances": one.window.utterances,
            "tests": sum(each.p_value is not None for each in verdicts),
            "drifted": sum(each.is_drift for each in verdicts),
        },
    )


def _tests(one: ClosedWindow, row: BaselineRow, reference: UUID, verdicts: tuple[Verdict, ...]) -> list[dict[str, Any]]:
    window = {
        "window_id": one.window_id,
        "reference": reference,
        "baseline_id": row.baseline_id,
        "opened_at": one.window.opened_at,
        "closed_at": one.window.closed_at,
        "closed_by": one.window.closed_by,
        "recordings": len(one.arrivals),
        "utterances": one.window.utterances,
    }
    return [
        window
        | {
            "detector": each.detector,
            "descriptor": each.descriptor,
            "statistic": each.statistic,
            "p_value": each.p_value,
            "threshold": each.threshold,
            "effect": each.effect,
            "verdict": each.verdict,
            "reason": each.reason or None,
            "place": place,
        }
        for place, each in enumerate(verdicts)
    ]
