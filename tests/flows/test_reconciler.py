"""Runs whose process is gone, and runs that others make needless, hold nothing up on a real Prefect server."""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions, FlowRun, State
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.events import emit_event
from prefect.events.filters import EventFilter, EventResourceFilter
from prefect.events.schemas.automations import AutomationCore
from prefect.events.worker import EventsWorker
from prefect.states import Cancelling, Completed, Pending, Running, Scheduled

from flows.heartbeat import ENDED, HEARTBEAT
from flows.leftovers import crash_leftovers, runs_here
from flows.reconciler import (
    AUTOMATION,
    TAG,
    Limits,
    Reconciler,
    clearings,
    due_runs,
    ensure_zombie_automation,
    had_heartbeat,
    zombie_automation,
)
from tests.chaos import faulty
from tests.flows.sleeping import sleeping
from tests.system.service import PROJECT
from tests.waiting import wait_for

AT_ONCE = Limits(silent=timedelta(0), stuck=timedelta(0))
WITHIN_S = 10.0  # Prefect's least for such an automation


@pytest.fixture
def server(prefect_url: str) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as server:
        yield server
        for run in due_runs(server, datetime.now(UTC)):
            server.delete_flow_run(run.id)


Deploy = Callable[..., DeploymentResponse]


@pytest.fixture
def deploy(server: SyncPrefectClient) -> Iterator[Deploy]:
    """Register a deployment with one slot and our tag."""
    made = []
    flow_id = server.create_flow(sleeping)

    def deploy(strategy: ConcurrencyLimitStrategy = ConcurrencyLimitStrategy.CANCEL_NEW) -> DeploymentResponse:
        schedule = IntervalSchedule(interval=timedelta(minutes=2), anchor_date=datetime(2026, 1, 1, tzinfo=UTC))
        deployment_id = server.create_deployment(
            flow_id,
            uuid.uuid4().hex,
            tags=[TAG],
            schedules=[DeploymentScheduleCreate(schedule=schedule)],
            concurrency_limit=1,
            concurrency_options=ConcurrencyOptions(collision_strategy=strategy),
        )
        made.append(deployment_id)
        return server.read_deployment(deployment_id)

    yield deploy
    for deployment_id in made:
        server.delete_deployment(deployment_id)


def run_in(server: SyncPrefectClient, deployment: DeploymentResponse, *states: State) -> FlowRun:
    """A run that somebody asked for, brought into states as its process would."""
    run = server.create_flow_run_from_deployment(deployment.id)
    for state in states:
        server.set_flow_run_state(run.id, state)
    return server.read_flow_run(run.id)


def type_of(server: SyncPrefectClient, run_id: UUID) -> str:
    return server.read_flow_run(run_id).state.type.value


def wait_until(server: SyncPrefectClient, run_id: UUID, state: str) -> None:
    wait_for(f"run that is {state}", lambda: type_of(server, run_id) == state)


def wait_for_heartbeat(server: SyncPrefectClient, run: FlowRun, since: datetime) -> None:
    wait_for("heartbeat", lambda: had_heartbeat(server, run, since))  # the server writes events in batches


def looks(server: SyncPrefectClient, limits: Limits = AT_ONCE) -> list[UUID]:
    """Look twice, as before the first look nothing proves anything; return the runs that were cleared."""
    reconciler = Reconciler(limits)
    reconciler.look(server)
    return [each.run.id for each in reconciler.look(server)]


@pytest.mark.parametrize(
    ("states", "end"),
    [([Pending()], "CRASHED"), ([Pending(), Running()], "CRASHED"), ([Pending(), Cancelling()], "CANCELLED")],
)
def test_a_run_whose_process_is_gone_frees_the_slot_that_it_holds(
    server: SyncPrefectClient, deploy: Deploy, states: list[State], end: str
) -> None:
    deployment = deploy()
    stuck = run_in(server, deployment, *states)
    refused = run_in(server, deployment, Pending())
    assert type_of(server, refused.id) == "CANCELLED"
    assert looks(server, Limits()) == []
    assert looks(server) == [stuck.id]
    assert type_of(server, stuck.id) == end
    assert type_of(server, run_in(server, deployment, Pending()).id) == "PENDING"


def test_a_run_is_left_alone_until_its_heartbeats_stop(server: SyncPrefectClient, deploy: Deploy) -> None:
    run = run_in(server, deploy(), Pending(), Running())
    reconciler, now = Reconciler(Limits(silent=timedelta(seconds=60))), datetime.now(UTC)
    emit_event(HEARTBEAT, resource={"prefect.resource.id": f"prefect.flow-run.{run.id}"})
    EventsWorker.instance().drain()
    wait_for_heartbeat(server, run, now)
    reconciler.look(server, now - timedelta(seconds=10))
    assert reconciler.look(server, now + timedelta(seconds=55)) == []
    assert [each.run.id for each in reconciler.look(server, now + timedelta(seconds=120))] == [run.id]


def test_a_run_that_takes_long_to_start_is_left_alone_where_its_process_is_alive(
    server: SyncPrefectClient, deploy: Deploy
) -> None:
    run, now = run_in(server, deploy(), Pending()), datetime.now(UTC)
    reconciler = Reconciler(here=lambda: {run.id})
    reconciler.look(server, now)
    for seconds in range(0, 600, 60):
        assert reconciler.look(server, now + timedelta(seconds=seconds)) == []
    assert [each.run.id for each in reconciler.look(server, now + timedelta(seconds=630))] == [run.id]


def test_after_a_sleep_runs_get_their_time_anew(server: SyncPrefectClient, deploy: Deploy) -> None:
    run = run_in(server, deploy(), Pending())
    reconciler, now = Reconciler(), datetime.now(UTC)
    reconciler.look(server, now)
    assert reconciler.look(server, now + timedelta(hours=8)) == []
    assert reconciler.look(server, now + timedelta(hours=8, seconds=60)) == []
    assert [each.run.id for each in reconciler.look(server, now + timedelta(hours=8, seconds=130))] == [run.id]


def test_late_runs_collapse_into_the_newest_and_those_that_were_asked_for_stay(
    server: SyncPrefectClient, deploy: Deploy
) -> None:
    deployment = deploy(ConcurrencyLimitStrategy.ENQUEUE)
    asked = run_in(server, deployment)
    scheduled = late_runs(server, deployment, 20)
    due = [run for run in due_runs(server, datetime.now(UTC)) if run.deployment_id == deployment.id]
    assert len(due) == 21
    assert set(looks_once(server)) == {run.id for run in scheduled[:-1]}
    assert {run.id for run in due_runs(server, datetime.now(UTC))} == {asked.id, scheduled[-1].id}
    assert type_of(server, scheduled[0].id) == "CANCELLED"
    assert looks_once(server) == []


def test_what_was_due_before_a_run_began_is_done_by_it() -> None:
    now = datetime.now(UTC)
    states = {"late": Scheduled(), "under way": Running(timestamp=now), "next": Scheduled(), "asked": Scheduled()}
    due = {"late": 130, "under way": 250, "next": -1, "asked": 130}
    deployment_id = uuid.uuid4()
    runs = [
        FlowRun(
            name=name,
            flow_id=uuid.uuid4(),
            deployment_id=deployment_id,
            auto_scheduled=name != "asked",
            expected_start_time=now - timedelta(seconds=due[name]),
            start_time=now if name == "under way" else None,
            state=state,
        )
        for name, state in states.items()
    ]
    assert [each.run.name for each in clearings(runs, now, Limits(), lambda _: True, now)] == ["late"]


def test_what_was_due_before_a_run_began_stays_done_once_that_has_ended(
    server: SyncPrefectClient, deploy: Deploy
) -> None:
    deployment = deploy(ConcurrencyLimitStrategy.ENQUEUE)
    older, newer = late_runs(server, deployment, 2)
    for state in (Pending(), Running(), Completed()):
        server.set_flow_run_state(older.id, state)
    assert looks_once(server) == [newer.id]
    assert looks_once(server) == []


def test_a_late_run_that_has_begun_meanwhile_is_left_alone(
    server: SyncPrefectClient, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = deploy(ConcurrencyLimitStrategy.ENQUEUE)
    looked_at = late_runs(server, deployment, 2)
    older = looked_at[0]
    server.set_flow_run_state(older.id, Pending())
    monkeypatch.setattr("flows.reconciler.due_runs", lambda *_: looked_at)
    looks_once(server)
    assert type_of(server, older.id) == "PENDING"


def late_runs(server: SyncPrefectClient, deployment: DeploymentResponse, count: int) -> list[FlowRun]:
    """Have the schedule make runs that are due within the last hour; return them, the oldest first."""
    since = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    late = {"start_time": since, "end_time": datetime.now(UTC).isoformat(), "min_runs": count, "max_runs": count}
    server.request("POST", "/deployments/{id}/schedule", path_params={"id": deployment.id}, json=late)
    due = [run for run in due_runs(server, datetime.now(UTC)) if run.deployment_id == deployment.id]
    made = sorted((run for run in due if run.auto_scheduled), key=lambda run: run.expected_start_time)
    assert len(made) == count
    return made


def test_due_runs_are_all_seen_however_many_there_are(
    server: SyncPrefectClient, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "read_flow_runs", partial(server.read_flow_runs, limit=2))  # Prefect gives 200 at most
    *needless, kept = late_runs(server, deploy(ConcurrencyLimitStrategy.ENQUEUE), 5)
    found = [run.id for run in due_runs(server, datetime.now(UTC))]
    assert len(found) == len({*found})
    assert {*looks_once(server)} >= {run.id for run in needless}
    assert type_of(server, kept.id) == "SCHEDULED"


def looks_once(server: SyncPrefectClient) -> list[UUID]:
    return [each.run.id for each in Reconciler().look(server)]


RECONCILE = """
import time
from datetime import timedelta
from flows.reconciler import Limits, Reconciler
Reconciler(Limits(silent=timedelta(seconds=1), stuck=timedelta(seconds=1)), every_s=0.3).start()
time.sleep(600)
"""


def test_the_thread_goes_on_when_the_server_was_away(
    server: SyncPrefectClient, deploy: Deploy, prefect_url: str
) -> None:
    stuck = run_in(server, deploy(), Pending())
    proxy = faulty.Proxy(prefect_url.removesuffix("/api"), seed=1, rate=1.0)
    with faulty.running(proxy) as address:
        variables = os.environ | {"PREFECT_API_URL": f"{address}/api", "PREFECT_CLIENT_MAX_RETRIES": "0"}
        process = subprocess.Popen([sys.executable, "-c", RECONCILE], cwd=PROJECT, env=variables)
        try:
            while proxy.faults.total() < 3:
                assert process.poll() is None
                time.sleep(0.1)
            assert type_of(server, stuck.id) == "PENDING"
            proxy.rate = 0
            wait_until(server, stuck.id, "CRASHED")
        finally:
            process.kill()
            process.wait()


def events_of(server: SyncPrefectClient, state: State) -> list[str]:
    """Return the events that a run has emitted itself."""
    EventsWorker.instance().drain()
    of = EventResourceFilter(id=[f"prefect.flow-run.{state.state_details.flow_run_id}"])
    names = [each.event for each in server.read_events(EventFilter(resource=of), limit=50).events]
    return [name for name in names if name in (HEARTBEAT, ENDED)]


def test_a_run_that_goes_on_beats_and_tells_its_end(server: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch) -> None:
    long = sleeping(2.5, return_state=True)
    monkeypatch.setattr("flows.heartbeat.FIRST_AFTER_S", 60.0)
    short = sleeping(0.1, return_state=True)

    def all_told() -> list[str] | None:
        found = events_of(server, long)
        return found if ENDED in found else None  # the server writes events in batches

    told = wait_for("event of its end", all_told)
    assert (set(told), told.count(ENDED)) == ({HEARTBEAT, ENDED}, 1)
    assert events_of(server, short) == []


@pytest.fixture
def no_automation_stays(prefect_url: str) -> Iterator[None]:
    yield
    with get_client(sync_client=True) as client:
        for each in client.read_automations_by_name(AUTOMATION):
            client.delete_automation(each.id)


def started(server: SyncPrefectClient, run: FlowRun, prefect_url: str) -> subprocess.Popen:
    """Start the process of a run, as Prefect's runner does, but without it."""
    variables = {
        "PREFECT_API_URL": prefect_url,
        "PREFECT__FLOW_RUN_ID": str(run.id),
        "PREFECT__FLOW_ENTRYPOINT": "tests.flows.sleeping.sleeping",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "prefect.engine"], cwd=PROJECT, env=os.environ | variables, stderr=subprocess.DEVNULL
    )
    wait_until(server, run.id, "RUNNING")
    return process


def test_a_run_that_is_killed_is_known_here_and_crashed_by_the_automation(
    server: SyncPrefectClient, deploy: Deploy, no_automation_stays: None, prefect_url: str
) -> None:
    deployment = deploy()
    run = run_in(server, deployment, Pending())
    process = started(server, run, prefect_url)
    try:
        assert run.id in runs_here()
        crash_leftovers()
        assert type_of(server, run.id) == "RUNNING", "it goes on, as its process is alive"
        ensure_zombie_automation(timedelta(seconds=WITHIN_S))
        for _ in range(2):  # the server takes a moment until it heeds a new automation
            wait_for_heartbeat(server, run, datetime.now(UTC))
    finally:
        process.kill()
        process.wait()
    assert run.id not in runs_here()
    wait_until(server, run.id, "CRASHED")
    assert "No heartbeat for 10 s" in server.read_flow_run(run.id).state.message
    assert type_of(server, run_in(server, deployment, Pending()).id) == "PENDING"


def test_what_an_earlier_service_left_is_crashed_at_the_start(server: SyncPrefectClient, deploy: Deploy) -> None:
    deployment = deploy()
    left = run_in(server, deployment, Pending(), Running())
    crash_leftovers()
    assert type_of(server, left.id) == "CRASHED"
    assert type_of(server, run_in(server, deployment, Pending()).id) == "PENDING"


def test_there_is_one_automation_after_any_number_of_starts_and_a_pause_stays(
    server: SyncPrefectClient, no_automation_stays: None
) -> None:
    ensure_zombie_automation(timedelta(seconds=WITHIN_S))
    (made,) = server.read_automations_by_name(AUTOMATION)
    server.create_automation(AutomationCore.model_validate(made.model_dump()))
    for each in server.read_automations_by_name(AUTOMATION):
        server.pause_automation(each.id)
    ensure_zombie_automation()
    (left,) = server.read_automations_by_name(AUTOMATION)
    assert not left.enabled
    assert left.trigger.within == zombie_automation(Limits().heartbeat).trigger.within == timedelta(seconds=90)


def test_the_guard_makes_the_automation_and_ends_when_it_is_told(server: SyncPrefectClient, prefect_url: str) -> None:
    for automation in server.read_automations_by_name(AUTOMATION):
        server.delete_automation(automation.id)
    with subprocess.Popen(
        [sys.executable, "-m", "flows.up", "guard"],
        cwd=PROJECT,
        env=os.environ | {"PREFECT_API_URL": prefect_url},
        stdout=subprocess.PIPE,
        text=True,
    ) as guard:
        assert any("looking after the runs" in line for line in guard.stdout)
        assert len(server.read_automations_by_name(AUTOMATION)) == 1
        guard.terminate()
    assert guard.returncode == 0
