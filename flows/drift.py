"""The flow that looks for drift: makes baselines, tests windows that have closed, and decides about held references.

It runs when infer asks for it, because there is something to do, and every hour in case nobody did.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final
from uuid import UUID

import polars as pl
from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from flows.drift_baselines import ChosenBaseline, choose_baseline, first_baseline, fitted
from flows.drift_evidence import Evidence, evidence
from flows.drift_examples import Side
from flows.drift_report import ReportedWindow, report, rows
from flows.drift_windows import TestedWindow, closed, judge
from flows.drift_work import passed
from flows.heartbeat import heartbeat
from flows.model_changes import ComparedModel, compare
from flows.notify import Drifted, Kind, Notice, emit_drift
from flows.progress import Progress
from flows.runs import FIRST_BASELINE, commit_key, end_quietly, outlast_server
from flows.stages import run_stage
from flows.story import MOST_EVENTS, at_best, name_run, run_name, tell_reference
from models.drift_verdicts import Budget
from models.drift_windows import WindowRule
from storage.answers import changes
from storage.decisions import check, reject, release
from storage.decisions import release_held as release_passed
from storage.drift import (
    BaselineRow,
    TestRow,
    Window,
    files_of_window,
    turns,
    waiting,
    window,
)
from storage.index import PLANNING_TABLES, Index
from storage.lake import Lake
from storage.recordings import names_of
from storage.settings import Settings, get_settings
from storage.told import read_told, write_told

BUDGET_S: Final = 90.0  # no window is tested later; infer asks for the next run
SHOWN: Final = 20  # windows of one run in its report
HISTORY: Final = 500  # earlier windows in its pictures

References = Annotated[tuple[UUID, ...], Field(max_length=10_000)]


@dataclass(slots=True)
class Done:
    """What a run came to."""

    baseline: BaselineRow | None = None
    tested: list[TestedWindow] = field(default_factory=list)
    compared: list[ComparedModel] = field(default_factory=list)
    released: list[UUID] = field(default_factory=list)
    rejected: list[UUID] = field(default_factory=list)
    left: int = 0  # windows for the next run

    def __str__(self) -> str:
        drifted = [one for one in self.tested if one.verdict == "drift"]
        decided = ("released", self.released), ("rejected", self.rejected)
        said = [f"{len(self.tested)} windows tested"] if self.tested else []
        said += [f"drift in {len(drifted)}, first in {drifted[-1].verdicts[0].descriptor}"] if drifted else []
        said += [f"{len(self.compared)} models compared with what they were"] if self.compared else []
        said += [f"{len(ids)} references {what}" for what, ids in decided if ids]
        said += [f"{self.left} windows are left for the next run"] if self.left else []
        return "; ".join(said) or "Nothing to do"


@flow(
    name="drift",
    flow_run_name=run_name,
    description="Look for drift in what came in, and decide about references that are held.",
)
def drift(
    baseline: ChosenBaseline | None = None, release_held: References = (), reject_held: References = ()
) -> State[Any]:
    """Test the windows that have closed.

    Args:
        baseline: Compare windows with other recordings from now on. Default: with the baseline that there is.
        release_held: Held references to publish, those of drift too: their ids.
        reject_held: Held references that nobody shall see: their ids. Their recordings are computed and tested again.
    """
    end_quietly()
    outlast_server()
    settings, done = get_settings(), Done()
    lake = Lake.open(settings.place)
    with heartbeat(), lake.index(PLANNING_TABLES) as index:
        check(index, release_held, reject_held)  # what cannot be done fails the run before anything of it is
        done.baseline = run_stage("baseline", lambda: _baseline(lake, index, settings, baseline))
        if release_held or reject_held:
            done.released += run_stage("release", lambda: release(lake, index, release_held))
            done.rejected += run_stage("reject", lambda: reject(lake, index, reject_held))
        run_stage("windows", lambda: _test(lake, index, settings, done))
        run_stage("tell", lambda: _tell(lake, index, settings))
        run_stage("models", lambda: _compare(lake, index, settings, done))
        done.released += run_stage("held", lambda: release_passed(lake, index, passed(index, waiting(index))))
        _report(lake, index, settings, done)
    name_run(f"drift: {done}")
    for reference in done.released[:MOST_EVENTS]:
        tell_reference(reference, None, settings.public_url)
    drifted = any(one.verdict == "drift" for one in done.tested)
    return Completed(name="Drift", message=str(done)) if drifted else Completed(message=str(done))


def _baseline(lake: Lake, index: Index, settings: Settings, chosen: ChosenBaseline | None) -> BaselineRow | None:
    least = settings.drift_baseline_min
    if chosen is not None:
        made = choose_baseline(lake, index, chosen, least, commit_key("baseline"))
    else:
        made = first_baseline(lake, index, least, FIRST_BASELINE)
    if made is None:
        known = sum(one.utterances for one in waiting(index))
        get_run_logger().info("no baseline yet: %d of %d utterances have come in", known, least)
    return made


def _test(lake: Lake, index: Index, settings: Settings, done: Done) -> None:
    """Test windows in the order of time, for BUDGET_S at most."""
    if done.baseline is None:
        return
    windows = closed(index, WindowRule(settings.drift_window_utterances, settings.drift_window_h))
    if not windows:
        return
    logger, started = get_run_logger(), time.monotonic()
    baseline = fitted(lake, index, done.baseline, settings.drift_baseline_min)
    budget = Budget(settings.drift_false_alarms_per_month, settings.drift_windows_per_month)
    progress = Progress("drift-progress", len(windows), "windows")
    for number, one in enumerate(windows):
        if time.monotonic() - started > BUDGET_S:
            done.left = len(windows) - number
            return
        tested = judge(lake, index, one, done.baseline, baseline, budget)
        if tested is None:
            logger.info("window %s was tested by another run, which goes on with what follows", one.window_id)
            return
        done.tested.append(tested)
        progress.add(1)
        first = tested.verdicts[0]
        logger.info("window %s: %s (%s %s)", one.window_id, tested.verdict, first.descriptor, first.reason)


def _tell(lake: Lake, index: Index, settings: Settings) -> None:
    """Say in the log of the run, and as events, where drift has started or ended.

    Each is told at least once, whatever ends this process: what was told is noted after it was.
    """
    told = read_told(lake.store)
    known = [
        row["seq"] for row in index.query("SELECT DISTINCT seq FROM drift WHERE seq > ? ORDER BY seq", [told or 0])
    ]
    found = turns(index, known)
    for turn in list(found.values()) if told is not None else list(found.values())[-1:]:
        told_of = window(index, turn.window_id)
        if told_of is None or told_of.baseline is None:
            continue
        kind: Kind = "started" if turn.has_begun else "ended"
        drifted = [test for test in told_of.tests if test.verdict == "drift"]
        if "log" in settings.on_drift:
            named = ", ".join(f"{test.descriptor} (p {test.p_value:.2g} < {test.threshold:.2g})" for test in drifted)
            get_run_logger().warning("drift has %s, window %s: %s", kind, turn.window_id, named or "nothing drifts")
        if "notify" in settings.on_drift:
            emit_drift(kind, _notice(told_of, told_of.baseline, drifted), settings.public_url)
    if known:
        write_told(lake.store, known[-1])


def _notice(told_of: Window, baseline: BaselineRow, drifted: Sequence[TestRow]) -> Notice:
    tests = (
        Drifted(test.descriptor, test.detector, test.statistic or 0.0, test.p_value or 0.0, test.threshold or 0.0)
        for test in drifted
    )
    return Notice(told_of.window_id, told_of.reference, baseline.name, baseline.version, tuple(tests))


def _compare(lake: Lake, index: Index, settings: Settings, done: Done) -> None:
    """Compare models that have changed, once enough recordings have answers of both versions."""
    for change in changes(index):
        if change.is_ripe(settings.drift_window_utterances) and (found := compare(lake, index, change)) is not None:
            done.compared.append(found)
            total = found.change.total
            get_run_logger().info(
                "%s changed from %s to %s: agreement %.4f, kappa %.3f, over %d recordings",
                *(change.model, change.before_version, change.after_version),
                *(total.agreement, total.kappa, found.recordings),
            )


def _report(lake: Lake, index: Index, settings: Settings, done: Done) -> None:
    """Show in Prefect's UI what the run came to."""
    changed = [one.change for one in done.compared]
    shown = _shown(lake, index, done) if done.tested else []
    table = rows(shown, changed)
    at_best(lambda: create_table_artifact(key="drift", description=str(done), table=table))
    if shown or changed:
        text = report(shown, settings.public_url, changed)
        at_best(lambda: create_markdown_artifact(key="drift-report", description=str(done), markdown=text))


def _shown(lake: Lake, index: Index, done: Done) -> list[ReportedWindow]:
    if done.baseline is None:
        return []
    row, shown = done.baseline, done.tested[-SHOWN:]
    before = _side(evidence(lake, index, files_of_window(index, row.baseline_id)))
    ids = [UUID(id_) for one in shown for id_ in one.window.recordings]
    names = {str(file_id): name for file_id, name in names_of(index, ids).items()}
    history = _history(index)
    return [
        ReportedWindow(
            window_id=one.window_id,
            opened_at=one.window.opened_at,
            closed_at=one.window.closed_at,
            closed_by=one.window.closed_by,
            recordings=len(one.window.recordings),
            utterances=one.window.utterances,
            baseline_id=row.baseline_id,
            baseline_name=f"{row.name}, version {row.version}",
            baseline_recordings=row.recordings,
            baseline_utterances=row.utterances,
            verdicts=one.verdicts,
            before=before,
            now=_side(one.evidence),
            history=history,
            names=names,
        )
        for one in shown
    ]


def _side(found: Evidence) -> Side:
    """Return evidence as one table of utterances, with a row for each model that was given one."""
    place = ["file_id", "channel", "utterance"]
    utterances = found.utterances.join(found.answers.drop("start_s", "end_s"), on=place, how="left")
    return Side(utterances, found.predictions, found.durations)


def _history(index: Index) -> pl.DataFrame:
    """Return the tests of earlier windows, in order of time."""
    sql = """
        SELECT window_id::VARCHAR AS window_id, baseline_id::VARCHAR AS baseline_id, closed_at, descriptor,
               detector, statistic, p_value, threshold, verdict
        FROM drift WHERE detector <> 'model_change'
          AND seq IN (SELECT DISTINCT seq FROM drift ORDER BY seq DESC LIMIT ?) ORDER BY seq, place
    """
    return pl.DataFrame(index.query(sql, [HISTORY]), infer_schema_length=None)
