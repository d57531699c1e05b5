"""The flow that keeps a lake small and honest: erases, expires, rewrites, folds, and removes what nothing names.

Everything else goes on meanwhile. Each stage can be done again at any time, and one that was cut off is finished by the
next run.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import Field

from flows.heartbeat import heartbeat
from flows.progress import Progress
from flows.runs import commit_key, end_quietly, outlast_server
from flows.shards import MODELS
from flows.stages import ask_for_run, run_stage
from flows.story import at_best, name_run, run_name
from models.errors import GroupError
from models.group import load_group
from models.leftovers import clear
from storage.erasure import erase, lift, purge
from storage.errors import StorageError
from storage.index import Index
from storage.lake import Lake
from storage.log import LogEntry
from storage.manifest import newest_seq
from storage.retention import Retention, expire
from storage.rewrite import compact
from storage.settings import get_settings
from storage.snapshot import FOLD_AFTER, fold
from storage.uploads import open_uploads, remove_upload
from storage.vacuum import vacuum

Stage = Literal["erase", "expire", "compact", "fold", "vacuum"]
STAGES: Final[tuple[Stage, ...]] = ("erase", "expire", "compact", "fold", "vacuum")
MAX_ENTRIES: Final = 1_000  # of one stage in one run
ASK_AFTER: Final = 500
"""Log entries beyond the newest snapshot after which nobody should wait for the daily run."""

KeepReferences = Annotated[int | None, Field(ge=0)]
KeepDays = Annotated[float | None, Field(ge=0, le=36_500)]
GraceH = Annotated[float | None, Field(ge=6, le=8760)]
FoldAfter = Annotated[int, Field(ge=1)]
Ids = Annotated[tuple[UUID, ...], Field(max_length=10_000)]


@flow(
    name="maintain",
    flow_run_name=run_name,
    description="Erase, expire, rewrite small files, fold a snapshot, remove what nothing names.",
)
def maintain(
    stages: tuple[Stage, ...] = STAGES,
    erase_files: Ids = (),
    lift_files: Ids = (),
    keep_references: KeepReferences = None,
    keep_days: KeepDays = None,
    grace_h: GraceH = None,
    fold_after: FoldAfter = FOLD_AFTER,
) -> State[Any]:
    """Maintain the lake.

    Args:
        stages: What to do; always in the order of the default.
        erase_files: Recordings to erase for good: their ids, as the API shows them. Their bytes are not taken in again.
        lift_files: Erased recordings that may be taken in again, which brings nothing back: their ids.
        keep_references: Keep the last so many references of each file, 0: all. Default: KEEP_REFERENCES.
        keep_days: Keep references that are younger than so many days, 0: all. Default: KEEP_DAYS.
        grace_h: Remove what has not counted for longer than so many hours. Default: GRACE_H.
        fold_after: Make a snapshot once so many log entries have come since the newest one.
    """
    end_quietly()
    outlast_server()
    settings = get_settings()
    retention = Retention(
        settings.keep_references if keep_references is None else keep_references,
        settings.keep_days if keep_days is None else keep_days,
    )
    grace = timedelta(hours=settings.grace_h if grace_h is None else grace_h)
    lake = Lake.open(settings.place)
    done: dict[str, str] = {}
    failures: list[str] = []
    with heartbeat(), lake.index() as index:
        work: dict[Stage, Callable[[], str]] = {
            "erase": lambda: _erase(lake, index, erase_files, lift_files),
            "expire": lambda: _repeat("expire", lambda key: expire(lake, index, retention, key)),
            "compact": lambda: _repeat("compact", lambda key: compact(lake, index, key)),
            "fold": lambda: _fold(lake, index, fold_after),
            "vacuum": lambda: _vacuum(lake, index, grace),
        }
        asked = {*stages, "erase"} if erase_files or lift_files else set(stages)
        chosen = [stage for stage in STAGES if stage in asked]
        name_run(f"maintain: {', '.join(chosen) or 'no stage'}")
        progress = Progress("maintain-progress", len(chosen), "stages")
        for stage in chosen:
            try:
                done[stage] = run_stage(stage, work[stage])
            except StorageError as error:  # what keeps one stage from its work keeps none of the others
                done[stage] = f"failed: {error}"
                failures.append(f"{stage}: {error}")
            progress.add(1)
    at_best(lambda: create_table_artifact(key="maintain", description="What was done", table=[done]))
    if failures:
        return Failed(message="; ".join(failures))
    return Completed(message="; ".join(f"{stage}: {what}" for stage, what in done.items()))


def ask_for_fold(lake: Lake, index: Index) -> None:
    """Ask for a maintenance run that folds, once the log is long beyond the newest snapshot: readers begin there."""
    if index.applied_seq - index.start_seq < ASK_AFTER or index.applied_seq - newest_seq(lake.store) < ASK_AFTER:
        return
    lacking = "nobody folds snapshots, and starts get slower"
    ask_for_run("maintain", otherwise=lacking, parameters={"stages": ["fold"]})


def _erase(lake: Lake, index: Index, erase_files: tuple[UUID, ...], lift_files: tuple[UUID, ...]) -> str:
    if erase_files:
        erase(lake, index, erase_files, commit_key("erase"))
    if lift_files:
        lift(lake, index, lift_files, commit_key("lift"))
    purged = purge(lake, index, commit_key("purge"))
    if purged.recordings:
        from flows.drift_baselines import forget_fitted  # noqa: PLC0415  infer imports this module at every tick

        forget_fitted(lake.place)
    for reason in purged.waiting:
        get_run_logger().warning("an erasure is not finished, and the next run goes on with it: %s", reason)
    if (bucket := open_uploads(get_settings())) is not None:
        for file_id in index.erased():
            remove_upload(bucket, file_id)
    return f"{purged.recordings} recordings purged, {len(purged.waiting)} things wait for the next run"


def _repeat(name: str, step: Callable[[UUID], LogEntry | None]) -> str:
    """Commit again and again, until there is nothing left; say what was counted."""
    total: dict[str, float] = {}
    for number in range(MAX_ENTRIES):
        entry = step(commit_key(f"{name}/{number}"))
        if entry is None:
            break
        for count, value in entry.counts.items():
            total[count] = total.get(count, 0) + value
    return ", ".join(f"{value:g} {count.replace('_', ' ')}" for count, value in total.items()) or "nothing to do"


def _fold(lake: Lake, index: Index, after: int) -> str:
    index.catch_up()
    manifest = fold(lake.store, index, after=after)
    return f"snapshot {manifest.seq}" if manifest else "nothing to do"


def _vacuum(lake: Lake, index: Index, grace: timedelta) -> str:
    index.catch_up()
    gone = vacuum(lake, index, commit_key("vacuum"), grace=grace)
    unnamed = _clear_models(get_settings().place.local / MODELS)
    return (
        f"{gone.parquet_files} Parquet files, {gone.snapshots} snapshots, {gone.blobs} recordings that nobody needs, "
        f"{gone.unfinished} unfinished files, {gone.freed_bytes / 1e6:.1f} MB; "
        f"{unnamed} files of models that no entry names"
    )


def _clear_models(cache: Path) -> int:
    """Remove files of models that the group file names no more; none while it cannot be read, as other runs report."""
    with suppress(GroupError):
        return clear(cache, load_group(()).models)
    return 0
