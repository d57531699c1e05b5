"""GET /api/files: recordings with the predictions of their latest reference."""

import logging
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from api import etags
from api.answers import File, encoded
from api.cache import keep
from api.dependencies import ServiceDep
from api.file_pages import Page, Pages
from api.file_queries import FileOf, FilesOf
from api.one_file import FileBytes, file_bytes
from api.paging import next_link
from api.problems import GoneProblem, NotFoundProblem, problems
from api.routing import reads

log = logging.getLogger(__name__)

FILES_AT_ONCE: Final = 300
ROWS_AT_ONCE: Final = 10_000
"""What a list as a whole holds in memory at a time: detections and seconds of transcript, unless one file has more."""

ROWS_A_PAGE: Final = 100_000
"""And a page, which therefore may have fewer files than `limit`."""

_EXAMPLE: Final[dict[str, Any]] = {
    "id": "e5a26b3d-29e5-b0bc-8dbd-72c11d16a380",
    "file": "beckett.wav",
    "status": "accepted",
    "duration": 9.963,
    "sample_rate": 16000,
    "channels": 1,
    "format": "WAV/PCM_16",
    "size": 318978,
    "demo": True,
    "ingested_at": "2026-01-31T12:00:00Z",
    "reference": "30fcad1d-e0db-56eb-bddf-1151ff4512e4",
    "predicted_at": "2026-01-31T12:02:00Z",
    "url": "http://localhost:8000/api/files/e5a26b3d-29e5-b0bc-8dbd-72c11d16a380",
    "confidences": [
        {
            "utterance": "ever failed",
            "time": 1.84,
            "end": 2.78,
            "channel": 0,
            "confidence": 0.9992,
            "model": "moonshine-tiny-en",
            "model_version": "3bc1971806bf",
        }
    ],
}

FileId = Annotated[str, Path(description="The recording.", examples=["e5a26b3d-29e5-b0bc-8dbd-72c11d16a380"])]
ModelName = Annotated[
    str, Path(description="A model of the group, or one that has answered for the recording.", examples=["callscene"])
]

router = APIRouter(prefix="/api/files", tags=["files"])


def _documented(example: object) -> dict[int | str, dict[str, Any]]:
    return problems(NotFoundProblem, GoneProblem) | {200: {"content": {"application/json": {"example": example}}}}


@reads(router, "", paged=True, response_model=list[File], summary="All files", responses=_documented([_EXAMPLE]))
def list_files(service: ServiceDep, request: Request, asked: FilesOf) -> Response:
    """All recordings in order of their ids, each with the predictions of its latest reference.

    Without `limit` they come as one array, as they are read; one that breaks off is cut, without an end. With it they
    come in pages, each with a header `Link` to the next one.
    """
    pages = Pages(service, asked)
    unchanged = etags.not_modified(request, pages.etag)
    if unchanged is not None:
        return unchanged
    headers = etags.tagged(pages.etag)
    if asked.limit is None:
        first = pages.page(asked.after, FILES_AT_ONCE, most_rows=ROWS_AT_ONCE, scan=True)
        content = _no_body() if request.method == "HEAD" else _stream(pages, first)
        return StreamingResponse(content, media_type="application/json", headers=headers)
    page = pages.page(asked.after, asked.limit, most_rows=ROWS_A_PAGE)
    if page.next is not None:
        headers |= next_link(request, service.settings.public_url, after=page.next)
    return Response(encoded(page.answers), media_type="application/json", headers=headers)


@reads(router, "/{file_id}", response_model=File, summary="One file", responses=_documented(_EXAMPLE))
def get_file(service: ServiceDep, request: Request, file_id: FileId, asked: FileOf) -> Response:
    """One recording with the predictions of its latest reference, or of an older one."""
    return _answered(request, file_bytes(service, file_id, asked))


@reads(
    router,
    "/{file_id}/{model}",
    response_model=File,
    summary="One file, one model",
    responses=_documented(_EXAMPLE),
)
def get_file_of_model(
    service: ServiceDep, request: Request, file_id: FileId, model: ModelName, asked: FileOf
) -> Response:
    """One recording with the predictions of one model, of its latest reference or of an older one."""
    return _answered(request, file_bytes(service, file_id, asked, model))


def _answered(request: Request, found: FileBytes) -> Response:
    if found.seq is not None:
        keep(request, found.file_id, found.seq)
    return etags.answer(request, found.body, found.etag)


async def _stream(pages: Pages, page: Page) -> AsyncIterator[bytes]:
    """Yield a list as one array, page by page; what fails in its middle cuts the connection, and is logged."""
    yield b"[" + _joined(page)
    try:
        while page.next is not None:
            page = await run_in_threadpool(pages.page, page.next, FILES_AT_ONCE, most_rows=ROWS_AT_ONCE, scan=True)
            if page.answers:
                yield b"," + _joined(page)
    except Exception:
        log.exception("a list of files broke off after it had begun, and its connection is cut")
        raise
    yield b"]"


async def _no_body() -> AsyncIterator[bytes]:
    yield b""


def _joined(page: Page) -> bytes:
    return b",".join(map(encoded, page.answers))
