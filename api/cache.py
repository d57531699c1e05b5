"""Answers about single recordings, kept as bytes while the log says nothing new of their recording.

It stands before the application, so a kept answer costs neither routing nor a query. It must not know what is in an
answer: a handler whose answer may be kept says so by `keep`, and of which recording it is, as of which log entry.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from cachetools import LRUCache
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.dependencies import Service
from api.etags import is_current
from storage.errors import StorageError

PREFIX: Final = "/api/files/"
CACHE_BYTES: Final = 64 << 20
ENTRY_BYTES: Final = 1 << 20  # a larger answer would push out many
_OVERHEAD_BYTES: Final = 1024

_KEEP: Final = "audiophile.keep"


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer that may be given again.

    Attributes:
        file_id: The recording that it is about.
        seq: The log entry up to which it is right.
        route: What answered it, for those who count requests by route.
        headers: Of the answer.
        unchanged: Those of the answer to who has it already.
        etag: Names its content.
        body: The answer.
    """

    file_id: UUID
    seq: int
    route: Any
    headers: list[tuple[bytes, bytes]]
    unchanged: list[tuple[bytes, bytes]]
    etag: str
    body: bytes


def keep(request: Request, file_id: UUID, seq: int) -> None:
    """Let the answer to a request be given again, until the log says something of the recording after entry `seq`."""
    request.scope[_KEEP] = (file_id, seq)


class AnswerCache:
    """Middleware: gives kept answers, and keeps what handlers let it. Only the event loop touches it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._kept: LRUCache[tuple[str, bytes], Kept] = LRUCache(CACHE_BYTES, getsizeof=_size)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http" or scope["method"] != "GET" or not scope["path"].startswith(PREFIX):
            await self.app(scope, receive, send)
            return
        key = (scope["path"], scope["query_string"])
        kept = self._kept.get(key)
        if kept is not None:
            if _is_right(kept, scope["app"].state.service):
                await _give(kept, scope, send)
                return
            self._kept.pop(key, None)
        await self.app(scope, receive, _Listener(scope, send, lambda found: self._keep(key, found)))

    def _keep(self, key: tuple[str, bytes], found: Kept) -> None:
        if _size(found) <= ENTRY_BYTES:
            self._kept[key] = found


class _Listener:
    """Sends an answer on, and hands it over once it is whole, if its handler lets it be kept."""

    def __init__(self, scope: Scope, send: Send, on_whole: Callable[[Kept], None]) -> None:
        self._scope, self._send, self._on_whole = scope, send, on_whole
        self._headers: list[tuple[bytes, bytes]] | None = None

    async def __call__(self, message: Message) -> None:
        """Send a message on."""
        if message["type"] == "http.response.start":
            self._headers = list(message["headers"]) if message["status"] == 200 and _KEEP in self._scope else None
        elif message.get("more_body"):
            self._headers = None  # what comes in parts is not kept
        elif self._headers is not None:
            self._hand_over(self._headers, message.get("body", b""))
        await self._send(message)

    def _hand_over(self, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        etag = next((value for name, value in headers if name == b"etag"), b"")
        if etag:
            unchanged = [(name, value) for name, value in headers if name not in (b"content-length", b"content-type")]
            file_id, seq = self._scope[_KEEP]
            route = self._scope.get("route")
            self._on_whole(Kept(file_id, seq, route, headers, unchanged, etag.decode("latin-1"), body))


async def _give(kept: Kept, scope: Scope, send: Send) -> None:
    scope["route"] = kept.route
    asked = [value.decode("latin-1") for name, value in scope["headers"] if name == b"if-none-match"]
    if asked and is_current(asked, kept.etag):
        await send({"type": "http.response.start", "status": 304, "headers": kept.unchanged})
        await send({"type": "http.response.body", "body": b""})
        return
    await send({"type": "http.response.start", "status": 200, "headers": kept.headers})
    await send({"type": "http.response.body", "body": kept.body})


def _is_right(kept: Kept, service: Service) -> bool:
    """Say whether the newest state of the lake has the same answer; a handler says what is wrong with the store."""
    try:
        return service.is_current() and not service.index.changes.has_changed(kept.file_id, kept.seq)
    except StorageError:
        return False


def _size(kept: Kept) -> int:
    return len(kept.body) + _OVERHEAD_BYTES
