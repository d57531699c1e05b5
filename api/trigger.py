"""Asks Prefect for an ingest run after an upload. If Prefect is away, the next scheduled run takes the upload."""

import logging
import threading

import httpx

log = logging.getLogger(__name__)

PAUSE_S = 1.0  # uploads that come within it share one run
TIMEOUT_S = 5.0
NOT_STARTED = ["SCHEDULED", "PENDING"]


class IngestTrigger:
    """A thread that turns uploads into runs, at most one a moment, however many uploads come in a burst."""

    def __init__(self, prefect_url: str) -> None:
        self._url = prefect_url.rstrip("/")
        self._wanted, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="ingest-trigger", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()
        self._wanted.set()
        self._thread.join(timeout=2 * TIMEOUT_S)

    def pull(self) -> None:
        """Ask for a run that starts after now; returns at once."""
        self._wanted.set()

    def _run(self) -> None:
        with httpx.Client(timeout=TIMEOUT_S) as client:
            while True:
                self._wanted.wait()
                if self._ended.wait(PAUSE_S):
                    return
                self._wanted.clear()
                try:
                    self._ask(client)
                except (httpx.HTTPError, KeyError, TypeError, ValueError) as error:
                    log.warning(
                        "Prefect at %s did not start ingest (%s): the next scheduled run will", self._url, error
                    )

    def _ask(self, client: httpx.Client) -> None:
        deployment = client.get(f"{self._url}/deployments/name/ingest/ingest").raise_for_status().json()["id"]
        waiting = client.post(
            f"{self._url}/flow_runs/count",
            json={
                "deployments": {"id": {"any_": [deployment]}},
                "flow_runs": {"tags": {"all_": ["upload"]}, "state": {"type": {"any_": NOT_STARTED}}},
            },
        )
        if waiting.raise_for_status().json():
            return  # a run that has not started will see the upload
        run = client.post(f"{self._url}/deployments/{deployment}/create_flow_run", json={"tags": ["upload"]})
        run.raise_for_status()
