"""Ports for the servers of tests, which bind them some time after they are chosen."""

import contextlib
import random
import socket
from typing import Final

RANGE: Final = range(20_000, 32_000)
"""Below those that systems give away by themselves, so that nothing takes one between its choice and its use."""

_CHOICE: Final = random.SystemRandom()  # hypothesis seeds the other one, in all processes of the tests alike


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on, all of them different."""
    found: list[int] = []
    with contextlib.ExitStack() as stack:
        while len(found) < count:
            port = _CHOICE.choice(RANGE)
            probe = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                found.append(port)
    return found


def free_port() -> int:
    """Return a port that nobody listens on."""
    return free_ports(1)[0]
