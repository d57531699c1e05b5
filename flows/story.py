"""What a run shows of itself in Prefect's UI beside its table: a name, links to the API, and events.

It must not know what the run is about. Nothing here fails a run: what is told of work is not the work. Events are for
automations, and told once at most; what must miss none reads GET /api/events.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any, Final, TypeVar
from uuid import UUID

from httpx import HTTPError, TimeoutException
from prefect import get_run_logger
from prefect.artifacts import create_link_artifact
from prefect.client.orchestration import get_client
from prefect.context import SettingsContext, SyncClientContext, get_settings_context
from prefect.events import emit_event
from prefect.events.worker import EventsWorker
from prefect.exceptions import PrefectException
from prefect.runtime import flow_run

from storage.log import LogEntry

T = TypeVar("T")

LONGEST_NAME: Final = 150
REQUEST_S: Final = 10.0
SILENT_S: Final = 120.0
"""For so long a server that has not answered in time is let alone: work would wait for it again and again."""
ASKED_AFTER_S: Final = 30.0
"""And for so long it is not asked whether others are at a run's work."""
MOST_EVENTS: Final = 20
"""Rejected files of one run that are told one by one; the others are a number."""

PUBLISHED: Final = "audiophile.reference.published"
HELD: Final = "audiophile.reference.held"
REJECTED: Final = "audiophile.file.rejected"
MORE_REJECTED: Final = "audiophile.files.rejected"


@dataclass(frozen=True, slots=True)
class Rejected:
    """A file that was just rejected."""

    file_id: UUID
    name: str
    reason: str


class Stopwatch:
    """Tells how long each stage took."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    def lap(self) -> float:
        """Return the seconds since this was last asked."""
        before, self._since = self._since, time.monotonic()
        return self._since - before


def run_name() -> str:
    """Return the name of a run before it is known what it will do: that of its flow, and when it was due."""
    return f"{flow_run.get_flow_name()} of {flow_run.get_scheduled_start_time().astimezone(UTC):%H:%M:%S}"


def name_run(name: str) -> None:
    """Name the run under way."""
    run_id = flow_run.get_id()

    def rename() -> None:
        with get_client(sync_client=True) as client:
            client.update_flow_run(UUID(str(run_id)), name=name[:LONGEST_NAME])

    if run_id is not None:
        at_best(rename)


def is_given_up() -> bool:
    """Say whether Prefect's server takes the run under way for ended, as after a sleep: others may be at its work."""
    run_id = flow_run.get_id()

    def has_ended() -> bool:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(UUID(str(run_id))).state
            return state is not None and state.is_final()

    return run_id is not None and at_best(has_ended, silent_s=ASKED_AFTER_S) is True


def link(key: str, url: str, text: str, description: str) -> None:
    """Show a link among the run's artifacts."""
    at_best(lambda: create_link_artifact(url, link_text=text, key=key, description=description))


def tell_reference(reference: UUID, entry: LogEntry | None, public_url: str) -> None:
    """Tell, with events and links, of a reference that is published, or held.

    Args:
        reference: Its id.
        entry: The refresh that made it; None: it was held, and is released now.
        public_url: Start of the links, without a slash at its end.
    """
    url = f"{public_url}/api/references/{reference}"
    is_held = entry is not None and entry.held
    what = "Held reference" if is_held else "Reference"
    link("reference", url, f"{what} {reference}", "What it was made with, and its counts")
    link("predictions", f"{url}/predictions", f"Predictions of {reference}", "All that it found")
    payload = {"reference": str(reference), "files": int(entry.counts.get("files", 0)) if entry else None, "link": url}
    payload["one_off"] = bool(entry and entry.group)
    _emit(HELD if is_held else PUBLISHED, f"audiophile.reference.{reference}", f"{what} {reference}", payload)
    _leave()


@dataclass(slots=True)
class Rejections:
    """Tells of rejected files: of the first ones each, of the others how many."""

    public_url: str
    counted: int = field(default=0, init=False)

    def tell(self, rejected: list[Rejected]) -> None:
        """Tell of files that were rejected just now."""
        logger = get_run_logger()
        told = rejected[: max(0, MOST_EVENTS - self.counted)]
        for one in told:
            logger.warning("rejected: %s: %s", one.name, one.reason)
            url = f"{self.public_url}/api/files/{one.file_id}"
            payload = {"file": str(one.file_id), "name": one.name, "reason": one.reason, "link": url}
            _emit(REJECTED, f"audiophile.file.{one.file_id}", one.name, payload)
        self.counted += len(rejected)
        if told:
            _leave()

    def end(self) -> None:
        """Tell of those that were too many, and where all of them are."""
        if not self.counted:
            return
        url = f"{self.public_url}/api/files?status=rejected"
        link("rejected-files", url, "Rejected files", f"{self.counted} files were rejected in this run")
        if (more := self.counted - MOST_EVENTS) > 0:
            get_run_logger().warning("rejected: %d more files, see %s", more, url)
            _emit(MORE_REJECTED, "audiophile.files", "Rejected files", {"count": more, "link": url})
            _leave()


def _emit(event: str, resource: str, name: str, payload: Mapping[str, Any]) -> None:
    named = {"prefect.resource.id": resource, "prefect.resource.name": name}
    # Whatever the server does: a thread sends it, and work does not wait.
    at_best(lambda: emit_event(event, resource=named, payload=dict(payload)), silent_s=0)


def _leave() -> None:
    """Return once the events have left this process, which may end right after: see flows/notify.py."""
    worker = EventsWorker.instance()
    log = logging.getLogger(type(worker).__name__)
    level = log.level
    log.setLevel(logging.ERROR)  # it warns whenever something is left to send, which is why it is called
    try:
        at_best(worker.drain)
    finally:
        log.setLevel(level)


@dataclass(slots=True)
class _Silence:
    """When a server has not answered in time, by time.monotonic."""

    since: float = -math.inf


_silence = _Silence()


def at_best(telling: Callable[[], T], silent_s: float = SILENT_S) -> T | None:
    """Tell Prefect's server something: one that cannot be told is a line in the log, and work goes on.

    Prefect's client would try for a minute to reach a server that was there before (3.8.8), and for minutes where
    nothing comes back, and work would wait for it. For `silent_s` after that happened nothing is told.
    """
    if time.monotonic() < _silence.since + silent_s:
        return None
    try:
        with _impatient():
            return telling()
    except (HTTPError, PrefectException, OSError) as error:
        get_run_logger().warning("Prefect's server could not be told: %s", str(error) or type(error).__name__)
        if isinstance(error, TimeoutException):
            _silence.since = time.monotonic()
    return None


@contextmanager
def _impatient() -> Iterator[None]:
    """Have Prefect's client of this run give up soon; `temporary_settings` would validate all settings, for 0.1 s."""
    before, run = get_settings_context(), SyncClientContext.get()
    client = before.settings.client.model_copy(update={"max_retries": 1})
    settings = before.settings.model_copy(update={"client": client})
    with ExitStack() as stack:
        stack.enter_context(SettingsContext(profile=before.profile, settings=settings))
        if run is not None:
            asking = run.client._client  # which has its limits from when the run began
            stack.callback(setattr, asking, "timeout", asking.timeout)
            asking.timeout = REQUEST_S
        yield
