"""Asks Prefect for a run after an upload or an erasure. If Prefect is away or busy, it is asked again.

On SQLite it answers 503 whenever two requests write at once. What this process does not live to ask for, a scheduled
run sees.
"""

import logging
import threading
import uuid
from dataclasses import dataclass
from typing import Any, Final

import httpx

log = logging.getLogger(__name__)

PAUSE_S = 1.0  # what comes within it shares one run
LONGEST_PAUSE_S = 60.0  # before Prefect is asked again; each is twice the one before, unless somebody asks meanwhile
TIMEOUT_S = 5.0
NOT_STARTED = ["SCHEDULED", "PENDING"]


@dataclass(frozen=True, slots=True)
class Run:
    """A run that can be asked for.

    Attributes:
        deployment: Name of the flow and of its deployment.
        tag: What runs that were asked for here are known by.
        stages: What it is to do, where its flow has stages.
    """

    deployment: str
    tag: str
    stages: tuple[str, ...] = ()

    @property
    def request(self) -> dict[str, Any]:
        """What Prefect is asked with."""
        return {"tags": [self.tag]} | ({"parameters": {"stages": list(self.stages)}} if self.stages else {})


INGEST: Final = Run("ingest", "upload")
ERASE: Final = Run("maintain", "erase", ("erase",))


class Trigger:
    """A thread that turns requests into runs, at most one of a kind a moment, however many come in a burst."""

    def __init__(self, prefect_url: str, auth: str = "") -> None:
        self._url = prefect_url.rstrip("/")
        user, _, password = auth.partition(":")
        self._auth = (user, password) if auth else None
        self._asked: dict[Run, str] = {}  # with keys: Prefect makes one run of what is sent twice with the same
        self._lock = threading.Lock()
        self._wanted, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="trigger", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()
        self._wanted.set()
        self._thread.join(timeout=2 * TIMEOUT_S)

    def pull(self, run: Run = INGEST) -> None:
        """Ask for a run that starts after now; returns at once."""
        with self._lock:
            self._asked[run] = str(uuid.uuid4())
        self._wanted.set()

    def _run(self) -> None:
        refused: dict[Run, str] = {}
        pause_s = PAUSE_S
        with httpx.Client(timeout=TIMEOUT_S, auth=self._auth) as client:
            while not self._ended.is_set():
                self._wanted.wait(pause_s if refused else None)
                if self._ended.wait(PAUSE_S):
                    return
                self._wanted.clear()
                with self._lock:
                    new, self._asked = self._asked, {}
                refused = {
                    run: key
                    for run, key in (refused | new).items()
                    if not self._is_asked_for(client, run, key, again=run not in new)
                }
                pause_s = PAUSE_S if new else min(2 * pause_s, LONGEST_PAUSE_S)

    def _is_asked_for(self, client: httpx.Client, run: Run, key: str, *, again: bool) -> bool:
        try:
            self._ask(client, run, key)
        except (httpx.HTTPError, KeyError, TypeError, ValueError) as error:
            log.log(
                logging.DEBUG if again else logging.WARNING,
                "Prefect at %s did not start %s (%s): it is asked again, or the next scheduled run will",
                self._url,
                run.deployment,
                (str(error).splitlines() or [type(error).__name__])[0],
            )
            return False
        return True

    def _ask(self, client: httpx.Client, run: Run, key: str) -> None:
        name = f"{run.deployment}/{run.deployment}"
        deployment = client.get(f"{self._url}/deployments/name/{name}").raise_for_status().json()["id"]
        waiting = client.post(
            f"{self._url}/flow_runs/count",
            json={
                "deployments": {"id": {"any_": [deployment]}},
                "flow_runs": {"tags": {"all_": [run.tag]}, "state": {"type": {"any_": NOT_STARTED}}},
            },
        )
        if waiting.raise_for_status().json():
            return  # a run that has not started will see what has changed
        request = run.request | {"idempotency_key": key}
        client.post(f"{self._url}/deployments/{deployment}/create_flow_run", json=request).raise_for_status()
