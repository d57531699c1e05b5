"""GET /api/events: what happens, as server-sent events. It must not know where events come from."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field

from api.dependencies import Service, ServiceDep
from api.problems import StreamsProblem, problems
from storage.events import POSITION, Event, Position

MAX_STREAMS: Final = 200
"""At once, of one process; beyond them it answers 503."""

RETRY_MS: Final = 2_000  # after which clients come back
DESCRIPTORS: Final = 10  # of those that drifted, in one event

_EXAMPLE: Final = """retry: 2000
id: 41

event: file.accepted
data: {"id":"e5a26b3d-29e5-b0bc-8dbd-72c11d16a380","file":"beckett.wav",…}
id: 42-e5a26b3d29e5b0bc8dbd72c11d16a380

event: drift.started
data: {"window":"0f8fad5b-d9cb-569f-a165-70867728950e","descriptors":["bandwidth_hz","snr_db"],…}
id: 57-0

: ping

"""

router = APIRouter(prefix="/api/events", tags=["events"])


class FileAccepted(BaseModel):
    """Data of `file.accepted`: a recording was taken in, and predictions follow."""

    id: UUID = Field(description="Of the file.")
    file: str = Field(description="Its earliest name.", examples=["beckett.wav"])
    url: str = Field(description="Where its answer is.")
    at: datetime = Field(description="When the log said so.")


class FileRejected(FileAccepted):
    """Data of `file.rejected`: it cannot be used."""

    reason: str = Field(description="Why not.")


class FileErased(BaseModel):
    """Data of `file.erased`: nothing but its id is left."""

    id: UUID = Field(description="Of the file.")
    at: datetime = Field(description="When the log said so.")


class ReferencePublished(BaseModel):
    """Data of `reference.published`: files show it from now on. It may have been held, and released now."""

    reference: UUID = Field(description="Its id.")
    counts: dict[str, float] = Field(description="What its run counted.", examples=[{"files": 6}])
    url: str = Field(description="Where its answer is.")
    at: datetime = Field(description="When the log said so.")


class ReferenceHeld(ReferencePublished):
    """Data of `reference.held`: it waits for a decision, and files do not show it. It can be read by its id."""


class ReferenceRejected(ReferencePublished):
    """Data of `reference.rejected`: it was held, and files will never show it."""


class DriftEnded(BaseModel):
    """Data of `drift.ended`: a window says no drift, and the last one that said anything said drift."""

    window: UUID = Field(description="Its id, as in `/api/drift`.")
    reference: UUID = Field(description="The newest one that it has recordings of.")
    url: str = Field(description="The windows of that reference, this one among them.")
    at: datetime = Field(description="When the log said so.")


class DriftStarted(DriftEnded):
    """Data of `drift.started`: a window says drift, and the last one that said anything did not."""

    descriptors: list[str] = Field(
        description="What drifted, what moved most first; the first ten.", examples=[["bandwidth_hz", "snr_db"]]
    )


Told = (
    FileAccepted
    | FileRejected
    | FileErased
    | ReferencePublished
    | ReferenceHeld
    | ReferenceRejected
    | DriftStarted
    | DriftEnded
)

_OF_REFERENCES: Final[dict[str, type[ReferencePublished]]] = {
    "reference.published": ReferencePublished,
    "reference.held": ReferenceHeld,
    "reference.rejected": ReferenceRejected,
}

_LastSeen = rf"^({POSITION})?$"
_WHERE: Final = "go on behind it, even if it was long ago. Default: from now on."
LastEventId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        pattern=_LastSeen,
        description=f"The `id` of the last event that was seen: {_WHERE}",
        examples=["42-e5a26b3d29e5b0bc8dbd72c11d16a380"],
    ),
]
LastEventIdInQuery = Annotated[
    str | None,
    Query(
        alias="last_event_id",
        pattern=_LastSeen,
        description="The same, for clients that cannot set headers; the header counts first.",
    ),
]


async def _stream(service: ServiceDep) -> AsyncIterator[None]:
    """Count a stream for as long as it is open."""
    if service.news.streams >= MAX_STREAMS:
        raise StreamsProblem(f"{MAX_STREAMS} streams of events are open, the limit: close one, or try again later")
    service.news.streams += 1
    try:
        yield
    finally:
        service.news.streams -= 1


def _start(service: ServiceDep, header: LastEventId = None, query: LastEventIdInQuery = None) -> Position:
    """Return where a stream begins; a position that the log does not have is of another lake, and means now."""
    now = Position(service.index.catch_up())
    text = header or query
    return min(now, Position.parse(text)) if text else now


@router.get("/", include_in_schema=False, response_class=EventSourceResponse)
@router.get(
    "",
    response_class=EventSourceResponse,
    responses=problems(StreamsProblem)
    | {200: {"description": "A stream without end.", "content": {"text/event-stream": {"example": _EXAMPLE}}}},
)
async def get_events(
    service: ServiceDep,
    start: Annotated[Position, Depends(_start)],
    _: Annotated[None, Depends(_stream)],
) -> AsyncIterator[Told]:
    """What happens, as it happens.

    `file.accepted`, `file.rejected`, `file.erased`; `reference.published`, and of those that are held `reference.held`
    and `reference.rejected`; `drift.started` and `drift.ended`.

    Each event has an `id`, its place in the log: whoever comes back with it (`Last-Event-ID`, as browsers do) misses
    nothing and gets nothing twice, from any process. What was replaced or erased meanwhile is not told.
    """
    async for event in _events(service, start):
        yield event


async def _events(service: Service, position: Position) -> AsyncIterator[Any]:
    yield ServerSentEvent(id=str(position), retry=RETRY_MS)
    news = service.news
    while not news.has_ended:
        more = news.next()
        batch = await news.look(service.index, position)
        for event in batch.events:
            told = _told(event, service.settings.public_url)
            yield ServerSentEvent(data=told, event=event.kind, id=str(event.position))
        position = batch.position
        if batch.is_last and not news.has_ended:
            await more.wait()


def _told(event: Event, base_url: str) -> Told:
    at = event.at.astimezone(UTC)
    if event.window is not None:
        url = f"{base_url}/api/drift/{event.reference}"
        drift = {"window": event.window, "reference": event.reference, "url": url, "at": at}
        if event.kind == "drift.ended":
            return DriftEnded(**drift)
        return DriftStarted(**drift, descriptors=list(event.descriptors[:DESCRIPTORS]))
    if event.reference is not None:
        url = f"{base_url}/api/references/{event.reference}"
        told = _OF_REFERENCES[event.kind]
        return told(reference=event.reference, counts=dict(event.counts), url=url, at=at)
    if event.file_id is None:
        raise ValueError(f"event {event.position} is neither of a file, nor of a reference, nor of drift")
    if event.kind == "file.erased":
        return FileErased(id=event.file_id, at=at)
    facts = {"id": event.file_id, "file": event.name, "url": f"{base_url}/api/files/{event.file_id}", "at": at}
    if event.kind == "file.rejected":
        return FileRejected(**facts, reason=event.reason or "")
    return FileAccepted(**facts)
