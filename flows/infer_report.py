"""What a run of infer says of itself: its name, its message and its table. It must not know how anything is scored."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from prefect.artifacts import create_table_artifact

from flows.story import at_best
from storage.log import LogEntry


def said_of(entries: Sequence[LogEntry]) -> str:
    """Return which references a run has made."""
    return ", ".join(f"{'Held reference' if entry.held else 'Reference'} {entry.reference}" for entry in entries)


def titled(entries: Sequence[LogEntry]) -> str:
    """Return the name of a run that made references, the last of them first."""
    last = entries[-1]
    count = sum(int(entry.counts["files"]) for entry in entries)
    what = "one-off" if last.group else "held reference" if last.held else "reference"
    more = f" and {len(entries) - 1} more" if len(entries) > 1 else ""
    return f"{what} {short(last.reference)}{more}: {count} files"


def short(reference: UUID | None) -> str:
    """Return what tells a reference from others in a name."""
    return str(reference)[:8]


def nothing_new(planned: int, scored: int, unavailable: Mapping[str, str]) -> str:
    """Say why there is no new reference."""
    if unavailable and not scored:
        return f"Nothing is missing, but for what cannot be loaded: {', '.join(sorted(unavailable))}"
    return "Others were faster" if planned else "Nothing is missing"


def report(entries: Sequence[LogEntry], seconds: float, unavailable: Mapping[str, str]) -> None:
    """Show in Prefect's UI what the run came to: a row for each reference."""

    def row(counts: Mapping[str, float], reference: UUID | None) -> dict[str, Any]:
        return {
            **{name: int(counts.get(name, 0)) for name in ("files", "utterances", "predictions", "failures")},
            "audio seconds": counts.get("audio_s", 0),
            "seconds": round(seconds, 1),  # of the run
            "reference": str(reference or ""),
            "unavailable models": "; ".join(unavailable.values()),
        }

    table = [row(entry.counts, entry.reference) for entry in entries] or [row({}, None)]
    description = "The refresh" if entries else "No new reference"
    at_best(lambda: create_table_artifact(key="infer", description=description, table=table))
