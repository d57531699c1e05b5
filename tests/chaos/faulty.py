"""A faulty way to an S3 server: an HTTP proxy that drops, delays, lies and breaks off by chance."""

import asyncio
import contextlib
import logging
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web
from yarl import URL

from tests.ports import free_port

HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "expect"})
MAX_DELAY_S = 0.4

FAULTS = ("dropped before", "dropped after", "delayed", "500 after", "503", "truncated")
"""What may happen to a request: before and after say whether the server had it by then."""


@dataclass
class Proxy:
    """What a proxy does to requests, and how often it did.

    Attributes:
        target: The server's address.
        rate: The share of requests that something happens to.
        make_room: Removes an object: called before a put with If-None-Match, which makes the store one that ignores it.
            To leave the header out would break the request's signature.
    """

    target: str
    seed: int
    rate: float = 0.0
    make_room: Callable[[str], object] | None = None
    faults: Counter[str] = field(default_factory=Counter)
    requests: int = 0

    def __post_init__(self) -> None:
        self._luck = random.Random(self.seed)
        self._session: aiohttp.ClientSession | None = None

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Forward a request, or let something happen to it."""
        self.requests += 1
        fault = self._luck.choice(FAULTS) if self._luck.random() < self.rate else None
        if fault:
            self.faults[fault] += 1
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        body = await request.read()
        if fault == "dropped before":
            return _dropped(request)
        if fault == "503":
            return web.Response(status=503, text=_error("SlowDown"))
        if fault == "delayed":
            await asyncio.sleep(self._luck.uniform(0, MAX_DELAY_S))
        if self.make_room is not None and "If-None-Match" in request.headers:
            await asyncio.to_thread(self.make_room, request.path)
        status, headers, content = await self._forwarded(request, body)
        if fault == "dropped after":
            return _dropped(request)
        if fault == "500 after":
            return web.Response(status=500, text=_error("InternalError"))
        response = web.StreamResponse(status=status, headers=headers)
        response.content_length = int(headers.get("Content-Length", len(content)))
        await response.prepare(request)
        if request.method != "HEAD":
            if fault == "truncated" and content:
                await response.write(content[: self._luck.randrange(len(content))])
                return _dropped(request)
            await response.write(content)
        await response.write_eof()
        return response

    async def _forwarded(self, request: web.Request, body: bytes) -> tuple[int, dict[str, str], bytes]:
        headers = {
            name: value
            for name, value in request.headers.items()
            if name.lower() not in HOP_BY_HOP | {"content-length"}
        }
        if self._session is None:
            self._session = aiohttp.ClientSession(auto_decompress=False)
        url = URL(self.target + request.raw_path, encoded=True)
        async with self._session.request(
            request.method, url, headers=headers, data=body or None, skip_auto_headers=("Content-Type", "User-Agent")
        ) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
            return answer.status, kept, await answer.read()


def _dropped(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


def _error(code: str) -> str:
    return f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>on purpose</Message></Error>'


@contextlib.contextmanager
def running(proxy: Proxy) -> Iterator[str]:
    """Run a proxy on a thread of its own; yield its address."""
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # a client that was killed is no error of its
    loop, port = asyncio.new_event_loop(), free_port()

    async def start() -> Callable[[], object]:
        server = web.Server(proxy.answer)
        runner = web.ServerRunner(server)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        return runner.cleanup

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    cleanup = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        asyncio.run_coroutine_threadsafe(cleanup(), loop).result(30)
        if proxy._session is not None:
            asyncio.run_coroutine_threadsafe(proxy._session.close(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
