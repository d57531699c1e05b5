"""The steps of the protocol, by name, where a fault may strike. Only tests set `on_step`."""

from collections.abc import Callable
from typing import Final

COMMIT_STEPS: Final = (
    "planned",  # the draft exists in memory only
    "bytes written",  # a hidden file holds the bytes, which are not synced
    "bytes synced",  # ... and are, but have no name
    "bytes placed",  # they have their name, whose folder is not synced
    "tables written",  # every Parquet file is durable, and no log entry names any
    "head found",  # the next place in the log is known
    "entry put",  # the log entry is there, and its writer does not know it yet
    "read back",  # its writer knows
)
MAINTENANCE_STEPS: Final = (
    "expired",
    "rewritten",
    "snapshot written",
    "snapshot published",
    "orphans found",
    "orphans given up",
    "file removed",
    "snapshot removed",
    "blob trashed",
    "erasure committed",
    "audio erased",
    "erasure folded",
)

on_step: Callable[[str], None] | None = None


def reached(step: str) -> None:
    """Say that a step was reached."""
    if on_step is not None:
        on_step(step)
