"""Runs the processes of the Procfile by honcho, and ends them in an order that lets work in hand be handed over.

It must not know what the processes do, but for one: Prefect's server ends last, so that runs can tell it how they
ended.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Collection
from pathlib import Path
from typing import Final

import honcho.manager
from honcho.environ import parse_procfile
from honcho.manager import Manager

HANDOVER_S: Final = 35.0
"""What is killed was told so long before. Prefect's runner gives its runs 30 s."""

LAST: Final = "prefect"


class InTurn(Manager):  # type: ignore[misc]  # honcho has no types
    """Tells LAST to end once the others have ended."""

    def __init__(self) -> None:
        super().__init__()
        self._told = False

    def terminate(self) -> None:
        """Tell the processes to end; return at once."""
        if not self._told:
            self._told = True
            threading.Thread(target=self._end, daemon=True).start()

    def _end(self) -> None:
        self._end_all(self._processes.keys() - {LAST})
        self._end_all(self._processes.keys() & {LAST})

    def _end_all(self, names: Collection[str]) -> None:
        """Tell processes to end, one that has just been started once its number is known, and wait for them."""
        untold, give_up_at = set(names), time.monotonic() + HANDOVER_S
        while not all("returncode" in self._processes[name] for name in names) and time.monotonic() < give_up_at:
            for name in sorted(untold):
                process = self._processes[name]
                if (pid := process.get("pid")) is not None:
                    untold.remove(name)
                    if "returncode" not in process:
                        self._procmgr.terminate(pid)
            time.sleep(0.1)


def main() -> None:
    """Run what the Procfile names until one of them ends, or a signal comes."""
    honcho.manager.KILL_WAIT = HANDOVER_S + 10  # LAST has to end as well
    manager = InTurn()
    for name, command in parse_procfile(Path("Procfile").read_text()).processes.items():
        manager.add_process(name, command)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as `nohup` has it
        signal.signal(signal.SIGHUP, _hang_up)
    manager.loop()
    sys.exit(manager.returncode)


def _hang_up(*_: object) -> None:
    """End as by Ctrl-C when the terminal is closed; nothing can be printed any more, and honcho would try."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
