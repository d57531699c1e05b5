"""Prefect's server, flows.serve and the API, processes that can be struck one by one, over a lake of their own."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import httpx
import numpy as np
import psutil
import soundfile

from flows.handover import FOLDER
from flows.leftovers import marks
from flows.up import environment as environment_of_up
from storage.lake import Lake
from storage.log import LogEntry, read_entries
from storage.settings import Settings
from storage.verify import verify
from tests import asterisk
from tests.loaded import has_loaded
from tests.ports import free_port
from tests.system.service import PROJECT, environment
from tests.waiting import wait_for

T = TypeVar("T")
MODULES = {"prefect": ["flows.up", "prefect"], "serve": ["flows.serve"], "api": ["api"]}
RECORDING_S = 30.0
SETTLED_S = 900.0
"""How long it may take until all that came in has an answer: on this machine others may use the cores."""


class Orchestra:
    """The three processes, what was sent to them, and what became of it."""

    def __init__(self, folder: Path, seed: int, **settings: str) -> None:
        self.folder, self.luck, self.count = folder, random.Random(seed), 0
        self.environment = environment(folder, **{"AUDIOPHILE_DEMO": "0", "AUDIOPHILE_WORKERS": "1"} | settings)
        self.environment["PHRASES"] = "goodbye,messages"
        given = {name: self.environment[name] for name in ("AUDIOPHILE_DATA", "PREFECT_PORT", "API_PORT")}
        self.environment |= environment_of_up(Settings(_env_file=None, **given))
        self.environment |= {"PREFECT_RUNNER_SERVER_ENABLE": "true", "PREFECT_RUNNER_SERVER_PORT": str(free_port())}
        self.environment["PREFECT_RUNNER_SERVER_MISSED_POLLS_TOLERANCE"] = "20"  # of 3 s
        self.project, self.data = phrases_only(folder / "project"), folder / "data"
        self.lake = Lake.open(self.data)
        self.prefect = httpx.Client(base_url=self.environment["PREFECT_API_URL"], timeout=60)
        self.api = httpx.Client(base_url=f"http://127.0.0.1:{self.environment['API_PORT']}", timeout=60)
        self.processes: dict[str, subprocess.Popen] = {}
        self.sent: list[str] = []

    def start(self, *names: str) -> None:
        for name in names:
            with (self.folder / f"{name}.log").open("ab") as log:
                self.processes[name] = subprocess.Popen(
                    [sys.executable, "-m", *MODULES[name]],
                    cwd=self.project,
                    env=self.environment,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )

    def strike(self, name: str, number: int = signal.SIGKILL, *, group: bool = False) -> None:
        """Send a signal to one process, or to all that it has started as well."""
        process = self.processes[name]
        (os.killpg if group else os.kill)(process.pid, number)
        if number == signal.SIGKILL:
            process.wait()

    def end(self) -> None:
        trees = [each for name in self.processes for each in self.tree(name)]
        for name in reversed(self.processes):
            with contextlib.suppress(ProcessLookupError):
                self.strike(name, signal.SIGTERM, group=True)
        _, alive = psutil.wait_procs(trees, timeout=40)
        for each in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()

    def tree(self, name: str) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            top = psutil.Process(self.processes[name].pid)
            return [top, *top.children(recursive=True)]
        return []

    def wait(self, what: str, probe: Callable[[], T], seconds: float = SETTLED_S) -> T:
        return wait_for(what, probe, seconds)

    def send(self, count: int) -> list[str]:
        """Upload recordings that nobody else has; return the ids that were acknowledged."""
        ids = []
        for _ in range(count):
            self.count += 1
            path = self.folder / "upload.wav"
            spliced(path, self.luck)
            with path.open("rb") as file:
                answer = self.api.post("/api/files/upload", files={"file": (f"{self.count}.wav", file, "audio/wav")})
            ids.append(answer.raise_for_status().json()["id"])
        self.sent += ids
        return ids

    def runs(self, flow: str, *states: str, since: datetime | None = None) -> list[dict[str, Any]]:
        """Return runs of a flow, of the states if any are given, that started later."""
        body: dict[str, Any] = {"flows": {"name": {"any_": [flow]}}, "sort": "EXPECTED_START_TIME_DESC"}
        if states:
            body["flow_runs"] = {"state": {"type": {"any_": list(states)}}}
        found = self.prefect.post("/flow_runs/filter", json=body).raise_for_status().json()
        return [run for run in found if since is None or (run["start_time"] and _time(run["start_time"]) > since)]

    def file(self, file_id: str) -> dict[str, Any]:
        return self.api.get(f"/api/files/{file_id}").raise_for_status().json()

    def is_well(self) -> bool:
        """Ask flows.serve for its health, as docker-compose.yml does."""
        return httpx.get(f"http://localhost:{self.environment['PREFECT_RUNNER_SERVER_PORT']}/health").is_success

    def notes(self) -> int:
        """How many shards are scored and not published."""
        return len(self.lake.store.names(FOLDER))

    def scoring(self, shards: int) -> dict[str, Any]:
        """Return the run of infer that is under way, once it has scored so many shards and a while more."""
        self.wait(f"run with {shards} shards", lambda: self.notes() >= shards)
        (run,) = self.runs("infer", "RUNNING")
        time.sleep(self.luck.uniform(0, 2))
        return run

    def run_process(self) -> psutil.Process:
        """Return the process of the run of infer: the one that has started what scores, which has a model loaded."""
        for each in self.tree("serve"):
            with contextlib.suppress(psutil.Error):
                if has_loaded(each, "onnxruntime"):
                    return each.parent()
        raise AssertionError("nothing scores")

    def kill_early(self, flow: str) -> None:
        """Kill the next run of a flow within two seconds of its begin; one that ends before is let go."""
        self.wait(f"a run of {flow} to kill", lambda: self._killed_early(flow))

    def _killed_early(self, flow: str) -> bool:
        for run in self.runs(flow, "RUNNING"):
            time.sleep(self.luck.uniform(0, 2))
            for each in self.tree("serve"):
                with contextlib.suppress(psutil.Error, OSError):
                    if UUID(run["id"]) in marks(Path(f"/proc/{each.pid}/fd")):
                        each.kill()
                        return True
        return False

    def resumed(self, since: datetime, seconds: float = SETTLED_S) -> float:
        """Return how long after `since` a run of infer that started later has ended well."""
        runs = self.wait("completed run", lambda: self.runs("infer", "COMPLETED", since=since), seconds)
        return round(min((_time(run["end_time"]) - since).total_seconds() for run in runs), 1)

    def unanswered(self) -> list[str]:
        """Return what was acknowledged and has no predictions, or is unknown."""
        answers = {one: self.api.get(f"/api/files/{one}") for one in self.sent}
        return [one for one, answer in answers.items() if not answer.is_success or not answer.json()["reference"]]

    def settle(self) -> list[str]:
        """Wait until all that was sent has predictions and no run is under way; return what has none."""
        with contextlib.suppress(AssertionError):
            self.wait("predictions of all", lambda: not self.unanswered())
            self.wait("end of the runs", lambda: not self.runs("infer", "RUNNING", "PENDING"), 240)
        return self.unanswered()

    def answers(self) -> list[dict[str, Any]]:
        """Return every answer that was computed and committed, however often, and how often."""
        sql = """
            SELECT file_id, model, model_version, count(*) AS times
            FROM coverage WHERE state = 'computed' GROUP BY ALL
        """
        with self.lake.index() as index:
            return index.query(sql)

    def entries(self, op: str = "") -> list[LogEntry]:
        return [entry for entry in read_entries(self.lake.store, after=0) if op in ("", entry.op)]

    def seconds_a_recording(self) -> float:
        """Return how long references have taken, starts and loading included."""
        made = self.entries("refresh")
        seconds = sum((entry.committed_at - entry.started_at).total_seconds() for entry in made)
        return seconds / sum(entry.counts["files"] for entry in made)

    def problems(self) -> list[str]:
        """Return what `make verify` finds."""
        return [str(problem) for problem in verify(self.lake).problems]


def phrases_only(folder: Path) -> Path:
    """Copy what the processes run to `folder`, with the phrase model alone in its group: another costs more to load."""
    for name in ("api", "features", "flows", "models", "storage", "prefect.yaml", "Procfile"):
        if (PROJECT / name).is_dir():
            shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(PROJECT / name, folder)
    group = folder / "models" / "group.toml"
    scenes = 'family = "callscene"\ntask = "scenes"\nenabled = '
    group.write_text(group.read_text().replace(f"{scenes}true", f"{scenes}false"))
    return folder


def spliced(path: Path, luck: random.Random) -> None:
    """Write half a minute of prompts, in an order that no other recording has."""
    asterisk.require()
    prompts = sorted(asterisk.SOUNDS.rglob("*.wav"))
    parts: list[np.ndarray] = []
    while sum(map(len, parts)) < RECORDING_S * 8000:
        parts.append(soundfile.read(luck.choice(prompts), dtype="int16")[0])
    soundfile.write(path, np.concatenate(parts)[: round(RECORDING_S * 8000)], 8000, subtype="PCM_16")


def now() -> datetime:
    return datetime.now(UTC)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


@contextlib.contextmanager
def playing(folder: Path, seed: int, **settings: str) -> Iterator[Orchestra]:
    """Start all three, and wait until runs are served."""
    folder.mkdir(parents=True)
    orchestra = Orchestra(folder, seed, **settings)
    try:
        orchestra.start("prefect")
        orchestra.wait("server", lambda: orchestra.prefect.get("/health").is_success)
        orchestra.start("api", "serve")
        orchestra.wait("API", lambda: orchestra.api.get("/api/files").is_success, 240)
        orchestra.wait("run", lambda: orchestra.runs("ingest", "COMPLETED"), 400)
        yield orchestra
    finally:
        orchestra.end()
