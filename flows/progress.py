"""A progress bar in Prefect's UI. It fails no run: what is shown of work is not the work."""

import time
from typing import Final
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from flows.story import at_best

EVERY_S: Final = 3.0
"""It is shown no sooner again, however fast work is done, as telling takes time of its own."""


class Progress:
    """How far a run is, shown while it runs."""

    def __init__(self, key: str, total: float, unit: str) -> None:
        self._total, self._unit, self._done = total, unit, 0.0
        artifact = at_best(lambda: create_progress_artifact(0, key=key, description=self._description()))
        self._artifact = artifact if isinstance(artifact, UUID) else None  # a coroutine only inside an event loop
        self._shown_at = time.monotonic()

    def add(self, amount: float) -> bool:
        """Say that so much more of the total is done; return whether that was shown."""
        self._done += amount
        if self._done < self._total and time.monotonic() - self._shown_at < EVERY_S:
            return False
        self.show()
        return True

    def show(self) -> None:
        """Show how far it is."""
        self._shown_at = time.monotonic()
        if (artifact := self._artifact) is not None:
            percent = min(100.0, 100 * self._done / self._total) if self._total else 100.0
            at_best(lambda: update_progress_artifact(artifact, percent, description=self._description()))

    def _description(self) -> str:
        return f"{self._done:.0f} of {self._total:.0f} {self._unit}"
