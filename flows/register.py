"""Writes into the log which recordings there are and where they came from. It must not know how they are decoded."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from storage.commit import Draft
from storage.index import Index
from storage.lake import Lake
from storage.log import LogEntry
from storage.media import Blob
from storage.tables import table_from_rows


@dataclass(frozen=True, slots=True)
class Source:
    """Where the bytes of a recording came from: a row of the table sources."""

    blob: Blob
    kind: str
    uri: str
    name: str
    mtime_ns: int
    seen_at: datetime
    etag: str | None = None  # of an object in a bucket

    @property
    def file_id(self) -> UUID:
        """The id of the recording."""
        return self.blob.file_id


@dataclass(frozen=True, slots=True)
class Seen:
    """What a batch of ingest saw."""

    sources: list[Source]
    facts: dict[str, dict[str, Any]]  # rows of the table files by hash, of recordings that were new, or rejected before
    gone: list[str]  # URIs of sources that vanished


def register(lake: Lake, index: Index, seen: Seen, key: UUID, started_at: datetime) -> LogEntry | None:
    """Commit the sources that the log does not have yet, and the recordings behind them.

    Args:
        lake: Where to.
        index: Its planning tables.
        seen: What there is.
        key: The commit's key.
        started_at: When the batch began.
    """

    def plan() -> Draft | None:
        known, new = statuses(index, seen.sources), unaccepted(index, seen.sources)
        erased = index.erased(source.file_id for source in seen.sources)
        decoded = {source.file_id: seen.facts[source.blob.sha256] for source in new if source.blob.sha256 in seen.facts}
        files = [row for file_id, row in decoded.items() if known.get(file_id) != (row["status"], row.get("reason"))]
        there = (known.keys() | decoded.keys()) - erased
        rows = [row for row in _news(index, seen, started_at) if row["file_id"] in there or not row["present"]]
        if not rows and not files:
            return None
        accepted = sum(row["status"] == "accepted" for row in files)
        return Draft(
            {"files": table_from_rows("files", files), "sources": table_from_rows("sources", rows)},
            counts={"accepted": accepted, "rejected": len(files) - accepted, "sources": len(rows)},
        )

    return lake.commit(index, op="ingest", key=key, plan=plan, started_at=started_at)


def statuses(index: Index, sources: Iterable[Source]) -> dict[UUID, tuple[str, str | None]]:
    """Return status and reason of the recordings that the index knows."""
    ids = [source.blob.file_id for source in sources]
    rows = index.query("SELECT file_id, status, reason FROM files WHERE file_id IN (SELECT unnest(?))", [ids])
    return {row["file_id"]: (row["status"], row["reason"]) for row in rows}


def unaccepted(index: Index, sources: list[Source]) -> list[Source]:
    """Return the sources of recordings to decode: new ones, and rejected ones, as limits and decoders may change."""
    known, erased = statuses(index, sources), index.erased(source.file_id for source in sources)
    return [
        source
        for source in sources
        if source.file_id not in erased and known.get(source.file_id, ("", None))[0] != "accepted"
    ]


def _news(index: Index, seen: Seen, started_at: datetime) -> list[dict[str, Any]]:
    """Return the rows of the table sources that the log lacks: what is new, has changed, or is gone."""
    uris = [source.uri for source in seen.sources] + seen.gone
    last = {
        row["uri"]: row
        for row in index.query(
            "SELECT * FROM current_sources WHERE uri IN (SELECT unnest(?))",
            [uris],
        )
    }
    distinct = {(source.uri, source.blob.sha256): source for source in seen.sources}.values()
    new = [_row(source) for source in distinct if not _same(last.get(source.uri), source)]
    return new + [
        {**last[uri], "present": False, "seen_at": started_at}
        for uri in seen.gone
        if uri in last and last[uri]["present"]
    ]


def _same(last: dict[str, Any] | None, source: Source) -> bool:
    """Say whether the log has this source as it is; an upload's time of arrival is no news."""
    if last is None or not last["present"] or last["file_id"] != source.blob.file_id:
        return False
    if source.kind == "s3":
        return bool((last["etag"], last["name"]) == (source.etag, source.name))
    return source.kind == "upload" or bool(last["mtime_ns"] == source.mtime_ns)


def _row(source: Source) -> dict[str, Any]:
    return {
        "file_id": source.blob.file_id,
        "kind": source.kind,
        "uri": source.uri,
        "name": source.name,
        "size_bytes": source.blob.size_bytes,
        "mtime_ns": source.mtime_ns,
        "seen_at": source.seen_at,
        "present": True,
        "etag": source.etag,
    }
