"""GET /api/search: utterances by the words of their texts."""

from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from api import etags
from api.answers import Hit, encoded
from api.dependencies import Service, ServiceDep
from api.file_pages import require_model
from api.file_queries import MAX_LIMIT
from api.paging import next_link
from api.problems import NotFoundProblem, problems
from api.routing import reads
from storage import searching
from storage.history import as_it_is_now
from storage.searching import Found, Place, phrases_of, search

_PLACE: Final = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(\.[0-9]{1,9})?$"


Words = Annotated[
    str,
    Query(
        min_length=1,
        max_length=200,
        description='Words that the text has, whole and whatever their case. "Words in quotes" follow each other.',
        examples=['"ever failed" matter'],
    ),
]
OfModel = Annotated[str | None, Query(min_length=1, max_length=200, description="Only texts that this model read.")]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="How many at most, from 1 to 1000.")]
After = Annotated[
    str | None,
    Query(
        pattern=_PLACE,
        description="Where the page before ended, as its header `Link` says.",
        examples=["e5a26b3d-29e5-b0bc-8dbd-72c11d16a380.1"],
    ),
]

router = APIRouter(prefix="/api/search", tags=["search"])
_EXAMPLE: Final[dict[str, Any]] = {
    "id": "e5a26b3d-29e5-b0bc-8dbd-72c11d16a380",
    "file": "beckett.wav",
    "url": "http://localhost:8000/api/files/e5a26b3d-29e5-b0bc-8dbd-72c11d16a380",
    "channel": 0,
    "time": 0.152,
    "end": 5.8,
    "text": "Ever tried, ever failed, no matter, try again.",
    "model": "moonshine-tiny-en",
    "model_version": "660891db9878",
    "reference": "30fcad1d-e0db-56eb-bddf-1151ff4512e4",
}


@reads(
    router,
    "",
    paged=True,
    response_model=list[Hit],
    summary="Utterances by their words",
    responses=problems(NotFoundProblem) | {200: {"content": {"application/json": {"example": [_EXAMPLE]}}}},
)
def search_utterances(
    service: ServiceDep, request: Request, q: Words, model: OfModel = None, limit: Limit = 100, after: After = None
) -> Response:
    """Utterances of latest references whose texts have all the words, in order of file, channel and time.

    A page may have fewer than `limit`, or none, before the last one: a search looks at so many files a page. The
    header `Link` says that there are more.
    """
    seq = service.index.catch_up()
    if model is not None:
        require_model(service, model)
    etag = etags.weak(etags.state_of(service.index, seq), service.settings.public_url, q, model, limit, after)
    unchanged = etags.not_modified(request, etag)
    if unchanged is not None:
        return unchanged
    found = as_it_is_now(service.index, lambda: _found(service, q, model, limit, after))
    headers = etags.tagged(etag)
    if found.next is not None:
        headers |= next_link(request, service.settings.public_url, after=_written(found.next))
    answers = [_answer(hit, service.settings.public_url) for hit in found.hits]
    return Response(encoded(answers), media_type="application/json", headers=headers)


def _found(service: Service, q: str, model: str | None, limit: int, after: str | None) -> Found:
    with service.index.at_once():
        phrases = phrases_of(service.index, q)
        if not phrases:  # nothing but punctuation
            return Found([], None)
        return search(service.index, phrases, model=model, after=_read(after) if after else None, limit=limit)


def _read(after: str) -> Place:
    file_id, _, hits = after.partition(".")
    return Place(UUID(file_id), int(hits) if hits else None)


def _written(place: Place) -> str:
    return str(place.file_id) if place.hits is None else f"{place.file_id}.{place.hits}"


def _answer(hit: searching.Hit, base_url: str) -> dict[str, Any]:
    return {
        "id": hit.file_id,
        "file": hit.name,
        "url": f"{base_url}/api/files/{hit.file_id}",
        "channel": hit.channel,
        "time": round(hit.start_s, 3),
        "end": round(hit.end_s, 3),
        "text": hit.text,
        "model": hit.model,
        "model_version": hit.model_version,
        "reference": hit.reference,
    }
