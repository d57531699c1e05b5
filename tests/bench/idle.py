"""Measures what the whole service costs while there is nothing to do, and how soon the first work is scored.

CPU seconds depend on what else the machine does: those of `python -c "import prefect"`, measured before and after, say
how fast it was meanwhile.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import psutil

from flows.watch import demo
from models.group import load_group
from storage.settings import Settings
from tests.bench.measures import Figures, p50, say, timed
from tests.bench.settled import make_settled
from tests.loaded import has_loaded
from tests.system.service import Service, ask_for_run, running

SETTLE_S: Final = 330
"""Runs that were scheduled less than five minutes before they are due cost Prefect's server more than all others."""

RARE: Final = ("drift", "maintain")
"""First due ten minutes after a start, and hourly and daily then: waited for, or ten minutes would have both."""

MEASURED_S: Final = 600
CYCLE_S: Final = 120
SAMPLE_EVERY_S: Final = 5
NAMES: Final = {"prefect server": "prefect", "flows.serve": "flows", "-m api": "api", "honcho": "honcho"}


@dataclass
class Cost:
    """What the processes of a service have cost."""

    cpu_s: dict[str, float] = field(default_factory=dict)  # of each kind; "runs": of all that have ended

    def since(self, before: "Cost") -> dict[str, float]:
        return {name: round(value - before.cpu_s.get(name, 0), 2) for name, value in self.cpu_s.items()}


def measure(root: Path) -> Figures:
    """Make a lake of which everything is known, and let the service watch it."""
    folder = root / "settled"
    group = load_group(Settings(_env_file=None).searched_phrases)
    with timed("making the settled lake"):
        make_settled(folder / "data", folder / "data" / "incoming", group)
    with running(folder, API_HOST="127.0.0.1") as service:
        with timed("settling"):
            service.wait("a run of infer", SETTLE_S, lambda: service.runs("infer", "COMPLETED"))
            time.sleep(SETTLE_S)
            for flow in RARE:
                service.wait(f"the first run of {flow}", 900, lambda flow=flow: service.runs(flow, "COMPLETED"))  # type: ignore[misc]
        return idle(service) | first_batch(service)


def idle(service: Service) -> Figures:
    """Watch it for MEASURED_S."""
    reference = [import_prefect_s()]
    before, began, samples = cost_of(service), time.monotonic(), []
    torch = False
    while time.monotonic() - began < MEASURED_S:
        time.sleep(SAMPLE_EVERY_S)
        samples.append(memory_of(service))
        torch = torch or any(has_loaded(process, "libtorch") for process in service.processes())
    wall_s = time.monotonic() - began
    cost = cost_of(service).since(before)
    reference.append(import_prefect_s())
    ended = {flow: runs_ended(service, flow, wall_s) for flow in ("ingest", "infer")}
    say(f"{cost}, runs: {ended}")
    mean = {kind: round(sum(one.get(kind, 0) for one in samples) / len(samples)) for kind in samples[0]}
    return {
        "idle_cycle_cpu_s": round(cost["runs"] * CYCLE_S / wall_s, 2),
        "idle_core_share": round(sum(cost.values()) / wall_s, 4),
        "idle_cpu_s": cost,
        "idle_wall_s": round(wall_s),
        "idle_runs": ended,
        "idle_pss_mib": max(round(sum(one.values())) for one in samples),
        "idle_pss_mean_mib": round(sum(sum(one.values()) for one in samples) / len(samples)),
        "idle_pss_each_mib": mean,
        "idle_torch": torch,
        "idle_import_prefect_cpu_s": p50(reference),
    }


def first_batch(service: Service) -> Figures:
    """Upload a recording, ask for infer once it is accepted, and say when it was scored."""
    before, uploaded = max_rss_of_runs(service), time.monotonic()
    recording = demo()[0]
    with recording.open() as content:
        answer = service.api.post("/api/files/upload", files={"file": (recording.name, content)})
    file_id = answer.raise_for_status().json()["id"]
    service.wait("the recording", 100, lambda: service.file(file_id)["status"] == "accepted", every_s=0.1)
    accepted_s = time.monotonic() - uploaded
    asked_at, asked = datetime.now(UTC), ask_for_run(service.prefect, "infer")
    most = 0.0

    def scored() -> tuple[str, datetime] | None:
        nonlocal most
        most = max(most, max_rss_of_runs(service))
        said = {run: said_at(service, run, "scored: ") for run in (asked, *runs_since(service, "infer", asked_at))}
        return next(((run, time) for run, time in said.items() if time), None)  # a tick may have been faster

    run, scored_at = service.wait("a scored batch", 200, scored)
    planned_at = said_at(service, run, "planned: ")
    assert planned_at is not None
    say(f"memory of the largest process of a run: {before:.0f} MiB before, {most:.0f} MiB while it scores")
    return {
        "upload_accepted_s": round(accepted_s, 1),
        "first_batch_s": round((scored_at - asked_at).total_seconds(), 1),
        "first_batch_planned_s": round((planned_at - asked_at).total_seconds(), 1),
        "scorer_pss_mib": round(most),
    }


def cost_of(service: Service) -> Cost:
    found: dict[str, float] = defaultdict(float)
    for process in service.processes():
        with contextlib.suppress(psutil.Error):
            times, kind = process.cpu_times(), kind_of(process)
            if kind == "warm":
                found["runs"] += times.children_user + times.children_system
            if kind != "run":
                found[kind] += times.user + times.system
    return Cost(dict(found))


def memory_of(service: Service) -> dict[str, float]:
    """Return the proportional set size of each kind of process: memory that several share counts once, MiB."""
    found: dict[str, float] = dict.fromkeys(["run", "warm", *NAMES.values()], 0)
    for process in service.processes():
        with contextlib.suppress(psutil.Error, OSError):
            found[kind_of(process)] += pss_mib(process)
    return found


def max_rss_of_runs(service: Service) -> float:
    """Return the size of the largest process of a run, or below one."""
    most = 0.0
    for process in service.processes():
        with contextlib.suppress(psutil.Error, OSError):
            most = max(most, pss_mib(process) if kind_of(process) == "run" else 0)
    return most


def kind_of(process: psutil.Process) -> str:
    """Say what a process is: one of NAMES, the warm process, or a run, with what that has started."""
    line, name = " ".join(process.cmdline()), process.name()
    if name.startswith("audiophile-"):
        return name.removeprefix("audiophile-")
    return next((kind for part, kind in NAMES.items() if part in line), "run")


def pss_mib(process: psutil.Process) -> float:
    lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def import_prefect_s() -> float:
    """Return the CPU seconds of a piece of work that is always the same."""
    found = []
    for _ in range(3):
        before = os.times()
        subprocess.run([sys.executable, "-c", "import prefect"], check=True)
        after = os.times()
        found.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return p50(found)


def runs_ended(service: Service, flow: str, within_s: float) -> int:
    since = datetime.now(UTC).timestamp() - within_s
    ended = service.runs(flow, "COMPLETED")
    return sum(datetime.fromisoformat(run["end_time"]).timestamp() > since for run in ended)


def runs_since(service: Service, flow: str, since: datetime) -> list[str]:
    """Return the runs of a flow that have begun later."""
    runs = service.runs(flow, "RUNNING", "COMPLETED")
    return [str(run["id"]) for run in runs if datetime.fromisoformat(run["start_time"]) > since]


def said_at(service: Service, run: str, start: str) -> datetime | None:
    """Return when a run wrote a line with this start."""
    for line in service.lines(run):
        if line["message"].startswith(start):
            return datetime.fromisoformat(line["timestamp"])
    return None
