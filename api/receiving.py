"""Receives an upload while it arrives, however slowly, and holds neither a thread nor more than a block of it.

The event loop collects what a client sends into blocks; each is parsed, hashed and written on a thread. It must not
know what becomes of the recording.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from api.dependencies import Service
from api.multipart import FIELD, OTHER_BYTES, Received, UploadBody, too_large
from api.problems import MalformedProblem, MediaTypeProblem, shown

BLOCK_BYTES: Final = 1 << 18
"""What is held of each upload that is under way; larger blocks would gain nothing (ARCHITECTURE.md)."""
MULTIPART: Final = "multipart/form-data"


@asynccontextmanager
async def receiving(request: Request, service: Service) -> AsyncIterator[Received]:
    """Receive the body of `request`; unless its recording is kept, nothing is left of it with the context.

    Raises:
        Problem: It cannot be read or used, is too large, or does not arrive.
        StoreError: This host's disk cannot be written, or is full.
    """
    max_bytes = service.settings.max_upload_mb << 20
    boundary = _boundary(request, service)
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length[:20]) > max_bytes + OTHER_BYTES:
        raise too_large(max_bytes)
    body = UploadBody(service.lake.media, boundary, max_bytes)
    try:
        async for block in _blocks(request, body):
            await run_in_threadpool(body.feed, block)
        yield await run_in_threadpool(body.finish)
    finally:
        await run_in_threadpool(body.close)


def _boundary(request: Request, service: Service) -> bytes:
    """Return what parts the body.

    Raises:
        Problem: It is no multipart body, or names no boundary.
    """
    sent, coding = request.headers.get("content-type"), request.headers.get("content-encoding", "identity")
    media_type, options = parse_options_header(sent)
    if media_type != MULTIPART.encode() or coding.lower() != "identity":
        what = "The body has no Content-Type" if sent is None else f"The body is {shown(sent)}"
        if coding.lower() != "identity":
            what = f"The body is compressed ({shown(coding)})"
        raise MediaTypeProblem(
            f"{what}: send it as {MULTIPART} with the recording in the field `{FIELD}`, "
            f"as does curl -F {FIELD}=@recording.wav {service.settings.public_url}{request.url.path}"
        )
    if not options.get(b"boundary"):
        raise MalformedProblem(
            f"Missing boundary: a Content-Type of {MULTIPART} has to name it, and clients do by themselves"
        )
    return options[b"boundary"]


async def _blocks(request: Request, body: UploadBody) -> AsyncIterator[bytes]:
    """Yield the body in blocks; until it is clear that it is one to take, in pieces as they come."""
    collected = bytearray()
    async for piece in _pieces(request):
        collected += piece
        if len(collected) >= BLOCK_BYTES or not body.is_judged:
            yield bytes(collected)
            collected.clear()
    if collected:
        yield bytes(collected)


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    """Yield what arrives, in the time that `api.guard` gives it.

    Raises:
        SlowProblem: It does not.
        MalformedProblem: The client is gone, and nobody will read this.
    """
    size_bytes = 0
    try:
        async for piece in request.stream():
            size_bytes += len(piece)
            yield piece
    except ClientDisconnect:
        raise MalformedProblem(f"The body ended after {size_bytes} bytes, before it was whole") from None
