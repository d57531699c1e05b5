"""GET /api/audio/{file_id}: a recording's bytes, as they came, whole or in ranges. It must not know what is in them."""

import io
import logging
import secrets
from collections.abc import AsyncIterator
from typing import Final

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from api import etags
from api.dependencies import Service, ServiceDep
from api.disposition import inline
from api.known import FileId, Known, known
from api.problems import GoneProblem, NotFoundProblem, RangeProblem, answer_to, problems
from api.ranges import Span, spans
from api.routing import reads
from storage.errors import MissingError

log = logging.getLogger(__name__)

BLOCK_BYTES: Final = 256 << 10
"""Of a stream, in memory at a time; each is a request where the lake lies in a bucket."""

ANY: Final = "application/octet-stream"
FORMATS: Final = {
    "WAV": "audio/wav",
    "WAVEX": "audio/wav",
    "RF64": "audio/wav",
    "FLAC": "audio/flac",
    "OGG": "audio/ogg",
    "MP3": "audio/mpeg",
    "MPEG": "audio/mpeg",
    "AIFF": "audio/aiff",
    "AU": "audio/basic",
    "CAF": "audio/x-caf",
}
"""Content types of libsndfile's containers; of others nobody knows one."""

_SNIFFED_BYTES: Final = 12

_BINARY: Final = {"schema": {"type": "string", "format": "binary"}}
_RANGE_HEADERS: Final = {
    "ETag": {"description": "The hash of the bytes.", "schema": {"type": "string"}},
    "Accept-Ranges": {"description": "`bytes`.", "schema": {"type": "string"}},
    "Content-Disposition": {"description": "`inline`, with the file's name.", "schema": {"type": "string"}},
}
_CONTENT_RANGE: Final = {
    "Content-Range": {"schema": {"type": "string"}, "example": "bytes 0-65535/318764"},
}
_RANGE_PARAMETERS: Final = [
    {
        "name": name,
        "in": "header",
        "required": False,
        "description": description,
        "schema": {"type": "string"},
        "example": example,
    }
    for name, description, example in (
        ("Range", "Which bytes (RFC 9110): one range or several. What is malformed is ignored.", "bytes=0-65535"),
        ("If-Range", "An ETag: ranges are answered only if it is still the file's, and else the whole.", None),
    )
]

router = APIRouter(prefix="/api/audio", tags=["audio"])


@reads(
    router,
    "/{file_id}",
    response_class=Response,
    openapi_extra={"parameters": _RANGE_PARAMETERS},
    responses=problems(NotFoundProblem, GoneProblem, RangeProblem)
    | {
        200: {
            "description": "The whole recording.",
            "headers": _RANGE_HEADERS,
            "content": {"audio/*": _BINARY, ANY: _BINARY},
        },
        206: {
            "description": "A part of it; several parts come as multipart/byteranges.",
            "headers": _RANGE_HEADERS | _CONTENT_RANGE,
            "content": {"audio/*": _BINARY, "multipart/byteranges": _BINARY},
        },
        307: {
            "description": "Where AUDIO_FROM_S3 is `redirect`: `Location` has the bytes, for an hour.",
            "headers": {"Location": {"schema": {"type": "string", "format": "uri"}}},
        },
    },
)
def get_audio(service: ServiceDep, request: Request, file_id: FileId) -> Response:
    """The bytes of a recording as they came, whatever became of it: pending and rejected ones, too.

    Browsers and players seek in it by `Range`.
    """
    found = known(service, file_id)
    etag = f'"{found.sha256}"'
    redirects = service.settings.audio_from_s3 == "redirect" and service.lake.place.is_s3
    if redirects and request.method == "GET":  # the address is signed for nothing else
        return _redirect(service, found)
    if (unchanged := etags.not_modified(request, etag)) is not None:
        return unchanged
    content = _opened(service, found)
    try:
        return _answer(request, found, content, etag)
    except BaseException:
        content.close()
        raise


def _answer(request: Request, found: Known, content: io.RawIOBase, etag: str) -> Response:
    """Return the answer, which closes `content`."""
    size_bytes = content.seek(0, io.SEEK_END)
    headers = etags.tagged(etag) | {
        "Content-Type": _type_of(found, content),
        "Content-Disposition": inline(found.name),
        "Accept-Ranges": "bytes",
    }
    if request.method == "HEAD":  # for which ranges are not defined
        content.close()
        return Response(headers=headers | {"Content-Length": str(size_bytes)})
    asked = spans(request.headers.getlist("range"), size_bytes) if _may_range(request, etag) else None
    if asked == () and size_bytes:
        content.close()
        problem = RangeProblem(f"The file has {size_bytes} bytes: ask for some of them, or leave `Range` out")
        answer = answer_to(request.scope, problem)
        answer.headers["Content-Range"] = f"bytes */{size_bytes}"
        return answer
    return AudioResponse(content, size_bytes, asked or (), headers)


class AudioResponse(StreamingResponse):
    """Bytes of a file that is open, a block at a time; it is closed at the end, whatever ended it."""

    def __init__(
        self, content: io.RawIOBase, size_bytes: int, asked: tuple[Span, ...], headers: dict[str, str]
    ) -> None:
        """Answer with the whole, or with parts.

        Args:
            content: The file.
            size_bytes: Its size.
            asked: Which parts of it; none: all of it.
            headers: Of the whole.
        """
        self._content = content
        body = Span(0, size_bytes)
        parts: list[bytes | Span]
        if len(asked) > 1:
            boundary = secrets.token_hex(16)
            parts = _multipart(asked, size_bytes, headers["Content-Type"], boundary)
            headers = headers | {"Content-Type": f"multipart/byteranges; boundary={boundary}"}
        elif asked:
            body = asked[0]
            parts = [body]
            headers = headers | {"Content-Range": body.content_range(size_bytes)}
        else:
            parts = [body]
        length = sum(len(part) if isinstance(part, bytes) else part.end - part.start for part in parts)
        headers = headers | {"Content-Length": str(length)}
        super().__init__(self._blocks(parts), 206 if asked else 200, headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the blocks, and close the file."""
        try:
            await super().__call__(scope, receive, send)
        except OSError as error:  # too late for another answer: the connection is cut, and so the client knows
            log.warning("a recording could not be sent to its end: %s", error.strerror or error)
        finally:
            self._content.close()

    async def _blocks(self, parts: list[bytes | Span]) -> AsyncIterator[bytes]:
        for part in parts:
            if isinstance(part, bytes):
                yield part
                continue
            at = part.start
            while at < part.end:
                block = await to_thread.run_sync(self._read, at, min(BLOCK_BYTES, part.end - at))
                at += len(block)
                yield block

    def _read(self, at: int, size_bytes: int) -> bytes:
        self._content.seek(at)
        block = self._content.read(size_bytes)
        if not block:
            raise OSError("it is shorter than it was")
        return block


def _multipart(asked: tuple[Span, ...], size_bytes: int, content_type: str, boundary: str) -> list[bytes | Span]:
    """Return the parts of multipart/byteranges (RFC 9110, 14.6), and what stands between them."""
    parts: list[bytes | Span] = []
    for number, span in enumerate(asked):
        head = f"Content-Type: {content_type}\r\nContent-Range: {span.content_range(size_bytes)}\r\n\r\n"
        between = "\r\n" if number else ""
        parts += [f"{between}--{boundary}\r\n{head}".encode("latin-1"), span]
    return [*parts, f"\r\n--{boundary}--\r\n".encode("latin-1")]


def _may_range(request: Request, etag: str) -> bool:
    """Say whether ranges are wanted of this content: `If-Range` compares strongly, and dates are not given here."""
    condition = request.headers.get("if-range")
    return condition is None or condition.strip(" \t") == etag


def _redirect(service: Service, found: Known) -> Response:
    with _opened(service, found) as content:  # so that the address is one of something, and its type is known
        content_type = _type_of(found, content)
    address = service.lake.media.link(found.sha256, content_type=content_type, disposition=inline(found.name))
    return RedirectResponse(str(address), 307, {"Cache-Control": "no-store"})


def _opened(service: Service, found: Known) -> io.RawIOBase:
    """Open the bytes.

    Raises:
        GoneProblem: The recording was erased since it was looked for.
        MissingError: The store lacks them.
    """
    try:
        return service.lake.media.open(found.sha256)
    except MissingError:
        service.index.catch_up()
        if service.index.erased([found.file_id]):
            raise GoneProblem(f"The file {found.file_id} was erased") from None
        raise


def _type_of(found: Known, content: io.RawIOBase) -> str:
    """Return the content type, by what decoded it, or else by how the bytes begin."""
    if found.format is not None:
        return FORMATS.get(found.format.partition("/")[0], ANY)
    content.seek(0)
    return sniffed(content.read(_SNIFFED_BYTES) or b"")


def sniffed(start: bytes) -> str:
    """Return the content type of what begins so; any bytes where it is none that is known here."""
    if start[:4] in (b"RIFF", b"RF64") and start[8:12] == b"WAVE":
        return FORMATS["WAV"]
    if start[:4] == b"FORM" and start[8:12] in (b"AIFF", b"AIFC"):
        return FORMATS["AIFF"]
    is_frame = start[:1] == b"\xff" and len(start) > 1 and start[1] & 0xE6 == 0xE2  # of MPEG audio, layer III
    if start[:3] == b"ID3" or is_frame:
        return FORMATS["MP3"]
    magic = {b"fLaC": "FLAC", b"OggS": "OGG", b".snd": "AU", b"caff": "CAF"}.get(start[:4])
    return FORMATS[magic] if magic else ANY
