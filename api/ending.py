"""A server whose streams end by themselves when it does. It must not know what they send.

uvicorn waits for connections to be idle before it tells the application that it ends; a stream never is.
"""

import socket
from collections.abc import Callable

import uvicorn


class EndingServer(uvicorn.Server):
    """uvicorn, which tells the application before it waits."""

    def __init__(self, config: uvicorn.Config, at_end: Callable[[], None]) -> None:
        """Serve.

        Args:
            config: What and how.
            at_end: Is called in the event loop when the server begins to end.
        """
        super().__init__(config)
        self._at_end = at_end

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End."""
        self._at_end()
        await super().shutdown(sockets)
