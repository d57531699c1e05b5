"""Workers of one pool on two hosts over a bucket, with Postgres under Prefect's server: one dies with a run in hand.

Each host has folders of its own, and only addresses are shared. What is started is what the README says for each.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from storage.lake import Lake
from storage.place import Place
from storage.verify import verify
from tests import asterisk
from tests.chaos.repeated import scored_again
from tests.chaos.result import Result
from tests.ports import free_ports
from tests.postgres import postgres
from tests.s3 import s3_server
from tests.waiting import wait_for

PROJECT = Path(__file__).parents[2]
POOL = "audiophile"
FILES, QUICK_FILES, MORE_FILES = 120, 24, 4
TWICE = (
    "SELECT file_id FROM coverage WHERE state = 'computed' GROUP BY file_id, model, model_version HAVING count(*) > 1"
)


@dataclass
class Host:
    """One machine: a folder, variables, and what runs on it."""

    folder: Path
    variables: dict[str, str]

    @classmethod
    def made(cls, folder: Path, shared: Mapping[str, str]) -> "Host":
        folder.mkdir(parents=True)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}
        own = {"HOME": str(folder), "AUDIOPHILE_LOCAL": str(folder / "own"), "PYTHONPATH": str(PROJECT)}
        return cls(folder, kept | own | dict(shared))

    def start(self, service: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{service}.log").open("ab") as log:
            command = [sys.executable, "-m", "flows.up", service]
            return subprocess.Popen(
                command, cwd=PROJECT, env=self.variables, stdout=log, stderr=log, start_new_session=True
            )

    def prefect(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
        subprocess.run(command, cwd=PROJECT, env=self.variables, check=True, capture_output=True, timeout=180)

    def processes(self) -> list[psutil.Process]:
        """What runs on this host, whoever started it."""
        return [each for each in psutil.process_iter() if self._has(each)]

    def has_run(self, run_id: str) -> bool:
        """Whether a process of a run is among them."""
        return any(each.environ().get("PREFECT__FLOW_RUN_ID") == run_id for each in self.processes())

    def kill(self) -> int:
        """Cut the power; return how many processes that was."""
        killed = 0
        while left := self.processes():
            for each in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.send_signal(signal.SIGKILL)
            killed += len(left)
            psutil.wait_procs(left, timeout=5)
        return killed

    def _has(self, process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.Error):
            mine = process.environ().get("AUDIOPHILE_LOCAL") == self.variables["AUDIOPHILE_LOCAL"]
            return mine and process.status() != psutil.STATUS_ZOMBIE
        return False


def run(seed: int, folder: Path, *, quick: bool) -> Result:
    result = Result("hosts", seed)
    prompts = [asterisk.SOUNDS / f"{name}.wav" for name in sorted(asterisk.prompts())]
    wanted = prompts[: QUICK_FILES if quick else FILES]
    with s3_server(folder / "s3") as bucket, postgres() as database:
        place = Place(bucket.lake_url(), folder / "reader", bucket.access)
        with cluster(folder, place, bucket.settings, database) as (prefect, api, workers):
            ids = [upload(api, path) for path in wanted]
            run_id, host = wait_for("run that scores", lambda: in_hand(prefect, workers), 600)
            result.kills["host"] = 1
            result.figures["processes_killed"] = host.kill()
            struck = time.monotonic()
            ids += [upload(api, path) for path in prompts[len(wanted) : len(wanted) + MORE_FILES]]
            wait_for("prediction of all", lambda: predicted(api) >= set(ids), 900)
            result.figures["all_predicted_after_s"] = round(time.monotonic() - struck, 1)
            state = prefect.get(f"/flow_runs/{run_id}").raise_for_status().json()["state_name"]
            result.figures["run_in_hand"] = state
            result.tried = result.acknowledged = len(ids)
            result.findings.lost = sorted(set(ids) - predicted(api))
        with Lake.open(place).index() as index:
            result.findings.duplicated = [str(row["file_id"]) for row in index.query(TWICE)]
        result.problems += [str(problem) for problem in verify(Lake.open(place)).problems]
        result.figures["shards_scored_again"] = again = scored_again(Lake.open(place))
        if again > 1:  # each run has one process that scores, so that one shard was under way
            result.problems.append(f"{again} shards were scored again")
    return result


@contextlib.contextmanager
def cluster(
    folder: Path, place: Place, bucket: Mapping[str, str], database: Mapping[str, str]
) -> Iterator[tuple[httpx.Client, httpx.Client, list[Host]]]:
    """Run a host with Prefect's server, the guard and the API, and two with a worker each."""
    prefect_port, api_port = free_ports(2)
    shared = {
        "AUDIOPHILE_DATA": place.url,
        "AUDIOPHILE_DEMO": "0",
        "AUDIOPHILE_WORKERS": "1",
        "PHRASES": ",".join(asterisk.PHRASES),
        "PREFECT_API_URL": f"http://127.0.0.1:{prefect_port}/api",
        "PREFECT_PORT": str(prefect_port),
        "API_PORT": str(api_port),
        **bucket,
    }
    head = Host.made(folder / "head", {**shared, **database})
    workers = [Host.made(folder / name, shared) for name in ("first", "second")]
    prefect = httpx.Client(base_url=shared["PREFECT_API_URL"], timeout=30, trust_env=False)
    api = httpx.Client(base_url=f"http://127.0.0.1:{api_port}", timeout=60, trust_env=False)
    try:
        head.start("prefect")
        wait_for("server", lambda: prefect.get("/health").is_success, 180)
        head.prefect("work-pool", "create", POOL, "--type", "process")
        head.prefect("deploy", "--all")
        head.start("guard")
        head.start("api")
        for worker in workers:
            worker.start("worker")
        wait_for("API", lambda: api.get("/api/files").is_success, 180)
        yield prefect, api, workers
    finally:
        for host in (*workers, head):
            host.kill()
        prefect.close()
        api.close()


def upload(api: httpx.Client, path: Path) -> str:
    """Return the id of a recording that is acknowledged."""
    with path.open("rb") as file:
        return str(api.post("/api/files/upload", files={"file": (path.name, file)}).raise_for_status().json()["id"])


def in_hand(prefect: httpx.Client, workers: list[Host]) -> tuple[str, Host] | None:
    """Return a run that has begun to score, and the host where it is."""
    body: dict[str, Any] = {
        "flows": {"name": {"any_": ["infer"]}},
        "flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}},
    }
    for each in prefect.post("/flow_runs/filter", json=body).raise_for_status().json():
        shards = Counter(task["state_type"] for task in _tasks(prefect, each["id"]))
        hosts = [host for host in workers if host.has_run(each["id"])]
        if shards["RUNNING"] and hosts:
            return each["id"], hosts[0]
    return None


def _tasks(prefect: httpx.Client, run_id: str) -> list[dict[str, Any]]:
    body = {"flow_runs": {"id": {"any_": [run_id]}}}
    found: list[dict[str, Any]] = prefect.post("/task_runs/filter", json=body).raise_for_status().json()
    return found


def predicted(api: httpx.Client) -> set[str]:
    """Return the files that have a reference."""
    files = api.get("/api/files", params={"limit": 1000}).raise_for_status().json()
    return {file["id"] for file in files if file["reference"]}
