"""The Parquet tables: columns, types and units, written once. It must not know who fills them."""

from collections.abc import Iterable
from typing import Any, Final
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_ID: Final = pa.uuid()
_TIME: Final = pa.timestamp("us", tz="UTC")
_SEQ: Final = pa.field("seq", pa.int64())

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
"""What a model was given, and the text that it read in it. Their model_version is that of the text alone: it stays when
only what is looked for in texts changes, phrases for example, and then the text is used again."""

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
        ("descriptors", pa.int32()),  # how many rows (since format 3)
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

DESCRIPTORS: Final = pa.schema(
    [
        ("file_id", _ID),
        ("model", pa.string()),
        ("model_version", pa.string()),
        ("channel", pa.int16()),
        ("utterance", pa.int32()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("level_dbfs", pa.float64()),
        ("snr_db", pa.float64()),
        ("clipping", pa.float64()),  # share of the samples
        ("bandwidth_hz", pa.float64()),
        ("spectral_centroid_hz", pa.float64()),
        ("speech_share", pa.float64()),
        ("speaking_rate", pa.float64()),  # words in a second of speech; of models that read texts
        ("pitch_median_hz", pa.float64()),
        ("embedding", pa.binary()),  # float16, little-endian; of models that have one
    ]
)
"""What one can say of an utterance in numbers, a row for each model that was given it (since format 3).

What they mean is written in features/descriptors.py."""

BASELINES: Final = pa.schema(
    [
        ("baseline_id", _ID),
        ("name", pa.string()),
        ("version", pa.int32()),  # of those with this name, from 1
        ("chosen", pa.string()),  # how, in words
        ("recordings", pa.int32()),
        ("utterances", pa.int32()),
        ("made_at", _TIME),
    ]
)
"""What windows are compared with (since format 4). The one that was made last is the active one."""

DRIFT_FILES: Final = pa.schema(
    [
        ("file_id", _ID),
        ("window_id", _ID),  # or the baseline
        ("arrived_seq", pa.int64()),  # the refresh that it came in
        ("utterances", pa.int32()),
    ]
)
"""The recordings of baselines and of windows that are closed (since format 4)."""

DRIFT: Final = pa.schema(
    [
        ("window_id", _ID),
        ("reference", _ID),  # the newest that it has recordings of
        ("baseline_id", _ID),  # null where there is none: of a changed model
        ("opened_at", _TIME),
        ("closed_at", _TIME),
        ("closed_by", pa.string()),  # size | age | model_change
        ("recordings", pa.int32()),
        ("utterances", pa.int32()),
        ("detector", pa.string()),  # ks | mmd | chi_square | model_change
        ("descriptor", pa.string()),
        ("statistic", pa.float64()),  # a KS distance, MMD², chi-square; of a changed model Cohen's kappa
        ("p_value", pa.float64()),  # null: not tested
        ("threshold", pa.float64()),  # of the p-value
        ("effect", pa.float64()),  # the largest difference of probability, 0 to 1
        ("verdict", pa.string()),  # drift | no_drift | insufficient | model_change
        ("reason", pa.string()),  # why insufficient
        ("details", pa.string()),  # JSON; of a changed model its numbers by label
        ("place", pa.int32()),  # among the tests of its window, what moved most first, from 0
    ]
)
"""What each test of a window said (since format 4)."""

ENTRIES: Final = pa.schema(
    [
        ("seq", pa.int64()),
        ("op", pa.string()),
        ("key", _ID),
        ("reference", _ID),
        ("group_seq", pa.int64()),
        ("started_at", _TIME),
        ("committed_at", _TIME),
        ("counts", pa.string()),  # JSON
    ]
)
"""One row per log entry."""

GROUP_MODELS: Final = pa.schema(
    [
        ("seq", pa.int64()),
        ("name", pa.string()),
        ("version", pa.string()),
        ("task", pa.string()),
        ("enabled", pa.bool_()),
        ("settings", pa.string()),  # JSON
    ]
)
"""The model group, as each `group` entry recorded it."""

DATA_FILES: Final = pa.schema(
    [
        ("added_seq", pa.int64()),
        ("table_name", pa.string()),
        ("path", pa.string()),
        ("size_bytes", pa.int64()),
        ("rows", pa.int64()),
        ("min_file_id", _ID),
        ("max_file_id", _ID),
        ("sha256", pa.string()),
        ("min_seq", pa.int64()),
        ("max_seq", pa.int64()),
    ]
)
"""The Parquet files that count: added by an entry and not removed by a later one."""

REMOVED_FILES: Final = pa.schema([("path", pa.string()), ("seq", pa.int64())])
"""Parquet files that do not count any more, with the entry that says so, for as long as they may still be there."""

HELD: Final = pa.schema([("seq", pa.int64())])
"""Refreshes that were not published when they were committed."""

DECISIONS: Final = pa.schema([("seq", pa.int64()), ("released", pa.bool_())])
"""What became of held refreshes."""

EXPIRED: Final = pa.schema([("seq", pa.int64())])
"""Refreshes that are not kept any more, but for rows that are some file's latest."""

TOMBSTONES: Final = pa.schema(
    [
        ("file_id", _ID),
        ("seq", pa.int64()),  # of the newest delete; rows of the file below it are gone
        ("lifted", pa.bool_()),  # may be taken in again
        ("purged", pa.bool_()),  # no Parquet file holds rows of it any more
    ]
)
"""Recordings that were erased: nothing but their ids."""

BOOKKEEPING: Final[dict[str, pa.Schema]] = {
    "entries": ENTRIES,
    "group_models": GROUP_MODELS,
    "data_files": DATA_FILES,
    "removed_files": REMOVED_FILES,
    "held": HELD,
    "decisions": DECISIONS,
    "expired": EXPIRED,
    "tombstones": TOMBSTONES,
}
"""What the log itself says, as tables: in snapshots and indexes only."""

TABLES: Final[dict[str, pa.Schema]] = {
    "files": FILES,
    "sources": SOURCES,
    "utterances": UTTERANCES,
    "coverage": COVERAGE,
    "predictions": PREDICTIONS,
    "descriptors": DESCRIPTORS,
    "baselines": BASELINES,
    "drift_files": DRIFT_FILES,
    "drift": DRIFT,
}

OF_FILES: Final = frozenset(name for name, schema in TABLES.items() if "file_id" in schema.names)
"""Those whose rows are of one recording each."""

NOBODY: Final = UUID(int=0)
"""Stands for the recordings of a Parquet file whose rows are of none."""

ANSWER_TABLES: Final = ("coverage", "utterances", "predictions", "descriptors")
"""Those of which a refresh has rows: what a model says of a file."""

INDEXED_TABLES: Final = frozenset(TABLES) - {"descriptors"}
"""Those that indexes and snapshots hold. Embeddings are large, and wanted by those who study many of them at once: they
are read from Parquet files."""

_ORDER: Final = {
    "files": ["file_id"],
    "sources": ["file_id", "seen_at"],
    "utterances": ["file_id", "model", "channel", "utterance"],
    "coverage": ["file_id", "model"],
    "predictions": ["file_id", "model", "channel", "start_s", "label"],
    "descriptors": ["file_id", "model", "channel", "utterance"],
    "baselines": ["made_at"],
    "drift_files": ["file_id", "window_id"],
    "drift": ["closed_at", "window_id", "place"],
}


def table_from_rows(name: str, rows: Iterable[dict[str, Any]]) -> pa.Table:
    """Build table `name` from one mapping per row.

    Raises:
        pyarrow.ArrowInvalid: A value does not fit its column.
    """
    return pa.Table.from_pylist(list(rows), schema=TABLES[name])


def in_order(name: str, table: pa.Table) -> pa.Table:
    """Return `table` sorted as its files are kept: rows of one recording lie together."""
    order = [*_ORDER[name], "seq"] if "seq" in table.column_names else _ORDER[name]
    keys = pa.table({key: _sortable(table[key]) for key in order})
    return table.take(pc.sort_indices(keys, sort_keys=[(key, "ascending") for key in order]))


def with_seq(table: pa.Table, seq: int) -> pa.Table:
    """Return `table` with a first column `seq`: the log entry that its rows are of."""
    return table.add_column(0, _SEQ, pa.array(np.full(table.num_rows, seq)))


def _sortable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """UUIDs as their bytes: Arrow sorts those, and not its own UUID type."""
    if isinstance(column.type, pa.BaseExtensionType):
        return pa.chunked_array([chunk.storage.cast(pa.binary()) for chunk in column.chunks], type=pa.binary())
    return column
