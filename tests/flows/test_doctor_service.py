"""The doctor says of a real Prefect server, real servers' clocks and a real API what is wrong with them."""

import contextlib
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
from prefect.client.schemas.objects import State
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.states import Completed, Failed, Late, Pending, Running

from api import health
from api.app import create_app
from flows import asking, doctor_service
from flows.asking import client, runs
from flows.diagnosis import Finding, Level
from flows.doctor_clock import look_at_clock
from flows.doctor_service import (
    Registered,
    look_at_api,
    look_at_flows,
    look_at_late,
    look_at_pending,
    look_at_prefect,
    look_at_schedule,
    look_at_service,
)
from storage.lake import Lake
from storage.log import entry_path
from storage.settings import Settings
from tests.ports import free_port
from tests.serving import serving
from tests.waiting import wait_for

INTERVAL_S = 120
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


@flow(name="doctored")
def doctored() -> None:
    """What is deployed here; nothing runs it."""


@pytest.fixture
def prefect(prefect_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    monkeypatch.setattr(asking, "TIMEOUT_S", 120.0)
    with client(prefect_url) as prefect:
        yield prefect


@pytest.fixture
def server(prefect_url: str) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as server:
        yield server


@pytest.fixture
def deploy(server: SyncPrefectClient) -> Iterator[Callable[..., str]]:
    """Register a deployment of a name of its own whose schedule began then, and return the name."""
    made = []
    flow_id = server.create_flow(doctored)

    def deploy(anchor: datetime, name: str = "", *, active: bool = True) -> str:
        schedule = IntervalSchedule(interval=timedelta(seconds=INTERVAL_S), anchor_date=anchor)
        name = name or uuid.uuid4().hex
        made.append(
            server.create_deployment(
                flow_id, name, schedules=[DeploymentScheduleCreate(schedule=schedule, active=active)]
            )
        )
        return name

    yield deploy
    for deployment_id in made:
        server.delete_deployment(deployment_id)


def registered(prefect: httpx.Client, name: str) -> Registered:
    (raw,) = prefect.post("/deployments/filter", json={"deployments": {"name": {"any_": [name]}}}).json()
    return Registered.of(raw)


def schedule(prefect: httpx.Client, name: str, wait_s: float = 0) -> Finding:
    return look_at_schedule(prefect, registered(prefect, name), INTERVAL_S, wait_s)


def scheduled_runs(prefect: httpx.Client, server: SyncPrefectClient, name: str, count: int) -> list[str]:
    """Have Prefect schedule runs, as its scheduler does; return their names."""
    deployment = server.read_deployment_by_name(f"{doctored.name}/{name}")
    counts = {"max_runs": count, "min_runs": count}
    server.request("POST", "/deployments/{id}/schedule", path_params={"id": deployment.id}, json=counts)
    found = [run for run in runs(prefect, {}, [name], "EXPECTED_START_TIME_ASC") if run.auto_scheduled]
    return [run.name for run in found[:count]]


def set_state(server: SyncPrefectClient, name: str, state: State) -> None:
    (run,) = server.read_flow_runs(flow_run_filter=FlowRunFilter(name=FlowRunFilterName(any_=[name])))
    server.set_flow_run_state(run.id, state, force=True)


def run_of(server: SyncPrefectClient, name: str, state: State) -> str:
    deployment = server.read_deployment_by_name(f"doctored/{name}")
    run = server.create_flow_run_from_deployment(deployment.id)
    server.set_flow_run_state(run.id, state, force=True)
    return run.name


def test_a_schedule_that_never_fires_fails_and_one_that_does_is_well(
    prefect: httpx.Client, server: SyncPrefectClient, deploy: Callable[..., str]
) -> None:
    name = deploy(LONG_AGO)
    never = schedule(prefect, name)
    assert never.level is Level.FAIL
    assert "no scheduled run has started within 360 s" in never.text
    run_of(server, name, Completed())
    assert schedule(prefect, name).level is Level.FAIL, "a run that somebody asked for proves nothing"
    asked = run_of(server, name, Running())
    waits = schedule(prefect, name)
    assert waits.level is Level.WARN, "while it is under way, none of the schedule can be"
    assert "which somebody asked for" in waits.text
    set_state(server, asked, Completed())
    first, second = scheduled_runs(prefect, server, name, 2)
    set_state(server, first, Completed())
    assert schedule(prefect, name).level is Level.OK
    set_state(server, second, Failed(message="no such file"))
    failed = schedule(prefect, name)
    assert failed.level is Level.FAIL
    assert "ended as Failed: no such file" in failed.text
    much_later = datetime.now(UTC) + timedelta(hours=1)
    stopped = look_at_schedule(prefect, registered(prefect, name), INTERVAL_S, 0, now=much_later)
    assert stopped.level is Level.FAIL


def test_the_first_run_of_a_young_service_is_waited_for(
    prefect: httpx.Client, server: SyncPrefectClient, deploy: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_service, "LOOK_EVERY_S", 0.2)
    name = deploy(datetime.now(UTC))
    assert schedule(prefect, name).level is Level.WARN
    (first,) = scheduled_runs(prefect, server, name, 1)
    later = threading.Timer(1, set_state, [server, first, Completed()])
    later.start()
    assert schedule(prefect, name, wait_s=60).level is Level.OK
    later.join()


def test_runs_that_are_late_are_counted(
    prefect: httpx.Client, server: SyncPrefectClient, deploy: Callable[..., str]
) -> None:
    name = deploy(LONG_AGO, active=False)
    assert look_at_late(prefect, [name]).level is Level.OK
    run_of(server, name, Late(scheduled_time=datetime.now(UTC) - timedelta(minutes=1)))
    assert look_at_late(prefect, [name]).level is Level.WARN
    run_of(server, name, Late(scheduled_time=datetime.now(UTC)))
    assert look_at_late(prefect, [name]).level is Level.FAIL


def test_a_run_that_is_stuck_in_pending_is_named(
    prefect: httpx.Client, server: SyncPrefectClient, deploy: Callable[..., str]
) -> None:
    name = deploy(LONG_AGO, active=False)
    run_of(server, name, Pending())
    assert look_at_pending(prefect, [name]).level is Level.OK
    slow = look_at_pending(prefect, [name], now=datetime.now(UTC) + timedelta(minutes=3))
    assert slow.level is Level.WARN, "an overloaded machine takes minutes to start one"
    assert "PENDING for more than 120 s" in slow.text
    assert look_at_pending(prefect, [name], now=datetime.now(UTC) + timedelta(minutes=11)).level is Level.FAIL


def test_deployments_that_are_missing_paused_or_not_served_are_named(
    prefect: httpx.Client, server: SyncPrefectClient, deploy: Callable[..., str]
) -> None:
    deploy(LONG_AGO, "drift")
    deploy(LONG_AGO, "maintain", active=False)
    found = {found.text.partition(":")[0]: found for found in look_at_flows(prefect, 0) if "deploy" in found.subject}
    assert found.keys() == {"ingest, infer", "maintain", "drift, maintain"}
    assert found["ingest, infer"].level is Level.FAIL
    assert "not registered" in found["ingest, infer"].text
    assert found["maintain"].level is Level.WARN
    assert "nobody asks for their runs" in found["drift, maintain"].text
    deploy(LONG_AGO, "ingest")
    deploy(LONG_AGO, "infer")
    ids = [server.read_deployment_by_name(f"doctored/{name}").id for name in ("ingest", "infer", "drift", "maintain")]
    server.get_scheduled_flow_runs_for_deployments(ids, scheduled_before=LONG_AGO)  # as who serves them does
    wait_for(  # the server writes it down after it has answered
        "deployments that are ready",
        lambda: all(registered(prefect, name).is_ready for name in ("ingest", "infer", "drift", "maintain")),
    )
    levels = {found.subject: found.level for found in look_at_flows(prefect, 0)}
    assert levels["deployments"] is Level.WARN
    assert "schedule" not in levels


def test_a_server_of_another_version_is_named(prefect: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    (same,) = look_at_prefect(prefect, "here")
    assert same.level is Level.OK
    monkeypatch.setattr(doctor_service.metadata, "version", lambda name: "3.0.0")
    (other,) = look_at_prefect(prefect, "here")
    assert other.level is Level.WARN


@contextlib.contextmanager
def clock_of(date: str) -> Iterator[httpx.Client]:
    """A server that says it is that time."""

    class Clock(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(200)
            self.send_header("Date", date)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Clock)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with client(f"http://127.0.0.1:{server.server_port}") as asked:
            yield asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("ahead_s", "level", "text"),
    [(0, Level.OK, ""), (20, Level.WARN, "behind that"), (-20, Level.WARN, "ahead of that"), (3600, Level.FAIL, "NTP")],
)
def test_a_clock_that_goes_wrong_is_named(ahead_s: float, level: Level, text: str) -> None:
    with clock_of(format_datetime(datetime.now(UTC) + timedelta(seconds=ahead_s), usegmt=True)) as server:
        found = look_at_clock(server, "there")
    assert found.level is level
    assert text in found.text


def test_a_server_that_tells_no_time_or_is_away_is_worth_knowing() -> None:
    with clock_of("soon") as server:
        assert look_at_clock(server, "there").level is Level.WARN
    with client(f"http://127.0.0.1:{free_port()}") as nobody:
        assert look_at_clock(nobody, "there").level is Level.WARN


def test_the_clock_of_prefect_is_looked_at(prefect: httpx.Client, prefect_url: str) -> None:
    assert look_at_clock(prefect, prefect_url).level is Level.OK


def test_an_api_that_does_not_follow_the_log_is_named_and_so_is_a_prefect_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake.open(tmp_path)
    folder = {"AUDIOPHILE_DATA": str(tmp_path)}
    monkeypatch.setattr(health, "READY_LAG_S", 0)
    with serving(create_app(Settings(_env_file=None, **folder))) as http:
        lake.store.write(entry_path(1), b"{")
        wait_for("a failure", lambda: "log entry 1" in http.get("/readyz").text)
        nobody = f"http://127.0.0.1:{free_port()}/api"
        settings = Settings(_env_file=None, API_PORT=http.base_url.port, PREFECT_API_URL=nobody, **folder)
        api = look_at_api(settings)
        assert api.level is Level.FAIL
        assert "log entry 1 is damaged" in api.text
        found = {each.subject: each for each in look_at_service(settings, 0)}
        assert found["prefect"].level is Level.FAIL
        assert "uploads wait" in found["prefect"].text


def test_an_api_that_follows_is_well(tmp_path: Path) -> None:
    folder = {"AUDIOPHILE_DATA": str(tmp_path)}
    with serving(create_app(Settings(_env_file=None, **folder))) as http:
        wait_for("readiness", lambda: http.get("/readyz").is_success)
        assert look_at_api(Settings(_env_file=None, API_PORT=http.base_url.port, **folder)).level is Level.OK
