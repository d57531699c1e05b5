"""Clears what an earlier service on this host left under way, so that its end holds up nothing after a start."""

import contextlib
import os
from pathlib import Path
from typing import Final
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.states import Crashed

from flows.reconciler import our_runs

PROCESSES: Final = Path("/proc")
_ENGINE: Final = b"prefect.engine"  # the process of a run: `python -m prefect.engine`
_RUN_ID: Final = b"PREFECT__FLOW_RUN_ID="
_MARK: Final = "prefect-run-"


def crash_leftovers() -> None:
    """Mark as crashed the runs that an earlier service left under way: they hold the slots of new ones.

    A run whose process outlived a kill -9 of the service goes on, and is left alone, so that nothing is done twice. So
    are runs of workers, which are on any host: if they are gone, their heartbeats stop.
    """
    with get_client(sync_client=True) as client:
        leftovers = our_runs(client, [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING])
        alive = runs_here() if leftovers else frozenset()
        for run in leftovers:
            if run.id not in alive and run.work_pool_name is None:
                client.set_flow_run_state(run.id, Crashed(message="Its process ended with the service"), force=True)


def mark_run(run_id: str) -> None:
    """Have `runs_here` find this process, which was forked and so shows the variables of another: to its end.

    The mark is an empty file in memory, which ends with the process, however that ends, and which no program that it
    starts inherits.
    """
    os.memfd_create(f"{_MARK}{run_id}")


def runs_here(processes: Path = PROCESSES) -> frozenset[UUID]:
    """Return the runs whose processes are alive on this host and can be seen; none where the system has no /proc."""
    found = set()
    for folder in processes.glob("[0-9]*"):
        try:
            found |= marks(folder / "fd")
            if _ENGINE not in (folder / "cmdline").read_bytes().split(b"\0"):
                continue
            variables = (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # it has ended meanwhile, or is somebody else's
            continue
        found |= {UUID(each.removeprefix(_RUN_ID).decode()) for each in variables if each.startswith(_RUN_ID)}
    return frozenset(found)


def marks(opened: Path) -> set[UUID]:
    """Return the run that a process has marked itself as, from the folder of what it has opened."""
    found = set()
    for each in opened.glob("*"):
        with contextlib.suppress(FileNotFoundError):  # it was closed meanwhile
            name = str(each.readlink()).removeprefix("/memfd:")
            if name.startswith(_MARK):
                found.add(UUID(name.split()[0].removeprefix(_MARK)))
    return found
