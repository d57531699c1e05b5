"""Lets an answer reach a client that is still sending. It must not know what is asked.

A server that answers before it has read a body, and then closes, resets the connection, and the client may never see
why it was refused. So what still comes is read and thrown away for a while (RFC 9112, section 9.6), which the server
would otherwise do without an end, and the connection is closed then.
"""

import asyncio
import contextlib
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LINGER_S: Final = 2.0
QUIET_S: Final = 0.5
"""A client that sends nothing for so long has stopped."""


class Linger:
    """Middleware: ends requests whose body was not read to its end."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; only one with a body is looked at."""
        if scope["type"] != "http" or not _has_body(scope):
            await self.app(scope, receive, send)
            return
        is_read = False

        async def noted() -> Message:
            nonlocal is_read
            message = await receive()
            is_read = not message.get("more_body", False)
            return message

        async def sent(message: Message) -> None:
            if is_read:
                await send(message)
            elif message["type"] == "http.response.start":
                MutableHeaders(scope=message)["connection"] = "close"
                await send(message)
            elif message.get("more_body", False):
                await send(message)
            else:
                await send({**message, "more_body": True})
                await _read_away(receive)
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        await self.app(scope, noted, sent)


def _has_body(scope: Scope) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0") != b"")
        for name, value in scope["headers"]
    )


async def _read_away(receive: Receive) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            more = True
            while more:
                async with asyncio.timeout(QUIET_S):
                    more = (await receive()).get("more_body", False)
