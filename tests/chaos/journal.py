"""What a process of a scenario was told, on disk before it goes on: the truth that a lake is held to."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Journal:
    """A file of JSON lines, which survives the kill of its writer at any point."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def say(self, kind: str, **what: Any) -> None:
        """Write one line, which the process's own kill cannot take back any more."""
        line = json.dumps({"kind": kind, **what}, default=str)
        os.write(self._descriptor, f"\n{line}".encode())  # a line that a kill tore ends here

    def acknowledged(self, what: str, **facts: Any) -> None:
        """Write that something was acknowledged, synced."""
        self.say("ack", what=what, **facts)
        os.fsync(self._descriptor)


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a journal; nothing where there is none."""
    if path.exists():
        for line in path.read_text().splitlines():
            if line.endswith("}"):
                try:
                    yield json.loads(line)
                except json.JSONDecodeError:  # torn in the middle, at a brace
                    continue
