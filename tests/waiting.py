"""Waiting for what real processes do in their own time."""

import contextlib
import time
from collections.abc import Callable
from typing import TypeVar

import httpx

T = TypeVar("T")


def wait_for(
    what: str,
    probe: Callable[[], T | None],
    seconds: float = 120,
    every_s: float = 0.3,
    passing: type[Exception] = httpx.TransportError,
) -> T:
    """Return what a probe finds as soon as it finds something.

    Args:
        what: Its name in the error.
        probe: Returns what is waited for, or something false.
        seconds: How long to wait.
        every_s: The pause between two looks.
        passing: What a probe may raise meanwhile: a service that does not answer yet is asked again.

    Raises:
        AssertionError: Nothing is found in time.
    """
    give_up_at = time.monotonic() + seconds
    while time.monotonic() < give_up_at:
        with contextlib.suppress(passing):
            if found := probe():
                return found
        time.sleep(every_s)
    raise AssertionError(f"no {what} after {seconds:g} s")
