"""Runs the processes of the Procfile by honcho, and ends them in an order that lets work in hand be handed over.

It must not know what the processes do, but for one: Prefect's server ends last, so that runs can tell it how they
ended.
"""

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
        self._tell(self._processes.keys() - {LAST})
        give_up_at = time.monotonic() + HANDOVER_S
        while not self._ended(self._processes.keys() - {LAST}) and time.monotonic() < give_up_at:
            time.sleep(0.1)
        self._tell({LAST})

    def _tell(self, names: Collection[str]) -> None:
        for name in sorted(names):
            if not self._ended([name]) and (pid := self._processes[name].get("pid")) is not None:
                self._procmgr.terminate(pid)

    def _ended(self, names: Collection[str]) -> bool:
        return all("returncode" in self._processes[name] for name in names)


def main() -> None:
    """Run what the Procfile names until one of them ends, or a signal comes."""
    honcho.manager.KILL_WAIT = HANDOVER_S + 10  # LAST has to end as well
    manager = InTurn()
    for name, command in parse_procfile(Path("Procfile").read_text()).processes.items():
        manager.add_process(name, command)
    manager.loop()
    sys.exit(manager.returncode)


if __name__ == "__main__":
    main()
