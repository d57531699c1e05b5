"""Starts the whole service as a user does, on ports and folders of its own, and talks to it over HTTP."""

import contextlib
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil

from tests.ports import free_ports
from tests.waiting import wait_for

PROJECT = Path(__file__).parents[2]
T = TypeVar("T")


def environment(folder: Path, **settings: str) -> dict[str, str]:
    """The variables of a user who has set nothing but these."""
    api, prefect = free_ports(2)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}
    return kept | {
        "HOME": str(folder),
        "AUDIOPHILE_DATA": str(folder / "data"),
        "API_PORT": str(api),
        "PREFECT_PORT": str(prefect),
        **settings,
    }


class Service:
    """The processes of `make up`, after the installation."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.environment = environment(folder, **settings)
        self.data = folder / "data"
        self.log = folder / "up.log"
        self.api = httpx.Client(base_url=f"http://127.0.0.1:{self.environment['API_PORT']}", timeout=120)
        self.prefect = httpx.Client(base_url=f"http://127.0.0.1:{self.environment['PREFECT_PORT']}/api", timeout=30)
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "flows.up"],
                cwd=PROJECT,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.wait("the API", 120, lambda: self.api.get("/api/files").is_success)

    def stop(self) -> list[psutil.Process]:
        """Press Ctrl-C; return the processes that are left."""
        processes = self.processes()
        os.killpg(self.process.pid, signal.SIGINT)
        self.process.wait(60)
        self.process = None
        _, alive = psutil.wait_procs(processes, timeout=15)
        return alive

    def processes(self) -> list[psutil.Process]:
        top = psutil.Process(self.process.pid)
        return [top, *top.children(recursive=True)]

    def wait(self, what: str, seconds: float, probe: Callable[[], T], every_s: float = 0.5) -> T:
        def seen() -> T | None:
            if self.process.poll() is not None:
                raise AssertionError(f"ended while waiting for {what}")
            return probe()

        try:
            return wait_for(what, seen, seconds, every_s)
        except AssertionError as error:
            error.add_note(self.tail())
            raise

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-40:])

    def file(self, file_id: str, **query: Any) -> dict[str, Any]:
        return self.api.get(f"/api/files/{file_id}", params=query).raise_for_status().json()

    def files(self, **query: Any) -> list[dict[str, Any]]:
        return self.api.get("/api/files", params=query).raise_for_status().json()

    def runs(self, flow: str, *states: str) -> list[dict[str, Any]]:
        body = {
            "flows": {"name": {"any_": [flow]}},
            "flow_runs": {"state": {"type": {"any_": list(states)}}},
            "sort": "START_TIME_DESC",
        }
        return ask(self.prefect, "/flow_runs/filter", body)

    def artifacts(self, run_id: str) -> list[dict[str, Any]]:
        body = {"artifacts": {"flow_run_id": {"any_": [run_id]}}}
        return ask(self.prefect, "/artifacts/filter", body)

    def lines(self, run_id: str) -> list[dict[str, Any]]:
        """Return what a run has logged."""
        body = {"logs": {"flow_run_id": {"any_": [run_id]}}, "sort": "TIMESTAMP_ASC"}
        return ask(self.prefect, "/logs/filter", body)


def ask(prefect: httpx.Client, path: str, body: dict[str, Any]) -> Any:
    """Ask Prefect, again where its database is busy, as its own client does."""

    def answered() -> httpx.Response | None:
        answer = prefect.post(path, json=body)
        return answer if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE else None

    return wait_for("answer of Prefect's", answered).raise_for_status().json()


def ask_for_run(prefect: httpx.Client, flow: str) -> str:
    """Have a run now, rather than at the next tick, and one alone however often it is asked for; return its id."""
    deployment = prefect.get(f"/deployments/name/{flow}/{flow}").raise_for_status().json()["id"]
    key = {"idempotency_key": str(uuid.uuid4())}
    return str(ask(prefect, f"/deployments/{deployment}/create_flow_run", key)["id"])


@contextlib.contextmanager
def running(folder: Path, **settings: str) -> Iterator[Service]:
    service = Service(folder, **settings)
    try:
        service.start()
        yield service
    finally:
        if service.process is not None:
            service.stop()
        service.api.close()
        service.prefect.close()
