"""The Parquet tables: columns, types and units, written once. It must not know who fills them."""

from collections.abc import Iterable
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

_ID: Final = pa.uuid()
_TIME: Final = pa.timestamp("us", tz="UTC")

FILES: Final = pa.schema(
    [
        ("file_id", _ID),
        ("sha256", pa.string()),
        ("size_bytes", pa.int64()),
        ("status", pa.string()),  # accepted | rejected
        ("reason", pa.string()),  # why rejected
        ("duration_s", pa.float64()),
        ("sample_rate", pa.int32()),  # Hz
        ("channels", pa.int16()),
        ("format", pa.string()),  # container and codec, as libsndfile names them
        ("ingested_at", _TIME),
    ]
)
"""One row per recording, written when it is ingested."""

SOURCES: Final = pa.schema(
    [
        ("file_id", _ID),
        ("kind", pa.string()),  # upload | folder | demo | s3
        ("uri", pa.string()),
        ("name", pa.string()),
        ("size_bytes", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("seen_at", _TIME),
        ("present", pa.bool_()),  # false: seen to be gone
        ("etag", pa.string()),  # of an object in a bucket: which content it had (since format 2)
    ]
)
"""Observations: a row each time that a source is first seen, changes or vanishes. The newest of a URI counts."""

UTTERANCES: Final = pa.schema(
    [
        ("file_id", _ID),
        ("model", pa.string()),
        ("model_version", pa.string()),
        ("channel", pa.int16()),  # from 0
        ("utterance", pa.int32()),  # from 0 in each channel
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("text", pa.string()),
    ]
)
"""What a model was given, and the text that it read in it."""

COVERAGE: Final = pa.schema(
    [
        ("file_id", _ID),
        ("model", pa.string()),
        ("model_version", pa.string()),
        ("state", pa.string()),  # computed | carried | failed
        ("reason", pa.string()),  # why failed
        ("tries", pa.int16()),
        ("next_try_at", _TIME),  # of a failure with tries left
        ("first_reference", _ID),  # the reference that it was computed in
        ("predictions", pa.int32()),  # how many rows
    ]
)
"""One row per file of a reference and model: that the model has answered, and how."""

PREDICTIONS: Final = pa.schema(
    [
        ("file_id", _ID),
        ("model", pa.string()),
        ("model_version", pa.string()),
        ("channel", pa.int16()),
        ("utterance", pa.int32()),
        ("label", pa.string()),  # the phrase or class; clients know it as `utterance`
        ("start_s", pa.float64()),  # from the start of the file
        ("end_s", pa.float64()),
        ("confidence", pa.float64()),  # 0 to 1
    ]
)
"""Every detection, whatever its confidence."""

TABLES: Final[dict[str, pa.Schema]] = {
    "files": FILES,
    "sources": SOURCES,
    "utterances": UTTERANCES,
    "coverage": COVERAGE,
    "predictions": PREDICTIONS,
}

_ORDER: Final = {
    "files": ["file_id"],
    "sources": ["file_id", "seen_at"],
    "utterances": ["file_id", "model", "channel", "utterance"],
    "coverage": ["file_id", "model"],
    "predictions": ["file_id", "model", "channel", "start_s", "label"],
}


def table_from_rows(name: str, rows: Iterable[dict[str, Any]]) -> pa.Table:
    """Build table `name` from one mapping per row.

    Raises:
        pyarrow.ArrowInvalid: A value does not fit its column.
    """
    return pa.Table.from_pylist(list(rows), schema=TABLES[name])


def in_order(name: str, table: pa.Table) -> pa.Table:
    """Return `table` sorted as its files are kept: by file first, so that one file's rows lie together."""
    keys = pa.table({key: _sortable(table[key]) for key in _ORDER[name]})
    return table.take(pc.sort_indices(keys, sort_keys=[(key, "ascending") for key in _ORDER[name]]))


def _sortable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """UUIDs as their bytes: Arrow sorts those, and not its own UUID type."""
    if isinstance(column.type, pa.BaseExtensionType):
        return pa.chunked_array([chunk.storage.cast(pa.binary()) for chunk in column.chunks], type=pa.binary())
    return column
