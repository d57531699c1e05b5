"""Starts the processes of runs by forking one that has Prefect and the flows imported already.

A new interpreter spends 3 to 5 CPU seconds on those imports, whatever there is to do; a fork none. What is forked has
imported them and used none: no client, no pool and no thread of Prefect's exists in it, and it has no torch. It must
not know what a run does. Where it cannot fork, as it is gone or the system is not Linux, Prefect starts interpreters.
"""

import asyncio
import ctypes
import gc
import importlib
import json
import logging
import os
import random
import runpy
import select
import signal
import socket
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from prefect.runner import _starter_engine

from flows.leftovers import mark_run
from flows.runs import forget_main
from storage.settings import get_settings

log = logging.getLogger(__name__)

PRELOADED: Final = (
    "prefect.flow_engine",
    "flows.ingest",
    "flows.infer",
)
"""What runs of every two minutes import. Not flows.drift: polars starts threads when it is imported."""

_STARTER: Final[Any] = _starter_engine
"""Starts runs by the function `run_process` that it finds in itself; another may be put there, its docstring says."""

_WARM_NAME, _RUN_NAME = b"audiophile-warm", b"audiophile-run"  # of processes, 15 characters at most
_PR_SET_NAME: Final = 15
_TOLD: Final = frozenset({signal.SIGTERM, signal.SIGINT})
_LENGTH_BYTES: Final = 4

FORK_WITHIN_S: Final = 60.0
"""A warm process that takes longer hangs, and is given up."""


@dataclass(slots=True)
class ForkedRun:
    """The process of a run, as Prefect's runner looks at one."""

    pid: int
    returncode: int | None = None


class WarmStarts:
    """Has the warm process fork; takes the place of Prefect's `run_process`."""

    def __init__(self, control: socket.socket, warm: int) -> None:
        self._control, self._warm = control, warm
        self._run_process = _STARTER.run_process

    async def run_process(
        self,
        command: list[str],
        *,
        task_status: Any,
        task_status_handler: Any,
        env: Mapping[str, str],
        cwd: Any = None,
        **others: Any,
    ) -> Any:
        """Fork a run, tell Prefect's runner of it, and return when it has ended."""
        try:
            reader, writer, run = await self._forked(env, cwd)
        except (OSError, EOFError) as error:
            log.warning("the warm process is gone, and runs start slowly until the service is started again: %r", error)
            return await self._run_process(
                command=command, task_status=task_status, task_status_handler=task_status_handler, env=env, cwd=cwd,
                **others,
            )  # fmt: skip
        try:
            task_status.started(task_status_handler(run))
            code = await reader.readline()
            run.returncode = int(code) if code else -signal.SIGKILL  # who would know has ended, and so has the run
        finally:
            writer.close()
        return run

    def end(self) -> None:
        """End the warm process; what it has forked goes on."""
        self._control.close()
        os.waitpid(self._warm, 0)

    async def _forked(
        self, env: Mapping[str, str], cwd: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, ForkedRun]:
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._control, [b"run"], [theirs.fileno()])
        reader, writer = await asyncio.open_connection(sock=ours)
        request = json.dumps({"env": dict(env), "cwd": None if cwd is None else str(cwd)}).encode()
        writer.write(len(request).to_bytes(_LENGTH_BYTES) + request)
        try:
            pid = await asyncio.wait_for(reader.readline(), FORK_WITHIN_S)
            if not pid:
                raise EOFError("it closed the connection")
        except (EOFError, TimeoutError):
            os.kill(self._warm, signal.SIGKILL)  # or it might fork the same run later
            writer.close()
            raise
        return reader, writer, ForkedRun(int(pid))


@dataclass(slots=True)
class _Warm:
    """The warm process: forks on demand, and tells how each run ended."""

    control: socket.socket
    runs: dict[int, tuple[int, socket.socket]] = field(default_factory=dict)  # by the pidfd of the process

    def serve(self) -> dict[str, Any]:
        """Return in each process that is a run, with what was asked for; end with who asks."""
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd != self.control.fileno():
                    poll.unregister(fd)
                    self._reap(fd)
                    continue
                _, fds, _, _ = socket.recv_fds(self.control, 16, 1)
                if not fds:
                    os._exit(0)  # what serves is gone; runs end on their own
                connection = socket.socket(fileno=fds[0])
                request = _received(connection)
                if request is None:
                    connection.close()
                elif pid := os.fork():
                    pidfd = os.pidfd_open(pid)
                    self.runs[pidfd] = (pid, connection)
                    poll.register(pidfd, select.POLLIN)
                    _tell(connection, pid)
                else:
                    self._leave()
                    connection.detach()  # stays open: it is closed when this process and the one that forks are gone
                    return request

    def _reap(self, pidfd: int) -> None:
        pid, connection = self.runs.pop(pidfd)
        _, status = os.waitpid(pid, 0)
        os.close(pidfd)
        _tell(connection, os.waitstatus_to_exitcode(status))
        connection.close()

    def _leave(self) -> None:
        """Close in a run what belongs to others."""
        self.control.close()
        for pidfd, (_, connection) in self.runs.items():
            os.close(pidfd)
            connection.close()


def start_warm() -> None:
    """Fork the warm process, and have Prefect's runner of this one start runs from it.

    Call it before anything of Prefect is used. In the processes of runs it does not return, but raises SystemExit.
    """
    if not _can_fork():
        return
    for name in PRELOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what is imported stays where it is, and so in memory that all these processes share
    sys.stdout.flush()
    sys.stderr.flush()
    control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)  # BLAS, jemalloc: may be
    if warm := os.fork():
        theirs.close()
        _STARTER.run_process = WarmStarts(control, warm).run_process
        return
    control.close()
    signal.pthread_sigmask(signal.SIG_BLOCK, _TOLD)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    _name_process(_WARM_NAME)
    _become(_Warm(theirs).serve())


def end_warm() -> None:
    """End the warm process, if there is one; runs go on."""
    starts = getattr(_STARTER.run_process, "__self__", None)
    if isinstance(starts, WarmStarts):
        starts.end()


def _can_fork() -> bool:
    """Say whether this system has what is used here; containers may forbid some of it."""
    if sys.platform != "linux":
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
        os.close(os.memfd_create("audiophile"))
    except OSError as error:
        log.warning("runs start slowly, as nothing can be forked here: %s", error)
        return False
    return True


def _become(request: dict[str, Any]) -> None:
    """Be the process of a run, as `python -m prefect.engine` is one, to its end."""
    from prefect.context import refresh_global_settings_context  # noqa: PLC0415

    _name_process(_RUN_NAME)
    os.environ.clear()
    os.environ.update(request["env"])
    if request["cwd"] is not None:
        os.chdir(request["cwd"])
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _TOLD)
    mark_run(os.environ["PREFECT__FLOW_RUN_ID"])
    random.seed()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    refresh_global_settings_context()
    get_settings.cache_clear()  # `.env` may have changed
    sys.argv = ["prefect.engine"]
    forget_main()
    warnings.filterwarnings("ignore", ".*found in sys.modules", RuntimeWarning, "runpy")
    runpy.run_module("prefect.engine", run_name="__main__")
    raise SystemExit(0)


def _name_process(name: bytes) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_NAME, name, 0, 0, 0)


def _received(connection: socket.socket) -> dict[str, Any] | None:
    """Return what is asked for; None where who asks is gone."""
    with connection.makefile("rb") as stream:
        length = stream.read(_LENGTH_BYTES)
        content = stream.read(int.from_bytes(length)) if len(length) == _LENGTH_BYTES else b""
    return json.loads(content) if content else None


def _tell(connection: socket.socket, number: int) -> None:
    try:
        connection.sendall(b"%d\n" % number)
    except OSError:
        log.debug("nobody waits for this run any more")
