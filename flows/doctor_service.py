"""Looks at what runs: Prefect's server, the deployments, whether their schedule fires, clocks, the API."""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import metadata
from typing import Any, Final

import httpx

from flows.asking import Run, api_address, client, is_ours, is_prefect, prefect_is_here, runs
from flows.deployments import read_deployments
from flows.diagnosis import Finding, fail, ok, warn
from flows.doctor_clock import look_at_clock
from flows.reconciler import Limits
from storage.settings import Settings

WATCHED: Final = "infer"
"""The deployment whose schedule is waited for: every two minutes."""
MISSED: Final = 3
"""Intervals without a completed run after which a schedule does not fire."""
LOOK_EVERY_S: Final = 2.0
START_S: Final = 60.0
"""How long the server is waited for beside an API that answers, and the flows beside a server: they start later."""
STUCK: Final = Limits().starting
SLOW: Final = Limits().stuck
RUNNING: Final = "RUNNING"


def look_at_service(settings: Settings, wait_s: float) -> Iterator[Finding]:
    """Look at all that runs; what does not run is said to.

    Args:
        settings: Where it is.
        wait_s: How long a scheduled run is waited for, where the last minutes had none.
    """
    api_runs = is_ours(api_address(settings))
    if is_prefect(settings.prefect_url) or (api_runs and _starts(settings.prefect_url, min(wait_s, START_S))):
        with client(settings.prefect_url) as prefect:
            yield from look_at_prefect(prefect, settings.prefect_url)
            if not prefect_is_here(settings):  # or its clock is this host's
                yield look_at_clock(prefect, settings.prefect_url)
            yield from look_at_flows(prefect, wait_s)
    else:
        text = f"no Prefect server answers at {settings.prefect_url}"
        if api_runs:
            yield fail("prefect", f"{text}, and the API runs: uploads wait. End it, and start all: make up")
        else:
            yield warn("prefect", f"{text}, so schedules are not looked at. Start it: make up")
    if settings.place.is_s3 or not settings.missing_for_s3:
        address = settings.aws_endpoint_url or f"https://s3.{settings.aws_region or 'us-east-1'}.amazonaws.com"
        with httpx.Client(base_url=address, timeout=5) as s3:
            yield look_at_clock(s3, address)
    yield (
        look_at_api(settings)
        if api_runs
        else warn("api", f"does not answer at {api_address(settings)}. Start it: make up, or python -m api")
    )


def _starts(address: str, wait_s: float) -> bool:
    """Wait for a Prefect server; say whether one answers by then."""
    give_up_at = time.monotonic() + wait_s
    while time.monotonic() < give_up_at:
        if is_prefect(address):
            return True
        time.sleep(LOOK_EVERY_S)
    return False


def look_at_prefect(prefect: httpx.Client, address: str) -> Iterator[Finding]:
    """Say which Prefect server answers."""
    theirs, ours = prefect.get("/admin/version").raise_for_status().json(), metadata.version("prefect")
    if theirs == ours:
        yield ok("prefect", f"{theirs} answers at {address}")
    else:
        yield warn("prefect", f"{theirs} answers at {address}, and {ours} is installed here. Install the same on both")


@dataclass(frozen=True, slots=True)
class Registered:
    """A deployment that Prefect has."""

    name: str
    is_ready: bool  # somebody asks for its runs
    is_paused: bool
    due_since: datetime | None  # from when on its schedule counts

    @classmethod
    def of(cls, raw: dict[str, Any]) -> "Registered":
        """Return the deployment that Prefect describes."""
        active = [each for each in raw["schedules"] if each["active"]]
        anchors = [datetime.fromisoformat(at) for each in active if (at := each["schedule"].get("anchor_date"))]
        return cls(raw["name"], raw["status"] == "READY", raw["paused"] or not active, max(anchors, default=None))


def look_at_flows(prefect: httpx.Client, wait_s: float) -> Iterator[Finding]:
    """Look at the deployments, and at the runs that they should have."""
    wanted = {deployment.name: deployment for deployment in read_deployments()}
    give_up_at = time.monotonic() + min(wait_s, START_S)
    while True:
        registered = _registered(prefect, list(wanted))
        if wanted.keys() <= registered.keys() or time.monotonic() >= give_up_at:
            break
        time.sleep(LOOK_EVERY_S)
    found = list(_look_at_deployments(list(wanted), registered))
    yield from found
    yield look_at_late(prefect, list(wanted))
    yield look_at_pending(prefect, list(wanted))
    if WATCHED in registered and all(finding.level is finding.level.OK for finding in found):
        interval_s = wanted[WATCHED].schedules[0].interval
        yield look_at_schedule(prefect, registered[WATCHED], interval_s, wait_s)


def _registered(prefect: httpx.Client, names: list[str]) -> dict[str, Registered]:
    body = {"deployments": {"name": {"any_": names}}}
    answer = prefect.post("/deployments/filter", json=body).raise_for_status().json()
    return {raw["name"]: Registered.of(raw) for raw in answer}


def _look_at_deployments(wanted: list[str], registered: dict[str, Registered]) -> Iterator[Finding]:
    subject = "deployments"
    if missing := [name for name in wanted if name not in registered]:
        yield fail(
            subject,
            f"{', '.join(missing)}: not registered. Start the flows (make up, or python -m flows.serve), or "
            "put them onto a work pool: prefect deploy --all",
        )
    paused = [name for name in wanted if name in registered and registered[name].is_paused]
    if paused:
        yield warn(subject, f"{', '.join(paused)}: paused, so nothing starts by itself. Resume them in Prefect's UI")
    idle = [name for name in wanted if name in registered and not registered[name].is_ready]
    if idle:
        yield fail(
            subject,
            f"{', '.join(idle)}: nobody asks for their runs. Start the flows again: make up, python -m flows.serve, or "
            "a worker of the pool: python -m flows.up worker",
        )
    if not (missing or paused or idle):
        yield ok(subject, f"{', '.join(wanted)}: registered and served")


def look_at_schedule(
    prefect: httpx.Client, deployment: Registered, interval_s: float, wait_s: float, now: datetime | None = None
) -> Finding:
    """Say whether runs that nobody asked for start and end by themselves.

    Args:
        prefect: Its server.
        deployment: Which.
        interval_s: Between its runs.
        wait_s: How long one is waited for, where the last minutes had none, as after a start, an outage or a sleep.
        now: The time at which this begins.
    """
    now = now or datetime.now(UTC)
    limit = timedelta(seconds=MISSED * interval_s)
    is_young = deployment.due_since is not None and now < deployment.due_since + limit
    give_up_at = time.monotonic() + wait_s
    while True:
        recent = _scheduled(prefect, deployment.name, now - limit)
        ended = next((run for run in recent if run.ended_at is not None), None)
        if ended is not None or time.monotonic() >= give_up_at:
            break
        time.sleep(LOOK_EVERY_S)
    if ended is not None:
        return _of_ended(deployment.name, ended, next((run for run in recent if run.state == "COMPLETED"), None))
    if recent:
        since = (datetime.now(UTC) - recent[0].state_at).total_seconds()
        return warn("schedule", f"{deployment.name}: a scheduled run is under way for {since:.0f} s; look again later")
    if (asked := _asked_for(prefect, deployment.name)) is not None:
        since = (datetime.now(UTC) - asked.state_at).total_seconds()
        return warn(
            "schedule",
            f"{deployment.name}: {asked.name}, which somebody asked for, is under way for {since:.0f} s, and scheduled "
            "runs wait for it; look again later",
        )
    if is_young and wait_s < interval_s:
        return warn(
            "schedule", f"{deployment.name}: serves since less than {limit.total_seconds():.0f} s; look again later"
        )
    return fail(
        "schedule",
        f"{deployment.name}: no scheduled run has started within {max(limit.total_seconds(), wait_s):.0f} s. Look at "
        "`packages` above (SQLAlchemy must be below 2.1) and at the lines of the flows, then start again: make up",
    )


def _scheduled(prefect: httpx.Client, name: str, since: datetime) -> list[Run]:
    """Return the runs of a schedule that are under way or have ended since, the newest first."""
    states = {"type": {"any_": [RUNNING, "COMPLETED", "FAILED", "CRASHED"]}}
    found = runs(prefect, states, [name], "START_TIME_DESC")
    return [run for run in found if run.auto_scheduled and (run.state == RUNNING or run.state_at >= since)]


def _asked_for(prefect: httpx.Client, name: str) -> Run | None:
    """Return the run under way that no schedule started."""
    found = runs(prefect, {"type": {"any_": [RUNNING]}}, [name], "START_TIME_DESC")
    return next((run for run in found if not run.auto_scheduled), None)


def _of_ended(name: str, ended: Run, completed: Run | None) -> Finding:
    if ended.state != "COMPLETED":
        return fail(
            "schedule",
            f"{name}: its schedule fires, and the newest run, {ended.name}, ended as {ended.state_name}: "
            f"{ended.message or 'it says not why'}. Look at its logs in Prefect's UI",
        )
    ago = (datetime.now(UTC) - (completed or ended).state_at).total_seconds()
    return ok("schedule", f"{name}: a run that its schedule started completed {ago:.0f} s ago")


def look_at_late(prefect: httpx.Client, deployments: list[str]) -> Finding:
    """Say whether runs wait that should have started."""
    late = runs(prefect, {"name": {"any_": ["Late"]}}, deployments, "EXPECTED_START_TIME_ASC")
    if not late:
        return ok("late runs", "none")
    most = max(Counter(run.deployment_id for run in late).values())
    text = f"{len(late)}. Where they do not become fewer, nobody asks for runs: start the flows again (make up)"
    return fail("late runs", text) if most > 1 else warn("late runs", text)


def look_at_pending(prefect: httpx.Client, deployments: list[str], now: datetime | None = None) -> Finding:
    """Say whether runs hold the slots of others without having started."""
    now = now or datetime.now(UTC)
    pending = runs(prefect, {"type": {"any_": ["PENDING"]}}, deployments, "EXPECTED_START_TIME_ASC")
    slow = [run for run in pending if now - run.state_at > SLOW]
    if not slow:
        return ok("stuck runs", "none is PENDING for long")
    text = (
        f"{', '.join(run.name for run in slow)}: PENDING for more than {SLOW.total_seconds():.0f} s, and others wait "
        "for the slot. make up clears them, and so does python -m flows.up guard for workers of a pool, after "
        f"{STUCK.total_seconds():.0f} s where a process may still be starting: see that one of both runs"
    )
    return fail("stuck runs", text) if any(now - run.state_at > STUCK for run in slow) else warn("stuck runs", text)


def look_at_api(settings: Settings) -> Finding:
    """Say whether the API that answers follows the log."""
    address = api_address(settings)
    with httpx.Client(base_url=address, timeout=5) as api:
        answer = api.get("/readyz")
    body = answer.json()
    if answer.is_success:
        return ok("api", f"answers at {address}, {body['entries_behind']} entries behind the log")
    return fail("api", f"answers at {address}, and is not ready: {body.get('detail')}. See the lines of the API")
