"""The numbers of GET /metrics: of requests, of the index, of the lake, and of this process.

Labels are bounded: templates of routes instead of paths, kinds of reasons instead of reasons.
"""

import json
import logging
import math
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import accumulate
from typing import Any, Final

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
from storage.errors import StorageError
from storage.index import Index

log = logging.getLogger(__name__)

COUNTED_S: Final = 10.0
"""For so long a count of all files is given again: with a million of them it takes tens of milliseconds."""

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


@dataclass(slots=True)
class FileCounts:
    """How many files there are of each status, and why some were rejected."""

    index: Index
    _lock: Any = None
    _rows: list[dict[str, Any]] | None = None
    _seq: int = -1
    _counted_s: float = 0.0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def collect(self) -> Iterator[Metric]:
        """Yield the counts."""
        files = GaugeMetricFamily("audiophile_files", "Files by status.", labels=("status",))
        rejected = GaugeMetricFamily("audiophile_rejected_files", "Rejected files by reason.", labels=("reason",))
        statuses = dict.fromkeys(("accepted", "rejected"), 0)
        reasons = dict.fromkeys((*REASONS, "other"), 0)
        for row in self._count():
            statuses[row["status"]] = statuses.get(row["status"], 0) + row["count"]
            if row["status"] == "rejected":
                reasons[row["reason"]] += row["count"]
        for status, count in statuses.items():
            files.add_metric((status,), count)
        for reason, count in reasons.items():
            rejected.add_metric((reason,), count)
        yield from (files, rejected)

    def _count(self) -> list[dict[str, Any]]:
        with self._lock:
            seq = self.index.applied_seq
            is_old = time.monotonic() - self._counted_s > COUNTED_S
            if self._rows is None or (seq != self._seq and is_old):
                self._rows = self.index.query(_COUNT)
                self._seq, self._counted_s = seq, time.monotonic()
            return self._rows


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(f"audiophile_{name}", meaning, value)
