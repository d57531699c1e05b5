"""The numbers of GET /metrics: of requests, of the index, of the lake, and of this process.

Labels are bounded: templates of routes instead of paths, kinds of reasons instead of reasons.
"""

import json
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import accumulate
from typing import Final, Generic, TypeVar

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from api.dependencies import Service
from api.observe import BUCKETS_S, Traffic
from storage.drift import Outcome, count_waiting, count_windows, is_drifting
from storage.errors import StorageError
from storage.index import Index

T = TypeVar("T")

log = logging.getLogger(__name__)

COUNTED_S: Final = 10.0
"""For so long what was counted is given again: a count of a million files takes tens of milliseconds."""

REASONS: Final = {
    "undecodable": "cannot be decoded%",
    "no-samples": "has no samples%",
    "too-long": "lasts more than%",
    "too-much-memory": "takes more than % GiB to decode%",
    "too-slow": "takes more than % s to decode%",
    "too-many-channels": "has % channels%",
    "sample-rate": "has a sample rate of %",
    "ends-decoder": "ends the process that decodes it%",
}
"""Why recordings are rejected, by how ingest's reasons begin."""

_KIND: Final = "CASE " + " ".join(f"WHEN reason LIKE '{like}' THEN '{kind}'" for kind, like in REASONS.items())
_COUNT: Final = (
    f"SELECT status, CASE WHEN status = 'rejected' THEN {_KIND} ELSE 'other' END END AS reason, count(*) AS count"  # noqa: S608
    " FROM files GROUP BY ALL"
)
_LAST: Final = (
    "SELECT started_at, committed_at, counts FROM entries WHERE op = 'refresh'"
    " AND seq NOT IN (SELECT seq FROM withheld) ORDER BY seq DESC LIMIT 1"
)


def registry(service: Service, traffic: Traffic) -> CollectorRegistry:
    """Return the numbers of one application, which are those of its process's scrapes."""
    made = CollectorRegistry()
    made.register(Requests(traffic))
    made.register(LakeNumbers(service))
    ProcessCollector(registry=made)
    return made


class Requests(Collector):
    """What clients asked for."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic

    def collect(self) -> Iterator[Metric]:
        """Yield the numbers so far."""
        labels = ("method", "route", "status")
        count = CounterMetricFamily("audiophile_requests", "Requests answered.", labels=labels)
        sent = CounterMetricFamily("audiophile_response_bytes", "Bytes of answers' bodies.", labels=labels)
        took = HistogramMetricFamily(
            "audiophile_request_seconds",
            "From a request's headers to the end of its answer.",
            labels=("method", "route"),
        )
        by_route: dict[tuple[str, str], tuple[list[int], float]] = {}
        for (method, route, status), answered in list(self._traffic.answered.items()):
            count.add_metric((method, route, str(status)), answered.count)
            sent.add_metric((method, route, str(status)), answered.sent_bytes)
            buckets, seconds = by_route.get((method, route), ([0] * len(answered.buckets), 0.0))
            summed = [one + other for one, other in zip(buckets, answered.buckets, strict=True)]
            by_route[method, route] = summed, seconds + answered.seconds
        bounds = [f"{bound:g}" for bound in BUCKETS_S] + ["+Inf"]
        for labelled, (buckets, seconds) in by_route.items():
            took.add_metric(labelled, list(zip(bounds, accumulate(buckets), strict=True)), seconds)
        yield from (count, sent, took)
        yield GaugeMetricFamily("audiophile_requests_under_way", "Requests under way.", self._traffic.under_way)


class LakeNumbers(Collector):
    """What the index has, and how far it is behind."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._files = FileCounts(service.index)
        self._drift = DriftCounts(service.index)

    def collect(self) -> Iterator[Metric]:
        """Yield the numbers; those that need the store are missing while it cannot be used."""
        service = self._service
        yield InfoMetricFamily("audiophile", "This Audiophile.", {"version": version("audiophile")})
        lag_s = service.lag_s()
        yield _gauge("index_lag_seconds", "Since the index was last seen to have the whole log.", lag_s)
        if lag_s == math.inf:
            return  # to ask it is to wait until it is open
        yield _gauge("index_applied_seq", "The last log entry whose rows the index has.", service.index.applied_seq)
        try:
            yield _gauge("index_lag_entries", "Log entries that the index lacks.", service.index.entries_behind())
        except StorageError as error:
            log.warning("how far the index is behind cannot be said: %s", error)
        held = len(service.index.undecided())
        yield _gauge("held_references", "References that are held back until somebody decides.", held)
        yield from self._refresh()
        yield from self._files.collect()
        yield from self._drift.collect()

    def _refresh(self) -> Iterator[Metric]:
        rows = self._service.index.query(_LAST)
        if not rows:
            return
        started_at, committed_at = rows[0]["started_at"], rows[0]["committed_at"]
        took_s = (committed_at - started_at).total_seconds()
        audio_s = float(json.loads(rows[0]["counts"]).get("audio_s", 0))
        age_s = (datetime.now(UTC) - committed_at).total_seconds()
        yield _gauge("last_reference_age_seconds", "Since the newest reference was published.", age_s)
        yield _gauge("last_refresh_seconds", "What the refresh that made it took.", took_s)
        yield _gauge("last_refresh_audio_seconds", "Audio that it scored.", audio_s)
        speed = audio_s / took_s if took_s > 0 else 0.0
        yield _gauge("last_refresh_audio_seconds_per_second", "Audio that it scored in a second.", speed)


class Counted(Generic[T]):
    """What is counted again only when the log has something new, and then once in COUNTED_S at most."""

    def __init__(self, index: Index, count: Callable[[], T]) -> None:
        self._index, self._count = index, count
        self._lock = threading.Lock()
        self._last: tuple[int, float, T] | None = None  # as of which log entry, when, and what

    def get(self) -> T:
        """Return what was counted last, or is now."""
        with self._lock:
            seq = self._index.applied_seq
            if self._last is not None:
                of_seq, counted_s, counted = self._last
                if seq == of_seq or time.monotonic() - counted_s <= COUNTED_S:
                    return counted
            counted = self._count()
            self._last = seq, time.monotonic(), counted
            return counted


class FileCounts:
    """How many files there are of each status, and why some were rejected."""

    def __init__(self, index: Index) -> None:
        self._rows = Counted(index, lambda: index.query(_COUNT))

    def collect(self) -> Iterator[Metric]:
        """Yield the counts."""
        files = GaugeMetricFamily("audiophile_files", "Files by status.", labels=("status",))
        rejected = GaugeMetricFamily("audiophile_rejected_files", "Rejected files by reason.", labels=("reason",))
        statuses = dict.fromkeys(("accepted", "rejected"), 0)
        reasons = dict.fromkeys((*REASONS, "other"), 0)
        for row in self._rows.get():
            statuses[row["status"]] = statuses.get(row["status"], 0) + row["count"]
            if row["status"] == "rejected":
                reasons[row["reason"]] += row["count"]
        for status, count in statuses.items():
            files.add_metric((status,), count)
        for reason, count in reasons.items():
            rejected.add_metric((reason,), count)
        yield from (files, rejected)


@dataclass(frozen=True, slots=True)
class _Drift:
    windows: dict[Outcome, int]
    is_drifting: bool
    waiting: int


class DriftCounts:
    """What windows said, whether there is drift now, and how many recordings wait for a window."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._counted = Counted(index, self._count)

    def collect(self) -> Iterator[Metric]:
        """Yield the counts."""
        counted = self._counted.get()
        windows = GaugeMetricFamily(
            "audiophile_drift_windows",
            "Closed windows by verdict; model_change: comparisons of two versions of a model.",
            labels=("verdict",),
        )
        for verdict, count in counted.windows.items():
            windows.add_metric((verdict,), count)
        yield windows
        yield _gauge("drift", "1 where the last window that said anything said drift, else 0.", counted.is_drifting)
        yield _gauge("drift_waiting_recordings", "Recordings that wait for a window to close.", counted.waiting)

    def _count(self) -> _Drift:
        with self._index.at_once():
            return _Drift(count_windows(self._index), is_drifting(self._index), count_waiting(self._index))


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(f"audiophile_{name}", meaning, value)
