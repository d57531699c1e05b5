"""Runs all tests: those of the whole service, which mostly wait for its schedule, beside the others.

What the service's tests say is shown once the others are done. It must not know what is tested.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

PROJECT: Final = Path(__file__).parents[1]
SERVICE: Final = "tests/system"
OTHERS: Final = ("-n", "2", "--dist", "loadfile", "--ignore", SERVICE)


def main() -> int:
    """Run all tests; return 0 if all passed."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    with (
        tempfile.TemporaryFile() as said,
        pytest(SERVICE, output=said) as service,
        pytest(*OTHERS) as others,
    ):
        failed = others.wait() != 0
        print(f"The tests of the whole service: {SERVICE}", flush=True)
        failed |= service.wait() != 0
        said.seek(0)
        print(said.read().decode(errors="replace"), flush=True)
    return int(failed)


@contextlib.contextmanager
def pytest(*arguments: str, output: IO[bytes] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run pytest; one that still runs at the end of the context is interrupted, once, and ends what it has started."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=PROJECT,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output and subprocess.STDOUT,
        process_group=0,  # of its own: a second Ctrl-C, of the terminal's, would cut its tidying short
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
            process.wait()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
