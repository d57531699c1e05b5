"""Servers that end with the tests, even if those are killed."""

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.waiting import wait_for

# Runs a command in a process group of its own until the one that started it closes the pipe, on purpose or by its own
# end, or the command has ended so many times.
RUN_WHILE_WANTED = """
import os, signal, subprocess, sys, threading
def keep():
    for _ in range(int(sys.argv[1])):
        code = subprocess.run(sys.argv[2:], stdin=subprocess.DEVNULL).returncode
    os._exit(code)
threading.Thread(target=keep, daemon=True).start()
sys.stdin.read()
os.killpg(0, signal.SIGKILL)
"""


@contextlib.contextmanager
def while_wanted(
    command: list[str], log: Path, variables: Mapping[str, str], times: int = 1
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server with these environment variables alone; yield the process that watches it and leads its group.

    Args:
        command: What runs it.
        log: Where its output goes.
        variables: All of its environment.
        times: How many times it is started, if it ends by itself.
    """
    with log.open("wb") as output:
        watcher = subprocess.Popen(
            [sys.executable, "-c", RUN_WHILE_WANTED, str(times), *command],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=variables,
            process_group=0,
        )
    try:
        yield watcher
    finally:
        with contextlib.suppress(OSError):
            watcher.stdin.close()
        watcher.wait(120)


def wait_for_port(port: int, log: Path, seconds: float = 180) -> None:
    """Return once a server listens on a port of this machine; the error has the end of its log."""

    def listens() -> bool:
        with socket.create_connection(("127.0.0.1", port), 1):
            return True

    try:
        wait_for(f"server on port {port}", listens, seconds, every_s=0.1, passing=OSError)
    except AssertionError as error:
        error.add_note(log.read_text(errors="replace")[-2000:])
        raise
