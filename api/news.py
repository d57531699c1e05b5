"""How streams learn that the log has news, and that the service ends. It must not know what they send.

All streams that wait are at the same position, so one look at the index serves them all.
"""

import asyncio
import contextlib
from typing import Final

from anyio import to_thread
from cachetools import LRUCache

from storage.events import Batch, Position, events_after
from storage.index import Index

SHARED_LOOKS: Final = 8  # by streams at different positions


class News:
    """Wakes streams. Only `ring` may be called from any thread; everything else is the event loop's."""

    def __init__(self) -> None:
        self.streams = 0
        self.has_ended = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._next = asyncio.Event()
        self._turn = asyncio.Lock()
        self._looks: LRUCache[Position, Batch] = LRUCache(SHARED_LOOKS)

    def begin(self) -> None:
        """Begin to hear of news, in the event loop that runs now."""
        self._loop = asyncio.get_running_loop()

    def ring(self) -> None:
        """Say that the index has something new."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and so have all streams
                self._loop.call_soon_threadsafe(self._wake)

    def end(self) -> None:
        """End all streams: the service ends, and waits for connections to be idle."""
        self.has_ended = True
        self._wake()

    def next(self) -> asyncio.Event:
        """Return what is set once there is more than whoever looks after this call can see."""
        return self._next

    async def look(self, index: Index, position: Position) -> Batch:
        """Return what came after a position."""
        async with self._turn:
            found = self._looks.get(position)
            if found is None:
                during = self._next
                found = await to_thread.run_sync(events_after, index, position)
                if during is self._next:  # or else it may lack what is new
                    self._looks[position] = found
            return found

    def _wake(self) -> None:
        self._looks.clear()
        self._next.set()
        self._next = asyncio.Event()
