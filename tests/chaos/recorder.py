"""Records what a process does to files below a folder: names, syncs, and the contents as of each sync."""

import builtins
import contextlib
import io
import os
import pickle
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MOVES = {"link": "link", "replace": "replace", "rename": "replace"}


@dataclass(frozen=True)
class Operation:
    """One operation on paths relative to the folder, or an acknowledgement between two of them."""

    what: str  # mkdir | create | sync | sync folder | link | replace | unlink | ack
    path: str
    new_path: str = ""
    content: bytes = b""

    @staticmethod
    def save(operations: "list[Operation]", path: Path) -> None:
        path.write_bytes(pickle.dumps(operations))

    @staticmethod
    def load(path: Path) -> "list[Operation]":
        loaded: list[Operation] = pickle.loads(path.read_bytes())
        return loaded


class Recorder:
    """Stands between a process and what `os` and `open` do, and notes it. What failed is not noted."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.operations: list[Operation] = []
        self._open = io.open
        self._real = {name: getattr(os, name) for name in ("fsync", "mkdir", "unlink", "remove", *MOVES)}

    def start(self) -> None:
        os.fsync, os.mkdir = self.fsync, self.mkdir
        os.unlink = os.remove = self.unlink
        for name in MOVES:
            setattr(os, name, self._moving(name))
        io.open = builtins.open = self.open  # type: ignore[assignment]

    def stop(self) -> None:
        for name, function in self._real.items():
            setattr(os, name, function)
        io.open = builtins.open = self._open

    def fsync(self, file: Any) -> None:
        number = file if isinstance(file, int) else file.fileno()
        place = Path(f"/proc/self/fd/{number}")
        path = self._below(place.readlink())
        self._real["fsync"](number)
        if stat.S_ISDIR(os.fstat(number).st_mode):
            self._say("sync folder", path)
        else:
            self._say("sync", path, content=self._read(place))

    def mkdir(self, path: Any, *arguments: Any, **options: Any) -> None:
        self._real["mkdir"](path, *arguments, **options)
        self._say("mkdir", self._below(path))

    def unlink(self, path: Any, **options: Any) -> None:
        self._real["unlink"](path, **options)
        self._say("unlink", self._below(path))

    def open(self, file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        is_new = bool(set(mode) & set("wxa")) and not isinstance(file, int) and not Path(file).exists()
        opened = self._open(file, mode, *arguments, **options)
        if is_new:
            self._say("create", self._below(file))
        return opened

    def _moving(self, name: str) -> Callable[..., None]:
        def move(old: Any, new: Any, **options: Any) -> None:
            content = self._read(old) if self._below(old) and Path(old).is_file() else b""
            self._real[name](old, new, **options)
            self._say(MOVES[name], self._below(old), self._below(new) or "", content)

        return move

    def _below(self, path: Any) -> str | None:
        absolute = Path(os.fsdecode(path)).absolute()
        return str(absolute.relative_to(self.root)) if absolute.is_relative_to(self.root) else None

    def _say(self, what: str, path: str | None, new_path: str = "", content: bytes = b"") -> None:
        if path is not None:
            self.operations.append(Operation(what, path, new_path, content))

    def _read(self, path: Any) -> bytes:
        with self._open(path, "rb") as file:
            content: bytes = file.read()
            return content


@contextlib.contextmanager
def record(root: Path) -> Iterator[list[Operation]]:
    """Record while the context lasts. What libraries write by themselves is seen when its file is synced or named."""
    recorder = Recorder(root)
    recorder.start()
    try:
        yield recorder.operations
    finally:
        recorder.stop()
