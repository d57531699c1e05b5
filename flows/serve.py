"""Serves the deployments: registers them with Prefect's server and runs what is due. `python -m flows.serve`."""

import asyncio
import math
import os
import signal
import sys
import time
from typing import Any, Final, NoReturn

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import TerminationSignal
from prefect.logging import get_logger
from prefect.runner import Runner

from flows.deployments import read_deployments, runner_deployment
from flows.errors import FlowError, StartError
from flows.leftovers import crash_leftovers, runs_here
from flows.notify import ensure_automation
from flows.reconciler import TAG, Reconciler, ensure_zombie_automation
from flows.runs import end_quietly
from flows.up import SERVICES, require_notify_url, require_ray, require_store, require_watched
from flows.warm import end_warm, start_warm
from storage.availability import try_all_again
from storage.errors import StorageError
from storage.lake import open_store
from storage.settings import Settings, get_settings

SERVER_WAIT_S: Final = 180.0
ANEW: Final = "anew"
"""The argument of a process that has replaced another: what was there when that began may be away for a while."""
STEADY_S: Final = 60.0
"""What fails later was right before, so the server was away, even if it is back when that is told."""


def main() -> None:
    """Serve until a signal ends it."""
    try:
        end_quietly()
        settings = get_settings()
        if "PREFECT_API_URL" not in os.environ:
            raise StartError("PREFECT_API_URL is not set: use `make up`, or name the Prefect server to serve for")
        is_anew = ANEW in sys.argv[1:]
        start_warm()  # before anything is used that must not be in a fork
        if not is_anew:
            require_watched(settings)
            require_notify_url(settings)
            require_ray(settings.runner)
            require_store(settings.place)
            try_all_again(open_store(settings.place))
        wait_for_server(settings.prefect_url, math.inf if is_anew else SERVER_WAIT_S)
        Reconciler(here=runs_here).start()
        if serve_while_there(settings):
            start_anew()
    except (FlowError, StorageError) as error:
        sys.exit(f"audiophile: {error}")
    except (KeyboardInterrupt, TerminationSignal):
        get_logger(TAG).info("ended by a signal")


def serve_while_there(settings: Settings) -> bool:
    """Serve until a signal comes, or Prefect's server has been away for some minutes; say whether that is so.

    Prefect's runner ends then (3.8.8), and the runs in hand are told to publish what they have.
    """
    began = time.monotonic()
    try:
        crash_leftovers()
        ensure_automation(settings)
        ensure_zombie_automation()
        runner = EndingRunner(name=TAG, pause_on_shutdown=False)
        for deployment in read_deployments():
            runner.add_deployment(runner_deployment(deployment))
        ingest_now()
        print(welcome(settings), flush=True)  # noqa: T201  what a user reads, not a log line
        asyncio.run(runner.serve())
    except (FlowError, StorageError):
        raise
    except Exception as error:
        if time.monotonic() - began < STEADY_S and is_up(settings.prefect_url):
            raise
        get_logger(TAG).warning("Prefect's server is away, and waited for: %s: %s", type(error).__name__, error)
        return True
    return False


def start_anew() -> NoReturn:
    """Replace this process by a new one of its kind, which waits for Prefect's server.

    What Prefect's runner has started besides goes on with its process (3.8.8): its server for health checks keeps the
    port from the next one's, and says for ever that it is not well.
    """
    end_warm()
    sys.stdout.flush()
    os.execv(sys.executable, [*SERVICES["flows"], ANEW])  # noqa: S606


class EndingRunner(Runner):
    """A runner that ends the runs in hand when SIGTERM comes: each is told, and has half a minute to hand over.

    The handler of Prefect's own (3.8.8) makes a coroutine for that which nobody awaits.
    """

    _told: asyncio.Event

    async def serve(self) -> None:
        """Run what is due until a signal comes."""
        self._told = asyncio.Event()
        self._serving_loop = asyncio.get_running_loop()
        running, told = asyncio.create_task(self.start()), asyncio.create_task(self._told.wait())
        try:
            await asyncio.wait({running, told}, return_when=asyncio.FIRST_COMPLETED)
            if self._told.is_set():
                await self.astop()
            told.cancel()
            await running
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # what `start` has set would need the loop that ends here

    def handle_sigterm(self, *_: Any, **__: Any) -> None:
        """Have `serve` end."""
        self._serving_loop.call_soon_threadsafe(self._told.set)


def wait_for_server(prefect_url: str, wait_s: float = SERVER_WAIT_S) -> None:
    """Return once Prefect's server answers.

    Raises:
        StartError: It does not, within `wait_s`.
    """
    give_up_at = time.monotonic() + wait_s
    while time.monotonic() < give_up_at:
        if is_up(prefect_url):
            return
        time.sleep(0.5)
    raise StartError(f"Prefect's server at {prefect_url} did not answer within {wait_s:g} s; see its lines above")


def is_up(prefect_url: str) -> bool:
    """Say whether Prefect's server answers."""
    try:
        return httpx.get(f"{prefect_url}/health", timeout=5).is_success
    except httpx.HTTPError:
        return False


def ingest_now() -> None:
    """Start an ingest run for what arrived while the service was away, and for the demo."""
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name("ingest/ingest")
        client.create_flow_run_from_deployment(deployment.id, tags=[TAG, "start"])


def welcome(settings: Settings) -> str:
    """Return what a user reads once everything runs."""
    drop = f"    Drop recordings into         {settings.watched_folder}\n" if settings.is_watched else ""
    return f"""

  Audiophile is up. Scheduled runs start within a minute, and then every two minutes.

    Recordings and predictions   {settings.public_url}/api/files
    API by example               {settings.public_url}/docs
    Runs, schedules, artifacts   http://localhost:{settings.prefect_port}/v2/runs
{drop}    Upload a recording           curl -F file=@recording.wav {settings.public_url}/api/files/upload

  Ctrl-C ends everything; `make up` goes on where it was.
"""


if __name__ == "__main__":
    main()
