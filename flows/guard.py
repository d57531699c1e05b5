"""Looks after the runs of workers, as flows.serve does for its own: `python -m flows.up guard`, once for each server.

It must not run any flow, nor register what workers run: `prefect deploy --all` does that.
"""

import os
import signal
import sys
import threading

from flows.errors import FlowError, StartError
from flows.notify import ensure_automation
from flows.reconciler import Limits, Reconciler, ensure_zombie_automation
from flows.serve import wait_for_server
from flows.up import require_notify_url
from storage.errors import StorageError
from storage.settings import get_settings


def main() -> None:
    """Make the automations, and clear runs that stand in the way until a signal ends it."""
    ended = threading.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda *_: ended.set())
    try:
        settings = get_settings()
        if "PREFECT_API_URL" not in os.environ:
            raise StartError("PREFECT_API_URL is not set: name the Prefect server whose runs are to be looked after")
        require_notify_url(settings)
        wait_for_server(settings.prefect_url)
        ensure_automation(settings)
        ensure_zombie_automation()
    except (FlowError, StorageError) as error:
        sys.exit(f"audiophile: {error}")
    reconciler = Reconciler(Limits(stuck=Limits().starting))  # whether a process has begun, only its own host can see
    reconciler.start()
    print(f"audiophile: looking after the runs of {settings.prefect_url}", flush=True)  # noqa: T201
    ended.wait()
    reconciler.stop()


if __name__ == "__main__":
    main()
