"""What every run needs: its folder, the keys of its commits, and an orderly end of its processes."""

import atexit
import os
import sys
import threading
import uuid
from multiprocessing import connection, parent_process
from pathlib import Path
from types import ModuleType
from typing import Final
from uuid import UUID

_NAMESPACE: Final = UUID("6f0e7a52-6c2b-5d43-9a0e-3f1f6a1c7b10")

_main: ModuleType | None = None  # the first one goes on while it is kept

LEASE_ATTEMPTS: Final = 1000  # ten seconds and more apart, so some hours

FIRST_BASELINE: Final = uuid.uuid5(_NAMESPACE, "baseline/first/1")
"""The key of the one commit that makes the first baseline, whichever run makes it."""


def enter_project() -> dict[str, str]:
    """Make the folder of the project the current one: the step of prefect.yaml before a worker runs a flow."""
    project = str(Path(__file__).parent.parent)
    os.chdir(project)
    forget_main()
    return {"directory": project}


def forget_main() -> None:
    """Have processes that this one starts not import what it was started by: seconds of Prefect, or flows.serve."""
    global _main
    _main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")


def commit_key(part: str) -> UUID:
    """Return the key of one commit of this run; another one when Prefect runs the run again, which plans anew."""
    from prefect.runtime import flow_run  # noqa: PLC0415  seconds of import, which a process that decodes does not need

    run_id = flow_run.get_id() or str(uuid.uuid4())
    return uuid.uuid5(_NAMESPACE, f"{run_id}/{flow_run.get_run_count()}/{part}")


def outlast_server() -> None:
    """Keep this run going while Prefect's server is away.

    A run renews the lease of its slot every 225 s, and is cancelled with all that it has done where three attempts
    fail, within seconds (prefect 3.8.8). There is no setting for it. That another run may get the slot meanwhile does
    no harm: commits are made for that.
    """
    from prefect.concurrency import _leases  # noqa: PLC0415

    _leases._RENEWAL_MAX_ATTEMPTS = LEASE_ATTEMPTS


def end_quietly() -> None:
    """Drop what C extensions print while the interpreter ends.

    DuckDB's binding reports a page of "leaked" functions to stderr whenever something, here Prefect's threads, still
    holds its module at that point (https://nanobind.readthedocs.io/en/latest/refleaks.html). Nothing is lost by it.
    """
    atexit.register(_drop_stderr)


def _drop_stderr() -> None:
    sys.stderr.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def end_with_parent() -> None:
    """End this process when the one that started it is gone: after a kill -9 nobody else would."""
    end_quietly()
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=[parent.sentinel], daemon=True).start()


def _end_after(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)
