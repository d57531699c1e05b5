"""Who may ask what, and how much a request may take: keys, scopes, hosts, origins, sizes and times.

It must not know what routes do: the scope that a request needs follows from its method alone.
"""

import asyncio
from time import monotonic
from typing import Final
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import (
    BusyProblem,
    CrossSiteProblem,
    ForbiddenProblem,
    ForeignHostProblem,
    KeyRequiredProblem,
    LongAddressProblem,
    LongHeadersProblem,
    MalformedProblem,
    Problem,
    SlowProblem,
    TooLargeProblem,
    answer_to,
    shown,
)
from storage.keys import ApiKey, find_key
from storage.settings import Settings

SCOPES: Final = {"GET": "read", "HEAD": "read", "OPTIONS": "read", "POST": "upload"}
OTHER_SCOPE: Final = "delete"  # DELETE, and whatever no route knows

HEALTH_PATHS: Final = frozenset({"/healthz", "/readyz"})
OPEN_PATHS: Final = HEALTH_PATHS | {"/docs", "/openapi.json"}
OPEN_FOLDERS: Final = ("/docs/", "/problems/")
UPLOADS: Final = "/api/files/upload"  # whose bodies their routes bound

ADDRESS_BYTES: Final = 8192
HEADERS_BYTES: Final = 32_768
BODY_BYTES: Final = 65_536

BODY_PAUSE_S: Final = 30.0
"""For so long nothing of a body may arrive; and all of it has to arrive at BODY_RATE on average, but for this long."""
BODY_RATE: Final = 1000  # bytes a second

_WANTED: Final = frozenset(
    {
        b"host",
        b"origin",
        b"sec-fetch-site",
        b"authorization",
        b"x-api-key",
        b"content-length",
        b"transfer-encoding",
    }
)
_LOOPBACK: Final = frozenset({b"localhost", b"127.0.0.1", b"[::1]"})
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})

_Headers = dict[bytes, bytes]


def is_open(path: str) -> bool:
    """Say whether a path needs no key."""
    return (path.rstrip("/") or path) in OPEN_PATHS or path.startswith(OPEN_FOLDERS)


class Guard:
    """Middleware: refuses what may not be asked, before any of it is looked at."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self._keys = settings.keys
        self._origins = frozenset(origin.encode() for origin in settings.api_cors_origins)
        own = (urlsplit(settings.public_url).hostname or "", settings.api_host)
        self._hosts = _LOOPBACK | {_as_sent(name) for name in own if name}
        self._limit, self._under_way = settings.api_max_requests, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer with the reason why not."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            body = self._admitted(scope, receive, send)
        except Problem as problem:
            await answer_to(scope, problem)(scope, receive, send)
            return
        self._under_way += 1
        try:
            if body is None:
                await self.app(scope, receive, send)
            else:
                await body.passed_to(self.app, scope)
        finally:
            self._under_way -= 1

    def _admitted(self, scope: Scope, receive: Receive, send: Send) -> "_Body | None":
        """Return the request's body, if there is one.

        Raises:
            Problem: The request is refused.
        """
        path, method = scope["path"], scope["method"]
        headers = _read_headers(scope)
        if self._keys:
            if not (method in _SAFE and is_open(path)):
                self._require_key(scope, headers)
        else:
            self._require_own_host(headers)
            if method not in _SAFE:
                self._require_same_site(method, headers)
        if self._under_way >= self._limit and path not in HEALTH_PATHS:
            raise BusyProblem(f"{self._limit} requests are under way, the limit (API_MAX_REQUESTS): try again")
        length = headers.get(b"content-length", b"")
        if not length.strip(b"0") and b"transfer-encoding" not in headers:
            return None
        limit = None if method == "POST" and path.startswith(UPLOADS) else BODY_BYTES
        if limit is not None and length.isdigit() and int(length[:20]) > limit:
            raise _too_large(limit)
        return _Body(receive, send, limit)

    def _require_key(self, scope: Scope, headers: _Headers) -> None:
        scheme, _, presented = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer":
            presented = headers.get(b"x-api-key", b"")
        key = find_key(self._keys, presented.strip())
        if key is None:
            what = "This key is not known here" if presented else "This needs a key"
            raise KeyRequiredProblem(f"{what}: send one as `Authorization: Bearer <key>` or `X-API-Key: <key>`")
        scope["api_key"] = key.fingerprint
        needed = SCOPES.get(scope["method"], OTHER_SCOPE)
        if needed not in key.scopes:
            raise _lacks(key, scope["method"], needed)

    def _require_own_host(self, headers: _Headers) -> None:
        """Refuse names of others: a page whose name was made to point here would be of the same origin (rebinding)."""
        host = headers.get(b"host")
        if host is None:  # HTTP/1.0, which no browser speaks
            return
        name = host[: host.find(b"]") + 1] if host.startswith(b"[") else host.partition(b":")[0]
        if name.lower() not in self._hosts:
            raise ForeignHostProblem(
                f"Without keys this server answers under localhost and the host of BASE_URL only, not under "
                f"{_text(host)}: set BASE_URL or AUDIOPHILE_API_KEYS"
            )

    def _require_same_site(self, method: str, headers: _Headers) -> None:
        """Refuse what a page of another origin asks a browser to send: it can be sent without being read."""
        site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin")
        if origin is not None and origin in self._origins:
            return
        own = origin is None or origin.partition(b"://")[2].lower() == headers.get(b"host", b"").lower()
        if not own or site not in (None, b"same-origin", b"none"):
            where = "another site" if origin is None else _text(origin)
            raise CrossSiteProblem(
                f"A page of {where} may not {method} here: add its origin to API_CORS_ORIGINS, or ask without a browser"
            )


class _Body:
    """The body of a request on its way: bounded in size and time, whoever reads it."""

    def __init__(self, receive: Receive, send: Send, limit: int | None) -> None:
        self._receive, self._send, self._limit = receive, send, limit
        self._started_s, self._size = monotonic(), 0
        self._is_read = self._is_answered = False
        self._failure: Problem | None = None

    async def passed_to(self, app: ASGIApp, scope: Scope) -> None:
        """Run `app`; where the body fails, that is the answer, whatever the app makes of it."""
        await app(scope, self._received, self._sent)
        if self._failure is not None and not self._is_answered:
            await answer_to(scope, self._failure)(scope, self._receive, self._send)

    async def _received(self) -> Message:
        if self._is_read:
            return await self._receive()  # waits for the client to leave, as long as that takes
        now_s = monotonic()
        late_s = self._started_s + BODY_PAUSE_S + self._size / BODY_RATE - now_s
        try:
            async with asyncio.timeout(min(BODY_PAUSE_S, late_s)):
                message = await self._receive()
        except TimeoutError:
            raise self._failed(
                SlowProblem(
                    f"{self._size} bytes of the body arrived within {monotonic() - self._started_s:.0f} s. The limit "
                    f"is a pause of {BODY_PAUSE_S:.0f} s, and {BODY_RATE} bytes/s on average: send it again"
                )
            ) from None
        self._size += len(message.get("body", b""))
        self._is_read = not message.get("more_body", False)
        if self._limit is not None and self._size > self._limit:
            raise self._failed(_too_large(self._limit))
        return message

    def _failed(self, problem: Problem) -> Problem:
        self._failure = self._failure or problem
        return problem

    async def _sent(self, message: Message) -> None:
        if self._failure is None or self._is_answered:
            self._is_answered = True
            await self._send(message)


def _read_headers(scope: Scope) -> _Headers:
    """Return the headers that count here.

    Raises:
        Problem: They or the address are too long, or there is more than one host.
    """
    if len(scope["raw_path"]) + len(scope["query_string"]) > ADDRESS_BYTES:
        size = len(scope["raw_path"]) + len(scope["query_string"])
        raise LongAddressProblem(f"Path and query have {size} bytes, and the limit is {ADDRESS_BYTES}")
    headers: _Headers = {}
    size = 0
    for name, value in scope["headers"]:
        size += len(name) + len(value)
        if name in _WANTED:
            if name in headers and name != b"transfer-encoding":
                raise MalformedProblem(f"The header {name.decode()} is there twice: send it once")
            headers[name] = value
    if size > HEADERS_BYTES:
        raise LongHeadersProblem(f"The headers have {size} bytes, and the limit is {HEADERS_BYTES}")
    return headers


def _lacks(key: ApiKey, method: str, needed: str) -> ForbiddenProblem:
    has = ", ".join(f"`{each}`" for each in sorted(key.scopes))
    return ForbiddenProblem(
        f"{shown(method)[1:-1]} needs the scope `{needed}`, and this key has {has}: "
        f"add it to the key in AUDIOPHILE_API_KEYS",
        missing=needed,
    )


def _too_large(limit: int) -> TooLargeProblem:
    return TooLargeProblem(f"The body has more than {limit} bytes, the limit of this route: send less", limit=limit)


def _as_sent(name: str) -> bytes:
    """Return a host as browsers write it into the header Host."""
    try:
        return f"[{name}]".encode() if ":" in name else name.lower().encode("idna")
    except UnicodeError:
        return name.encode()


def _text(value: bytes) -> str:
    return shown(value.decode("latin-1"))
