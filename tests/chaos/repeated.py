"""Counts what was computed twice, from what shards have left in a lake, whatever was committed."""

import io
from typing import Any

import pyarrow.parquet as pq

from storage.lake import Lake
from storage.log import read_entries

_FOLDER = "data/coverage"


def scored_again(lake: Lake) -> int:
    """Return how many shards were scored to their end although another shard had scored the same."""
    written = {str(entry.attempt) for entry in read_entries(lake.store, after=0)}
    seen: set[tuple[Any, ...]] = set()
    again = 0
    for one in sorted(lake.store.found(_FOLDER), key=lambda one: one.modified_at):
        attempt = one.path.rsplit("/", 1)[1].rsplit("-", 1)[0]
        content = lake.store.read(one.path)
        if attempt in written or content is None:  # written by a commit, from what shards wrote; or gone since
            continue
        rows = pq.read_table(io.BytesIO(content), columns=["file_id", "model", "model_version"]).to_pylist()
        answers = {tuple(str(value) for value in row.values()) for row in rows}
        again += bool(answers & seen)
        seen |= answers
    return again
