"""Lakes with everything in them that a verification looks at, and a way to have one for each test."""

import functools
import io
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from storage.erasure import erase, purge
from storage.index import Index
from storage.lake import Lake
from storage.retention import Retention, expire
from storage.rewrite import compact
from storage.snapshot import fold
from storage.vacuum import vacuum
from tests.storage.conftest import Author

ERASED = "a voice that must go"
FOREVER = timedelta(days=400)


def take_in(author: Author, *names: str) -> list[UUID]:
    """Ingest one recording for each name, whose bytes are the name."""
    rows = []
    for name in names:
        blob = author.lake.media.add(io.BytesIO(name.encode()))
        rows.append(author.file_row(name) | {"size_bytes": blob.size_bytes})
    sources = [author.source_row(row["file_id"], name) for row, name in zip(rows, names, strict=True)]
    author.commit("ingest", files=rows, sources=sources)
    return [row["file_id"] for row in rows]


def live_through(author: Author) -> list[UUID]:
    """Let a lake live: refreshes, a held and a failed one, compaction, expiry, an erasure, a snapshot, an upload."""
    ids = take_in(author, "a", "b", "c", ERASED)
    author.ingest("no audio", status="rejected")
    author.group({"m": "v1", "n": "v1"})
    for number in range(17):
        answers = {(id_, "m"): [("call", 0.5 + number / 100), ("is", 0.9)] for id_ in ids[: 3 + number % 2]}
        author.refresh(answers | {(ids[0], "n"): [("call", 0.25)]})
    author.commit(
        "refresh",
        reference=uuid.uuid4(),
        coverage=[author.coverage_row(ids[1], "m", state="failed", reason="too loud", tries=1)],
    )
    author.commit(
        "refresh", reference=uuid.uuid4(), held=True, coverage=[author.coverage_row(ids[2], "m", version="v2")]
    )
    fold(author.lake.store, author.index, after=1)
    compact(author.lake, author.index, uuid.uuid4())
    expire(author.lake, author.index, Retention(keep_references=3), uuid.uuid4())
    erase(author.lake, author.index, [ids[3]], uuid.uuid4())
    purge(author.lake, author.index, uuid.uuid4())
    author.refresh({(id_, "m"): [("call", 0.75)] for id_ in ids[:2]})
    clean(author.lake, author.index)
    author.lake.inbox.add(author.lake.media.add(io.BytesIO(b"just arrived")), "new.wav")
    return ids[:3]


def clean(lake: Lake, index: Index) -> None:
    """Remove what is left over, as if the grace period were over."""
    vacuum(lake, index, uuid.uuid4(), grace=timedelta(0), now=datetime.now(UTC) + FOREVER)


@functools.cache
def whole_lake(new_author: Callable[[], Author]) -> "Template":
    """Return a lake that has lived, made once in a run of the tests."""
    author = new_author()
    return Template(Path(author.lake.place.url), live_through(author))


@dataclass(frozen=True)
class Template:
    """A lake to copy."""

    root: Path
    ids: list[UUID]

    def copy(self, root: Path) -> Lake:
        shutil.copytree(self.root, root, ignore=shutil.ignore_patterns("index"))
        return Lake.open(root)
