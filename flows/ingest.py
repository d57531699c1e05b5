"""The flow that takes recordings in: copies them into the media store, decodes them once, accepts or rejects them."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed

from features.errors import AudioError
from flows.bucket import InBucket, Look, look_into, read_cursor, write_cursor
from flows.decoder import Decoder
from flows.heartbeat import heartbeat
from flows.progress import Progress
from flows.register import Seen, Source, register, statuses, unaccepted
from flows.runs import commit_key, end_quietly, outlast_server
from flows.story import Rejected, Rejections, at_best, name_run, run_name
from flows.watch import Candidate, Folder, demo, look
from storage.errors import StoreError
from storage.inbox import Receipt
from storage.index import PLANNING_TABLES, Index
from storage.lake import Lake
from storage.media import Blob
from storage.peaks import Waveform
from storage.settings import Settings, get_settings
from storage.uploads import open_uploads

BATCH_FILES: Final = 200  # a batch is published at once, so that a big folder shows up bit by bit
BATCH_BYTES: Final = 1 << 30
BATCH_S: Final = 20.0
BUDGET_S: Final = 90.0  # no batch starts later; the next run goes on

CURSOR: Final = "bucket.json"  # in the folder of this host's own

Waiting = Receipt | Candidate | InBucket
Statuses = dict[UUID, tuple[str, str | None]]
"""Status and reason of recordings."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What a batch came to."""

    items: int  # of the batch, from its beginning
    counts: dict[str, float]
    rejected: list[Rejected]  # that were not, or for another reason, before


@flow(
    name="ingest",
    flow_run_name=run_name,
    description="Take in uploads, new files of the watched folder, and new objects of the bucket.",
)
def ingest() -> State[Any]:
    """Ingest what waits, in batches, newest first."""
    end_quietly()
    outlast_server()
    started, settings = time.monotonic(), get_settings()
    lake = Lake.open(settings.place)
    with heartbeat(), lake.index(PLANNING_TABLES) as index, Decoder(settings.max_duration_h * 3600) as decoder:
        counts = ingest_all(settings, lake, index, decoder)
    row = {**counts, "seconds": round(time.monotonic() - started, 1)}
    at_best(lambda: create_table_artifact(key="ingest", description="What came in", table=[row]))
    message = in_words(counts) or "Nothing new"
    name_run(message)
    return Completed(message=message)


def in_words(counts: Mapping[str, float]) -> str:
    """Return what was counted, but for nothings."""
    return ", ".join(f"{count:g} {name}" for name, count in counts.items() if count)


def ingest_all(settings: Settings, lake: Lake, index: Index, decoder: Decoder) -> dict[str, int]:
    """Ingest batch by batch until nothing waits or the budget is spent; return the counts.

    Uploads that arrive meanwhile come before the rest of the folder, which may be large.
    """
    started, logger = time.monotonic(), get_run_logger()
    counts = dict.fromkeys(("accepted", "rejected", "sources", "skipped"), 0)
    folder, bucket = whats_new(settings, index), whats_new_in_bucket(settings, lake, index)
    candidates: list[Waiting] = [*folder.candidates, *(bucket.candidates if bucket else [])]
    gone = folder.gone + (bucket.gone if bucket else [])
    seen: set[Waiting] = set()
    number = 0
    progress: Progress | None = None
    rejections = Rejections(settings.public_url)
    while time.monotonic() - started < BUDGET_S:
        everything: list[Waiting] = [*lake.inbox.receipts(), *candidates]
        waiting = [item for item in everything if item not in seen]
        batch = next_batch(waiting)
        if not batch and not gone:
            break
        if progress is None:
            looked_s = time.monotonic() - started
            logger.info("waiting: %d files; gone: %d (%.1f s)", len(waiting), len(gone), looked_s)
            progress = Progress("ingest-progress", len(waiting), "files")
        taken = ingest_batch(lake, index, decoder, batch, gone, number)
        counts = {name: count + int(taken.counts.get(name, 0)) for name, count in counts.items()}
        progress.add(taken.items)
        rejections.tell(taken.rejected)
        seen.update(batch[: taken.items])  # what could not be read waits for the next run
        number, gone = number + 1, []
    rejections.end()
    if bucket:
        write_cursor(
            settings.local / CURSOR, bucket.all_taken if seen.issuperset(bucket.candidates) else bucket.left_over
        )
    return counts


def whats_new(settings: Settings, index: Index) -> Folder:
    """Look into the watched folder; an empty store gets the demo as well."""
    if settings.is_watched and not settings.watched_folder.is_dir():
        get_run_logger().warning("the watched folder %s is not there: uploads only", settings.watched_folder)
    found = look(settings.watched_folder, index, settings.settle_s) if settings.is_watched else Folder([], [])
    if settings.demo and not index.query("SELECT 1 FROM files LIMIT 1"):
        return Folder([*demo(), *found.candidates], found.gone)
    return found


def whats_new_in_bucket(settings: Settings, lake: Lake, index: Index) -> Look | None:
    """Look into the bucket of uploads, where one is set; one that cannot be reached keeps nothing else waiting.

    Uploads that wait with a receipt are left out: their bytes are in the lake already.
    """
    bucket = open_uploads(settings)
    if bucket is None:
        return None
    try:
        found = look_into(bucket, index, read_cursor(settings.local / CURSOR, bucket.name))
    except StoreError as error:
        get_run_logger().warning("the bucket is passed over: %s", error)
        return None
    here = {(receipt.uri, receipt.etag) for receipt in lake.inbox.receipts()} if found.candidates else set()
    return replace(found, candidates=[item for item in found.candidates if (item.uri, item.etag) not in here])


def next_batch(waiting: list[Waiting]) -> list[Waiting]:
    """Return what to take in next: uploads and the demo before files of the folder, the newest of each first."""
    batch: list[Waiting] = []
    size_bytes = 0
    for item in sorted(waiting, key=_urgency, reverse=True):
        size_bytes += item.size_bytes
        if batch and (len(batch) == BATCH_FILES or size_bytes > BATCH_BYTES):
            break
        batch.append(item)
    return batch


@task(name="batch", task_run_name="batch {number}", cache_policy=NO_CACHE)
def ingest_batch(
    lake: Lake, index: Index, decoder: Decoder, batch: list[Waiting], gone: list[str], number: int
) -> Taken:
    """Store and decode what `batch` begins with, for BATCH_S at most, and publish it."""
    logger, started_at, started = get_run_logger(), datetime.now(UTC), time.monotonic()
    sources: list[Source] = []
    facts: dict[str, dict[str, Any]] = {}
    receipts: list[Receipt] = []
    taken = 0
    for item in batch:
        if taken and time.monotonic() - started > BATCH_S:
            break
        taken += 1
        try:
            source = _stored(lake, index, item)
            if source is None:
                logger.warning("passed over: %s changed while it was read; the next run takes it", item.name)
                continue
            if source.blob.sha256 not in facts:
                facts |= _decoded(lake, index, decoder, source)
        except OSError as error:
            logger.warning("passed over: %s cannot be read: %s", item.name, error.strerror or error)
            continue
        sources.append(source)
        if isinstance(item, Receipt):
            receipts.append(item)
    before = statuses(index, sources)
    entry = register(lake, index, Seen(sources, facts, gone), commit_key(f"ingest/{number}"), started_at)
    known, erased = statuses(index, sources), index.erased(source.file_id for source in sources)
    for source in sources:
        if source.file_id in erased:
            lake.media.trash(source.blob.sha256, started_at)  # from where a lifted tombstone can still have them
            lake.media.remove_beside(source.blob.sha256)
            logger.warning("erased: %s is not taken in again; remove it from %s", source.name, source.uri)
    for receipt in receipts:
        if receipt.file_id in known or receipt.file_id in erased:
            lake.inbox.remove(receipt)
    counts = {**(entry.counts if entry else {}), "skipped": taken - len(sources)}
    logger.info("batch %d: %s (%.1f s)", number, in_words(counts) or "nothing new", time.monotonic() - started)
    return Taken(taken, counts, _rejected(sources, before, known))


def _rejected(sources: list[Source], before: Statuses, now: Statuses) -> list[Rejected]:
    """Return the recordings that are rejected now, and were not for the same reason before."""
    by_id = {source.file_id: source.name for source in reversed(sources)}
    return [
        Rejected(file_id, name, now[file_id][1] or "")
        for file_id, name in by_id.items()
        if now.get(file_id, ("",))[0] == "rejected" and before.get(file_id) != now[file_id]
    ]


def _stored(lake: Lake, index: Index, item: Waiting) -> Source | None:
    """Bring the bytes into the media store; None when they changed meanwhile.

    Raises:
        OSError: They cannot be read.
    """
    if isinstance(item, Receipt):
        if not lake.media.has(item.sha256) and not index.erased([item.file_id]):
            raise FileNotFoundError(f"its bytes {item.sha256} are not in the media store")
        kind, uri = ("s3", item.uri) if item.uri else ("upload", f"upload:{quote(item.name, errors='replace')}")
        blob, mtime_ns = Blob(item.sha256, item.size_bytes), int(item.received_at.timestamp() * 1e9)
        return Source(blob, kind, uri, item.name, mtime_ns, item.received_at, item.etag)
    with item.open() as content, lake.media.staged(content) as staged:
        blob = staged.blob
        if not index.erased([blob.file_id]):
            lake.media.keep(staged)
    if not item.unchanged():
        return None
    return Source(blob, item.kind, item.uri, item.title(), item.mtime_ns, datetime.now(UTC), item.etag)


def _decoded(lake: Lake, index: Index, decoder: Decoder, source: Source) -> dict[str, dict[str, Any]]:
    """Return a recording's row of the table files, by its hash, if it is to be decoded; none otherwise.

    One that was taken in before there were peaks, or lost them, gets them now.

    Raises:
        OSError: Its bytes cannot be read.
    """
    sha256 = source.blob.sha256
    if unaccepted(index, [source]):
        return {sha256: _facts(lake, decoder, source.blob)}
    if not index.erased([source.file_id]) and not lake.media.has_peaks(sha256):
        _facts(lake, decoder, source.blob)
    return {}


def _facts(lake: Lake, decoder: Decoder, blob: Blob) -> dict[str, Any]:
    """Decode a recording, keep its peaks, and return its row of the table files.

    Raises:
        OSError: Its bytes cannot be read.
    """
    row = {
        "file_id": blob.file_id,
        "sha256": blob.sha256,
        "size_bytes": blob.size_bytes,
        "ingested_at": datetime.now(UTC),
    }
    try:
        with lake.media.on_disk(blob.sha256) as path:
            info, peaks = decoder.probe(path)
    except AudioError as error:
        return {**row, "status": "rejected", "reason": str(error)}
    try:
        lake.media.put_peaks(blob.sha256, Waveform(info.sample_rate, peaks.samples_per_pixel, peaks.values).encode())
    except StoreError as error:  # a recording without its picture is still one
        get_run_logger().warning("%s has no peaks: %s", blob.file_id, error)
    return {
        **row,
        "status": "accepted",
        "duration_s": info.duration_s,
        "sample_rate": info.sample_rate,
        "channels": info.channels,
        "format": info.format,
    }


def _urgency(item: Waiting) -> tuple[bool, int]:
    if isinstance(item, Receipt):
        return True, int(item.received_at.timestamp() * 1e9)
    return item.kind == "demo", item.mtime_ns
