"""A progress bar in Prefect's UI. It fails no run: what is shown of work is not the work."""

from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from flows.story import at_best


class Progress:
    """How far a run is, shown while it runs."""

    def __init__(self, key: str, total: float, unit: str) -> None:
        self._total, self._unit, self._done = total, unit, 0.0
        self._artifact: UUID | None = None
        with at_best():
            artifact = create_progress_artifact(0, key=key, description=self._description())
            self._artifact = artifact if isinstance(artifact, UUID) else None  # a coroutine only inside an event loop

    def add(self, amount: float) -> None:
        """Say that so much more of the total is done."""
        self._done += amount
        if self._artifact is not None:
            percent = min(100.0, 100 * self._done / self._total) if self._total else 100.0
            with at_best():
                update_progress_artifact(self._artifact, percent, description=self._description())

    def _description(self) -> str:
        return f"{self._done:.0f} of {self._total:.0f} {self._unit}"
