"""Clears runs that stand in the way of others: those whose process is gone, and those that others make needless.

It must not know what a run does: a run that is cleared in error may still commit, as commits are atomic and idempotent.
Two things look after runs. An automation in Prefect's server sees that heartbeats stop. A thread of `flows.serve` looks
at all runs that are due every 30 seconds, as the automation knows nothing of runs that never had a heartbeat.
"""

import logging
import threading
import time
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.events.actions import ChangeFlowRunState
from prefect.events.filters import EventFilter, EventNameFilter, EventOccurredFilter, EventResourceFilter
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.states import Cancelled, Crashed

from flows.automations import keep_automation
from flows.heartbeat import ENDED, HEARTBEAT

log = logging.getLogger(__name__)

TAG: Final = "audiophile"  # of every deployment of prefect.yaml
AUTOMATION: Final = "Audiophile: crash runs without a heartbeat"
ENDS: Final = ("Completed", "Failed", "Cancelled", "Crashed")
EVERY_S: Final = 30.0
STEP_S: Final = 1.0
SLEPT: Final = timedelta(seconds=11)
"""Who does nothing for so long was asleep."""
ALERT: Final = timedelta(seconds=60)
ALERT_EVERY_S: Final = 2.0
"""After a sleep late runs are looked at so often for so long, as they start and end within seconds."""
NOT_STARTED: Final = ("Scheduled", "Late", "AwaitingConcurrencySlot")
NOT_ENDED: Final = (StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.CANCELLING)
BEGUN: Final = (StateType.PENDING, StateType.RUNNING, StateType.COMPLETED)


@dataclass(frozen=True, slots=True)
class Limits:
    """After how long a run is given up.

    Attributes:
        heartbeat: Without a heartbeat, by the automation. They come every 30 s, from 10 s on.
        silent: Likewise by the thread, once the automation has had its time.
        stuck: PENDING or CANCELLING; it takes some seconds to start a process, and half a minute to end one.
        starting: PENDING, where its process is alive on this host: one that is overloaded takes minutes.
    """

    heartbeat: timedelta = timedelta(seconds=90)
    silent: timedelta = timedelta(seconds=150)
    stuck: timedelta = timedelta(seconds=120)
    starting: timedelta = timedelta(seconds=600)


@dataclass(frozen=True, slots=True)
class Clearing:
    """A run that is to be cleared, and the state that it gets."""

    run: FlowRun
    state: State[Any]


def ensure_zombie_automation(after: timedelta = Limits().heartbeat) -> None:
    """Make sure that Prefect's server marks runs of ours as crashed whose heartbeats have stopped."""
    with get_client(sync_client=True) as client:
        keep_automation(client, zombie_automation(after))


def zombie_automation(after: timedelta) -> AutomationCore:
    """Return the automation: after a heartbeat another one is expected in time, or the end of the run.

    See https://docs.prefect.io/v3/advanced/detect-zombie-flows.
    """
    return AutomationCore(
        name=AUTOMATION,
        description="Made when the service starts: a run whose process is gone would hold the slot of others.",
        enabled=True,
        trigger=EventTrigger(
            type="event",
            posture=Posture.Proactive,
            after={HEARTBEAT},
            expect={HEARTBEAT, ENDED, *(f"prefect.flow-run.{state}" for state in ENDS)},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related={"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{TAG}"},
            for_each={"prefect.resource.id"},
            threshold=1,
            within=after,
        ),
        actions=[
            ChangeFlowRunState(
                type="change-flow-run-state",
                state=StateType.CRASHED,
                message=f"No heartbeat for {_seconds(after)}: its process is gone",
            )
        ],
    )


def clearings(
    runs: Sequence[FlowRun],
    now: datetime,
    limits: Limits,
    is_alive: Callable[[FlowRun], bool],
    steady_since: datetime,
    here: Callable[[], Container[UUID]] = frozenset,
    completed: Sequence[FlowRun] = (),
) -> list[Clearing]:
    """Return the runs to clear.

    Args:
        runs: All that are due and have not ended.
        now: The time.
        limits: After how long.
        is_alive: Says of a run that has run for longer than `limits.silent` whether it had a heartbeat since.
        steady_since: Since when runs could have told of themselves; what they did not tell before proves nothing.
        here: Says which runs have a process on this host.
        completed: Runs that have completed lately.
    """
    found = _needless(runs, completed)
    state: State[Any]
    for run in runs:
        age = now - max(run.state.timestamp, steady_since) if run.state else timedelta()
        kind = run.state.type if run.state else None
        if kind == StateType.PENDING and age > limits.stuck and (age > limits.starting or run.id not in here()):
            state = Crashed(message=f"It was pending for {_seconds(age)}: what should have started it is gone")
        elif kind == StateType.CANCELLING and age > limits.stuck:
            state = Cancelled(message=f"It was being cancelled for {_seconds(age)}: its process is gone")
        elif kind == StateType.RUNNING and age > limits.silent and not is_alive(run):
            state = Crashed(message=f"No heartbeat for {_seconds(limits.silent)}: its process is gone")
        else:
            continue
        found.append(Clearing(run, state))
    return found


def _needless(runs: Sequence[FlowRun], completed: Sequence[FlowRun]) -> list[Clearing]:
    """Return scheduled runs of which a later one is due as well, or has begun since: it does all that there is to do.

    Runs that somebody asked for may have parameters of their own, and stay.
    """
    newest: dict[UUID, FlowRun] = {}
    needless = []
    begun = {
        run.deployment_id: run
        for run in sorted([*runs, *completed], key=_begun_at)
        if run.auto_scheduled and run.state is not None and run.state.type in BEGUN
    }
    for run in sorted(runs, key=lambda run: run.expected_start_time or run.created or datetime.now(UTC), reverse=True):
        if not run.auto_scheduled or run.deployment_id is None or run.state is None:
            continue
        if run.state.name not in NOT_STARTED:
            continue
        under_way = begun.get(run.deployment_id)
        if under_way is not None and run.expected_start_time and run.expected_start_time < _begun_at(under_way):
            needless.append(Clearing(run, Cancelled(message=f"{under_way.name} began later and does its work")))
            continue
        kept = newest.setdefault(run.deployment_id, run)
        if kept.id != run.id:
            needless.append(Clearing(run, Cancelled(message=f"{kept.name} is due as well and does its work")))
    return needless


def _begun_at(run: FlowRun) -> datetime:
    """Return a time before which a run has not looked at what there is to do."""
    return run.start_time or (run.state.timestamp if run.state else datetime.min.replace(tzinfo=UTC))


class Reconciler:
    """A thread that looks at the runs that are due, and clears those that stand in the way.

    Silence proves something only while Prefect's server could have been told: after it was away, or this machine slept,
    runs get their time anew.
    """

    def __init__(
        self,
        limits: Limits = Limits(),
        every_s: float = EVERY_S,
        here: Callable[[], Container[UUID]] = frozenset,
    ) -> None:
        self._limits, self._every_s, self._here = limits, every_s, here
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reconciler", daemon=True)
        self._steady_since: datetime | None = None
        self._last: datetime | None = None
        self._seen_at = datetime.now(UTC)
        self._alert_until: datetime | None = self._seen_at

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, after the look that is under way."""
        self._ended.set()
        self._thread.join(timeout=self._every_s)

    def look(self, client: SyncPrefectClient, now: datetime | None = None) -> list[Clearing]:
        """Look once, and clear what stands in the way; return what was."""
        now = now or datetime.now(UTC)
        runs = due_runs(client, now)
        if self._last is None or self._steady_since is None or now - self._last > timedelta(seconds=3 * self._every_s):
            self._steady_since = now
        self._last = now
        since = now - self._limits.silent
        found = clearings(
            runs,
            now,
            self._limits,
            lambda run: had_heartbeat(client, run, since),
            self._steady_since,
            self._here,
            completed_since(client, runs),
        )
        cleared = []
        for each in found:
            state = client.read_flow_run(each.run.id).state
            if state is None or each.run.state is None or state.type != each.run.state.type:
                continue  # it has begun, or ended, since it was looked at
            client.set_flow_run_state(each.run.id, each.state)  # which one that has ended meanwhile refuses
            log.warning("run %s: %s", each.run.name, each.state.message)
            cleared.append(each)
        return cleared

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                with get_client(sync_client=True) as client:
                    while not self._ends_within():
                        self.look(client)
                        self._note_sleep()
                        if self._alert_until is None:
                            self._alert_until = datetime.now(UTC) + ALERT
            except Exception as error:  # whatever it is, the next look may be luckier, and nobody else would look
                if self._steady_since is not None:
                    log.warning("runs cannot be looked after: %s: %s", type(error).__name__, error)
                self._steady_since = None
                self._ends_within()

    def _ends_within(self) -> bool:
        """Wait until the next look is due, and say whether the end came first."""
        began = time.monotonic()
        while (left := began + self._pause_s() - time.monotonic()) > 0:
            if self._ended.wait(min(left, STEP_S)):
                return True
            self._note_sleep()
        return self._ended.is_set()

    def _pause_s(self) -> float:
        """Return the seconds between two looks: fewer from a sleep on until ALERT after the first look since."""
        is_alert = self._alert_until is None or datetime.now(UTC) < self._alert_until
        return min(ALERT_EVERY_S, self._every_s) if is_alert else self._every_s

    def _note_sleep(self) -> None:
        """Take it for a sleep when this was not called for long."""
        before, self._seen_at = self._seen_at, datetime.now(UTC)
        if self._seen_at - before > SLEPT:
            self._alert_until = None


def due_runs(client: SyncPrefectClient, now: datetime) -> list[FlowRun]:
    """Return our runs that should have started by now and have not ended."""
    return our_runs(client, NOT_ENDED, expected_start_time=FlowRunFilterExpectedStartTime(before_=now))


def completed_since(client: SyncPrefectClient, waiting: Sequence[FlowRun]) -> list[FlowRun]:
    """Return our runs that began after one that waits was due, and have completed."""
    due = [run.expected_start_time for run in waiting if run.state is not None and run.state.name in NOT_STARTED]
    times = [time for time in due if time is not None]
    if not times:
        return []
    return our_runs(client, [StateType.COMPLETED], start_time=FlowRunFilterStartTime(after_=min(times)))


def our_runs(client: SyncPrefectClient, states: Sequence[StateType], **times: Any) -> list[FlowRun]:
    """Return the runs of Audiophile's deployments in these states; `times` are further filters of Prefect's."""
    wanted = FlowRunFilter(
        tags=FlowRunFilterTags(all_=[TAG]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(states))),
        **times,
    )
    found: list[FlowRun] = []
    while page := client.read_flow_runs(flow_run_filter=wanted, sort=FlowRunSort.ID_DESC, offset=len(found)):
        found += page
    return found


def had_heartbeat(client: SyncPrefectClient, run: FlowRun, since: datetime) -> bool:
    """Say whether a run has had a heartbeat since then."""
    page = client.read_events(
        EventFilter(
            occurred=EventOccurredFilter(since=since),
            event=EventNameFilter(name=[HEARTBEAT]),
            resource=EventResourceFilter(id=[f"prefect.flow-run.{run.id}"]),
        ),
        limit=1,
    )
    return bool(page.events)


def _seconds(time: timedelta) -> str:
    return f"{time.total_seconds():.0f} s"
