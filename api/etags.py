"""ETag and If-None-Match (RFC 9110, 8.8.3 and 13.1.2). It must not know what an answer says."""

import hashlib
import re
from importlib.metadata import version
from typing import Final

from fastapi import Request, Response

from storage.index import Index

VERSION: Final = version("audiophile")

CACHE_CONTROL: Final = "private, no-cache"
"""Answers may be kept by the client alone, and have to be asked for again each time: 304 says that they still hold."""

_TAG: Final = re.compile(r'(?:W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
_TAGS: Final = re.compile(rf"[ \t,]*{_TAG.pattern}(?:[ \t]*(?:,[ \t]*)+{_TAG.pattern})*[ \t,]*")


def strong(body: bytes) -> str:
    """Return the tag of exactly these bytes."""
    return f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"'


def weak(*depends_on: object) -> str:
    """Return the tag of an answer that follows from what is given, whatever its bytes are."""
    return f'W/"{hashlib.blake2b(repr(depends_on).encode(), digest_size=16).hexdigest()}"'


def state_of(index: Index, seq: int) -> tuple[object, ...]:
    """Return what every answer that follows from the log depends on, for `weak`.

    Args:
        index: Where it is read.
        seq: The log entry that it had come to, before anything was read.
    """
    entry = index.query(f"SELECT key FROM {index.side_of(seq)}.entries WHERE seq = ?", [seq])  # noqa: S608
    keys = [row["key"] for row in entry]  # a lake that was restored may have another entry there
    return VERSION, seq, keys


def is_current(if_none_match: list[str], etag: str) -> bool:
    """Say whether a client that sent these headers has the answer with `etag` already.

    Tags are compared weakly: whether one is weak makes no difference. A header that is none counts as not sent.
    """
    sent = ", ".join(if_none_match).strip(" \t")
    if sent == "*":
        return True
    opaque = etag.removeprefix("W/").strip('"')
    return bool(_TAGS.fullmatch(sent)) and opaque in _TAG.findall(sent)


def answer(request: Request, body: bytes, etag: str) -> Response:
    """Return an answer in JSON, or 304 where the client has it."""
    return not_modified(request, etag) or Response(body, media_type="application/json", headers=tagged(etag))


def not_modified(request: Request, etag: str) -> Response | None:
    """Return 304 where the client has the answer with `etag` already."""
    if is_current(request.headers.getlist("if-none-match"), etag):
        return Response(status_code=304, headers=tagged(etag))
    return None


def tagged(etag: str) -> dict[str, str]:
    """Return the headers of an answer with a tag."""
    return {"ETag": etag, "Cache-Control": CACHE_CONTROL}
