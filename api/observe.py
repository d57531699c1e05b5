"""What happened: a line of JSON for each request, and the numbers of all of them. It must not change an answer."""

import json
import logging
import sys
import threading
from bisect import bisect_left
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import perf_counter
from typing import Any, BinaryIO, Final

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "POST", "DELETE", "PUT", "PATCH"})
GONE: Final = 499  # nginx's number for a client that left before there was an answer

SHOWN_CHARACTERS: Final = 1000  # of a path, a query, a user agent
BATCH_S: Final = 0.05
WAITING_LINES: Final = 50_000  # beyond it whoever reads stdout has stopped, and lines are dropped

_UTC_Z: Final = orjson.OPT_UTC_Z


@dataclass(slots=True)
class Answered:
    """The requests of one method, route and status."""

    count: int = 0
    seconds: float = 0.0
    sent_bytes: int = 0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))


@dataclass(slots=True)
class Traffic:
    """The numbers of all requests. The event loop writes them, and any thread may read."""

    answered: dict[tuple[str, str, int], Answered] = field(default_factory=dict)
    under_way: int = 0

    def note(self, method: str, route: str, status: int, seconds: float, sent_bytes: int) -> None:
        """Count a request that has been answered."""
        key = (method if method in METHODS else "other", route, status)
        answered = self.answered.get(key)
        if answered is None:
            answered = self.answered[key] = Answered()
        answered.count += 1
        answered.seconds += seconds
        answered.sent_bytes += sent_bytes
        answered.buckets[bisect_left(BUCKETS_S, seconds)] += 1


class AccessLog:
    """Writes lines to stdout from a thread of its own, in batches: whoever reads them slowly holds up no request."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._dropped = 0
        self._wake, self._stopped = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Write what is left, and end."""
        self._stopped.set()
        self._wake.set()
        self._thread.join(timeout=2)

    def note(self, facts: dict[str, Any]) -> None:
        """Take one line; returns at once."""
        if len(self._lines) >= WAITING_LINES:
            self._dropped += 1
            return
        self._lines.append(line(facts))
        if not self._wake.is_set():
            self._wake.set()

    def _run(self) -> None:
        out = sys.stdout.buffer
        while True:
            self._wake.wait()
            stopped = self._stopped.wait(BATCH_S)
            self._wake.clear()
            lines = self._lines[:]
            del self._lines[: len(lines)]  # the list stays the same one: requests may be adding to it
            dropped, self._dropped = self._dropped, 0
            if dropped:
                lines.append(line({"time": datetime.now(UTC), "dropped_lines": dropped}))
            if not _written(out, lines) or stopped:
                return


def _written(out: BinaryIO, lines: list[bytes]) -> bool:
    try:
        out.write(b"".join(lines))
        out.flush()
    except (OSError, ValueError) as error:  # nobody reads it any more
        log.error("the access log cannot be written: %s", error)
        return False
    return True


def line(facts: dict[str, Any]) -> bytes:
    """Return facts as one line of JSON in ASCII: no separator, mark or control character of Unicode is left in it."""
    content = orjson.dumps(facts, option=_UTC_Z)
    if not content.isascii() or b"\x7f" in content:
        content = json.dumps(orjson.loads(content), separators=(",", ":")).encode().replace(b"\x7f", b"\\u007f")
    return content + b"\n"


class Observe:
    """Middleware, the outermost: sees each request as the client does."""

    def __init__(self, app: ASGIApp, traffic: Traffic, access_log: AccessLog | None) -> None:
        self.app, self._traffic, self._log = app, traffic, access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and note what came of it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started_s = perf_counter()
        status = size = 0
        whole = False

        async def note(message: Message) -> None:
            nonlocal status, size, whole
            if message["type"] == "http.response.body":
                size += len(message.get("body", b""))
                whole = not message.get("more_body", False)
            elif message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._traffic.under_way += 1
        try:
            await self.app(scope, receive, note)
        except Exception:
            status, whole = status or 500, False
            raise
        finally:
            self._traffic.under_way -= 1
            self._done(scope, status or GONE, size, perf_counter() - started_s, whole=whole)

    def _done(self, scope: Scope, status: int, size: int, seconds: float, *, whole: bool) -> None:
        method: str = scope["method"]
        route = route_of(scope)
        if method == "HEAD":
            size = 0
        self._traffic.note(method, route, status, seconds, size)
        if self._log is None:
            return
        client = scope["client"]
        facts = {
            "time": datetime.now(UTC),
            "client": client[0] if client else None,
            "method": method[:20],
            "path": scope["path"][:SHOWN_CHARACTERS],
            "query": scope["query_string"][:SHOWN_CHARACTERS].decode("latin-1"),
            "route": route,
            "status": status,
            "ms": int(seconds * 1_000_000) / 1000,
            "bytes": size,
            "key": scope.get("api_key"),
            "agent": _agent(scope),
        }
        if not whole:
            facts["aborted"] = True
        self._log.note(facts)


def route_of(scope: Scope) -> str:
    """Return the template of the route that answered: there are few, whatever paths are asked for."""
    known = getattr(scope.get("route"), "path", None)
    return known.rstrip("/") or "/" if isinstance(known, str) and known else "unmatched"


def _agent(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"user-agent":
            agent: str = value[:SHOWN_CHARACTERS].decode("latin-1")
            return agent
    return None
