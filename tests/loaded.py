"""Which libraries real processes have loaded."""

from pathlib import Path

import psutil


def has_loaded(process: psutil.Process, library: str) -> bool:
    """Say whether a process has loaded a library, by a part of its file's name; one that has ended has not."""
    try:
        return library in Path(f"/proc/{process.pid}/maps").read_text()
    except OSError:
        return False
