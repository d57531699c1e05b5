"""How the API is served: uvicorn, with the limits on connections that it lacks. It must not know routes.

uvicorn lets a client take all day for its headers, send as many as it likes, and leave an answer unread; each holds a
connection and memory.
"""

import asyncio
import socket
from typing import Any, Final

import orjson
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.problems import MEDIA_TYPE, LongHeadersProblem, MalformedProblem, Problem, SlowProblem, body_of

HEAD_S: Final = 10.0
"""Within it the head of a request has to arrive, from its first byte, or from the connection's begin, on."""
HEAD_BYTES: Final = 65_536  # beyond what came in its first piece, which asyncio bounds by 256 KiB
UNREAD_S: Final = 120.0
"""For so long a client may leave an answer unread; a player that pauses asks again for the rest (Range)."""
KEEP_ALIVE_S: Final = 15


class Protocol(HttpToolsProtocol):
    """HTTP/1.1 by httptools, with limits on time and size where a client holds a connection without a request."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_is_open, self._head_bytes = True, 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a first request."""
        super().connection_made(transport)
        # asyncio does so for sockets that name their protocol, and those of bind_socket do not. Without it the body of
        # an answer waits until the client has acknowledged its head, which Linux puts off for 40 ms.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._head_timer = self.loop.call_later(HEAD_S, self._head_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._stop_timers()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Begin to count."""
        super().on_message_begin()
        self._head_is_open, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        """End counting."""
        self._head_is_open = False
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Read on, unless the head takes too many bytes or too long."""
        if self._head_is_open and self._head_bytes + len(data) > HEAD_BYTES and self._head_bytes:
            self._refuse(LongHeadersProblem(f"The headers have more than {HEAD_BYTES} bytes, the limit"))
            return
        super().data_received(data)
        if self._head_is_open:
            self._head_bytes += len(data)
            if self._head_timer is None:
                self._head_timer = self.loop.call_later(HEAD_S, self._head_is_late)
        elif self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def pause_writing(self) -> None:
        """Give a client that reads nothing a while."""
        super().pause_writing()
        if self._unread_timer is None:
            self._unread_timer = self.loop.call_later(UNREAD_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: it reads."""
        super().resume_writing()
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP."""
        self._refuse(MalformedProblem(f"{msg} It has to be HTTP/1.1, without line breaks in headers"))

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.cycle is not None and not self.cycle.response_complete:  # the next one waits behind an answer
            self._head_timer = self.loop.call_later(HEAD_S, self._head_is_late)
        elif self._head_bytes:
            self._refuse(SlowProblem(f"The headers did not arrive within {HEAD_S:g} s, the limit"))
        else:
            self.transport.close()

    def _refuse(self, problem: Problem) -> None:
        """Answer what never became a request, and close the connection."""
        self._stop_timers()
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:
            content = orjson.dumps(body_of(problem, ""))
            head = (
                f"HTTP/1.1 {problem.status.value} {problem.status.phrase}\r\ncontent-type: {MEDIA_TYPE}\r\n"
                f"content-length: {len(content)}\r\nx-content-type-options: nosniff\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + content)
        self.transport.close()

    def _stop_timers(self) -> None:
        for timer in (self._head_timer, self._unread_timer):
            if timer is not None:
                timer.cancel()
        self._head_timer = self._unread_timer = None


def server_config(app: ASGIApp, **more: Any) -> uvicorn.Config:
    """Return how uvicorn serves `app`.

    Headers of proxies are not believed: the access log has whoever connected.
    """
    return uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=3,
        **more,
    )
