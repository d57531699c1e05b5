"""The headers that every answer carries, so that a browser does nothing with it that was not meant."""

from typing import Final

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CSP: Final = "default-src 'none'; media-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
DOCS_CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
"""Swagger UI styles its elements one by one, and has its icons in its stylesheet; it runs no script but its own."""

DOCS: Final = frozenset({"/docs", "/docs/"})

EXPOSED: Final = ("Link", "ETag", "Location", "Content-Range", "Accept-Ranges", "Content-Disposition", "Retry-After")
NOT_KEPT: Final = ((b"cache-control", b"private, no-cache"),)
"""Of answers that say nothing else: a cache that several share must not give one client what another may read."""

ASKED: Final = ("Authorization", "X-API-Key", "If-None-Match", "If-Range", "Range", "Last-Event-ID")


class SecureHeaders:
    """Middleware: adds the headers, where a browser may show an answer or a cache keep it."""

    def __init__(self, app: ASGIApp, cors: bool = False) -> None:
        self.app = app
        common = {
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "X-Frame-Options": "DENY",
            "Cross-Origin-Resource-Policy": "cross-origin" if cors else "same-origin",
        }
        self._plain = _raw(common | {"Content-Security-Policy": CSP})
        self._docs = _raw(common | {"Content-Security-Policy": DOCS_CSP})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        added = self._docs if scope["path"] in DOCS else self._plain

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent = message.get("headers", ())
                kept = () if any(name == b"cache-control" for name, _ in sent) else NOT_KEPT
                message["headers"] = [*sent, *added, *kept]
            await send(message)

        await self.app(scope, receive, with_headers)


def cors(app: ASGIApp, origins: tuple[str, ...]) -> CORSMiddleware:
    """Return middleware that lets web pages of these origins use the API. No cookie counts here, so none is let in."""
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("GET", "HEAD", "POST", "DELETE"),
        allow_headers=ASKED,
        expose_headers=EXPOSED,
        max_age=3600,
    )


def _raw(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]
