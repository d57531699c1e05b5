"""Retention: which references are kept no longer, and how their rows go. A file's latest predictions never do."""

import bisect
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from storage.commit import Draft
from storage.index import Index
from storage.lake import Lake
from storage.log import DataFile, LogEntry
from storage.rewrite import Surplus, joined, rewritten
from storage.steps import reached
from storage.tables import ANSWER_TABLES

BATCH: Final = 500  # references in one entry

_EXPIRED: Final = """
WITH ranked AS (
  SELECT file_id, seq, row_number() OVER (PARTITION BY file_id ORDER BY seq DESC) AS rank
  FROM (SELECT DISTINCT file_id, seq FROM answers)
)
SELECT e.seq, e.reference FROM entries e JOIN ranked r ON r.seq = e.seq
WHERE e.op = 'refresh' AND e.seq NOT IN (SELECT seq FROM expired)
  AND ($keep_days = 0 OR e.committed_at < $before)
GROUP BY ALL
HAVING bool_or(r.rank > 1) AND ($keep_references = 0 OR NOT bool_or(r.rank > 1 AND r.rank <= $keep_references))
ORDER BY e.seq LIMIT $batch
"""


@dataclass(frozen=True, slots=True)
class Retention:
    """What is promised to be kept: 0 promises everything, and where both are set, what either promises.

    A reference expires as a whole, once none of its files needs it: a half of one would look like the whole.
    """

    keep_references: int = 0  # the last so many of each file
    keep_days: float = 0  # those that are younger

    @property
    def keeps_everything(self) -> bool:
        """Say that nothing ever expires."""
        return not self.keep_references and not self.keep_days


def expire(lake: Lake, index: Index, retention: Retention, key: UUID, now: datetime | None = None) -> LogEntry | None:
    """Expire references, some hundred at a time.

    Args:
        lake: Where to.
        index: Needs coverage.
        retention: What is kept.
        key: The commit's key.
        now: From when ages count.

    Returns:
        The entry, or None where nothing has to go.
    """
    now = now or datetime.now(UTC)

    def plan() -> Draft | None:
        if retention.keeps_everything:
            return None
        found = index.query(
            _EXPIRED,
            {
                "keep_days": retention.keep_days,
                "before": now - timedelta(days=retention.keep_days),
                "keep_references": retention.keep_references,
                "batch": BATCH,
            },
        )
        if not found:
            return None
        seqs = [row["seq"] for row in found]
        files = [file for file in index.live_files() if file.table in ANSWER_TABLES and _holds(file, seqs)]
        surplus = Surplus.of(index, seqs)
        drafts = (rewritten(lake, key, [file], surplus.without) for file in files)
        return replace(
            joined(draft for draft in drafts if draft),
            expired=tuple(row["reference"] for row in found),
            counts={"references": len(found)},
        )

    entry = lake.commit(index, op="expire", key=key, plan=plan, started_at=now)
    if entry is not None:
        reached("expired")
    return entry


def _holds(file: DataFile, seqs: list[int]) -> bool:
    """Say whether a file may hold rows of one of `seqs`, which are in order."""
    at = bisect.bisect_left(seqs, file.min_seq or 0)
    return at < len(seqs) and seqs[at] <= (file.max_seq or 0)
