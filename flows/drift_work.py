"""What a run of the flow drift has to do, so that none starts in vain. It must not need torch."""

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from uuid import UUID

from flows.stages import ask_for_run
from storage.answers import changes
from storage.drift import Waiting, active_baseline, held, waiting
from storage.index import Index
from storage.settings import Settings


def ask_for_drift(index: Index, settings: Settings, now: datetime | None = None) -> None:
    """Ask for a run of the flow drift where there is work for one, once for the same work."""
    work = work_for_drift(index, settings, now or datetime.now(UTC))
    if not work:
        return
    key = hashlib.sha256(work.encode()).hexdigest()
    ask_for_run("drift", otherwise="nobody looks for drift", idempotency_key=f"drift-{key}")


def work_for_drift(index: Index, settings: Settings, now: datetime) -> str:
    """Return a description of the work that there is; empty: none. The same work has the same description.

    Args:
        index: Needs sources, coverage, baselines, drift_files and drift.
        settings: How large baselines and windows are.
        now: UTC.
    """
    recordings = waiting(index)
    utterances = sum(one.utterances for one in recordings)
    has_baseline = active_baseline(index) is not None
    wanted = settings.drift_window_utterances if has_baseline else settings.drift_baseline_min
    is_late = has_baseline and recordings and recordings[0].at + timedelta(hours=settings.drift_window_h) <= now
    free = [str(reference) for reference in passed(index, recordings)]
    windows = f"{recordings[0].file_id} {recordings[-1].seq}" if is_late or utterances >= wanted else ""
    changed = [str(one.comparison_id) for one in changes(index) if one.is_ripe(settings.drift_window_utterances)]
    return " ".join(filter(None, [windows, *free, *changed]))


def passed(index: Index, recordings: Iterable[Waiting]) -> list[UUID]:
    """Return the held references of which nothing waits for a window, and nothing that they brought has drifted.

    Before there is a baseline, nothing has anything to wait for.

    Args:
        index: Needs coverage, baselines, drift_files and drift.
        recordings: Those that wait.
    """
    waits = {one.file_id for one in recordings} if active_baseline(index) else set()
    return [one.reference for one in held(index) if not one.has_drifted and not one.file_ids & waits]
