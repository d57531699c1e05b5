"""Runs that are forked from the warm process are runs like any others: told of alone, ended alone, seen to end."""

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import FlowRun

from flows.leftovers import marks, runs_here
from tests.flows.test_serve import is_registered
from tests.system.service import PROJECT
from tests.waiting import wait_for

SERVE = """
from flows.warm import start_warm
start_warm()
import asyncio, sys
from prefect.types.entrypoint import EntrypointType
from flows.serve import EndingRunner
from tests.flows.telling import telling
runner = EndingRunner(name="warm", pause_on_shutdown=False, query_seconds=0.5)
runner.add_deployment(telling.to_deployment(sys.argv[1], entrypoint_type=EntrypointType.MODULE_PATH))
asyncio.run(runner.serve())
"""


@dataclass
class Serving:
    """A process that serves, and the server that it asks."""

    process: subprocess.Popen
    server: SyncPrefectClient
    name: str

    def ask(self, word: str, until: Path | None = None) -> FlowRun:
        """Ask for a run, which tells once there is a file."""
        deployment = self.server.read_deployment_by_name(f"telling/{self.name}")
        parameters = {"word": word, "until": str(until or "")}
        return self.server.create_flow_run_from_deployment(deployment.id, parameters=parameters)

    def ended(self, run: FlowRun, state: str) -> FlowRun:
        wait_for("the end of a run", lambda: bool(self.server.read_flow_run(run.id).end_time))
        found = self.server.read_flow_run(run.id)
        assert found.state.type.value == state, found.state
        return found

    def told(self, run: FlowRun) -> dict[str, Any]:
        return json.loads(self.ended(run, "COMPLETED").state.message)

    def running(self, run: FlowRun) -> None:
        wait_for("a running run", lambda: self.server.read_flow_run(run.id).state_name == "Running")

    def warm(self) -> psutil.Process:
        (found,) = psutil.Process(self.process.pid).children()
        return found

    def forked(self, run: FlowRun) -> psutil.Process:
        (found,) = [each for each in self.warm().children() if run.id in marks(Path(f"/proc/{each.pid}/fd"))]
        return found


@contextmanager
def started(prefect_url: str) -> Iterator[Serving]:
    name = uuid.uuid4().hex
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, name], cwd=PROJECT, env=os.environ | {"PREFECT_API_URL": prefect_url}
    )
    try:
        with get_client(sync_client=True) as server:
            wait_for("a deployment", lambda: is_registered(server, f"telling/{name}"))
            yield Serving(process, server, name)
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def serving(prefect_url: str) -> Iterator[Serving]:
    """For tests that end it, or a part of it."""
    with started(prefect_url) as one:
        yield one


@pytest.fixture(scope="module")
def shared(prefect_url: str) -> Iterator[Serving]:
    """For tests that leave it as it is."""
    with started(prefect_url) as one:
        yield one


def test_runs_are_forked_and_each_has_its_own_parameters_variables_and_chance(shared: Serving) -> None:
    runs = [shared.ask(word) for word in ("one", "two")]
    told = [shared.told(run) for run in runs]
    assert [one["word"] for one in told] == ["one", "two"]
    assert [one["run"] for one in told] == [str(run.id) for run in runs]
    assert {one["parent"] for one in told} == {shared.warm().pid}
    assert told[0]["chance"] != told[1]["chance"]
    assert not any(one["torch"] or one["polars"] for one in told)
    of_first = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[runs[0].id]))
    wait_for(
        "its lines",
        lambda: "the word is one" in [each.message for each in shared.server.read_logs(of_first)],
    )


def test_a_forked_run_is_found_and_seen_to_be_killed_and_the_next_one_is_none_the_worse(
    shared: Serving, tmp_path: Path
) -> None:
    run = shared.ask("killed", until=tmp_path / "never")
    shared.running(run)
    assert run.id in runs_here()
    shared.forked(run).kill()
    assert "status code: -9" in shared.ended(run, "CRASHED").state.message
    assert run.id not in runs_here()
    assert shared.told(shared.ask("next"))["word"] == "next"


def test_without_the_warm_process_runs_start_as_before(serving: Serving, tmp_path: Path) -> None:
    run = serving.ask("going on", until=tmp_path / "now")
    serving.running(run)
    warm = serving.warm()
    warm.kill()
    (tmp_path / "now").touch()
    told = serving.told(run)
    assert told["parent"] != serving.process.pid
    assert serving.told(serving.ask("slow start"))["parent"] == serving.process.pid


def test_a_run_outlives_a_killed_service_and_the_warm_process_does_not(serving: Serving, tmp_path: Path) -> None:
    run = serving.ask("left alone", until=tmp_path / "now")
    serving.running(run)
    warm, forked = serving.warm(), serving.forked(run)
    serving.process.send_signal(signal.SIGKILL)
    assert psutil.wait_procs([warm], timeout=60)[1] == []
    assert forked.is_running()
    (tmp_path / "now").touch()
    assert serving.told(run)["word"] == "left alone"


ANEW = """
import os, sys
import flows.serve
from flows.warm import start_warm
start_warm()
says = "import os, psutil; print(os.getpid(), psutil.Process().children())"
flows.serve.SERVICES["flows"] = [sys.executable, "-c", says]
print(os.getpid(), flush=True)
flows.serve.start_anew()
"""


def test_what_serves_begins_anew_as_the_same_process_without_the_warm_one() -> None:
    told = subprocess.run([sys.executable, "-c", ANEW], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    before, after = told.splitlines()
    assert after == f"{before} []"
