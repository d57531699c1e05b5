"""Turns SIGTERM into a wish that work in hand can look at, so that what is done by then is published, not lost.

It must not know what the work is.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(slots=True)
class Ending:
    """Whether the work in hand is to end.

    Attributes:
        is_wanted: SIGTERM has come.
        wake: Called when it comes, by the signal's handler: no more than `SimpleQueue.put`, which is reentrant.
    """

    is_wanted: bool = False
    wake: Callable[[], object] = lambda: None

    def want(self) -> None:
        """Have the work end."""
        self.is_wanted = True
        self.wake()


@contextmanager
def told_to_end() -> Iterator[Ending]:
    """Within the context, SIGTERM is kept from raising anything; it is told by what is yielded.

    Once it has come it is kept so until the process ends: Prefect's runner and honcho may send one each, and the second
    one would break off the commit that the first one asked for. Whoever sent it ends the process for good in time.
    """
    ending = Ending()
    if threading.current_thread() is not threading.main_thread():  # only that one is told
        yield ending
        return
    before = signal.signal(signal.SIGTERM, lambda *_: ending.want())
    try:
        yield ending
    finally:
        if not ending.is_wanted:
            signal.signal(signal.SIGTERM, before)
