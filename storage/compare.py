"""Compares what an index shows with the latest view by brute force. It must not know how either is made."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import polars as pl

from storage.base import quoted
from storage.index import Index
from storage.live import State, named
from storage.replay import Replay
from storage.tally import tally_of_file

_SHOWN: Final = {
    "files": "SELECT * FROM files",
    "sources": "SELECT *, 0::BIGINT AS seq FROM current_sources",
    "coverage": "SELECT * FROM answers",
    "utterances": "SELECT r.* FROM utterances r SEMI JOIN latest USING (file_id, seq)",
    "predictions": "SELECT r.* FROM predictions r SEMI JOIN latest USING (file_id, seq)",
    "baselines": "SELECT * FROM baselines",
    "drift_files": "SELECT * FROM drift_files",
    "drift": "SELECT * FROM drift",
}

_KEYS: Final = {"file_id": "recording", "baseline_id": "baseline", "window_id": "window"}
"""What rows are of, by the first of the columns that tallies have."""


def differences(index: Index, tables: frozenset[str], expected: State, replay: Replay) -> list[str]:
    """Return what `index` shows otherwise than it must.

    Args:
        index: At the log entry that the rest is of.
        tables: What it holds.
        expected: What it must show.
        replay: What the log says.
    """
    with tempfile.TemporaryDirectory(prefix="audiophile-verify-") as folder:
        shown = {name: _shown(index, name, Path(folder) / name) for name in _SHOWN if name in tables}
    wrong = [*_different_sources(shown.pop("sources"), expected.sources)]
    for name, rows in shown.items():
        keys = [key for key in ("file_id", "baseline_id", "window_id", "seq", "model") if key in rows.columns]
        wrong += _different(name, rows, getattr(expected, name), keys)
    wrong += _different_latest(index, expected.latest)
    wrong += _different_bookkeeping(index, replay)
    return wrong


def _shown(index: Index, name: str, file: Path) -> pl.DataFrame:
    index.run(f"COPY ({_SHOWN[name]}) TO {quoted(file)} (FORMAT parquet)")
    counted = tally_of_file(name, file)
    file.unlink()
    return counted


def _different(name: str, shown: pl.DataFrame, expected: pl.DataFrame, keys: Sequence[str]) -> list[str]:
    columns = [*keys, "rows", "digest"]
    both = shown.select(columns).join(expected.select(columns), on=keys, how="full", coalesce=True, suffix="_expected")
    other = both.filter(
        pl.col("digest").ne_missing(pl.col("digest_expected")) | pl.col("rows").ne_missing(pl.col("rows_expected"))
    )
    return [
        f"{name}: {_KEYS[keys[0]]} {named([row[keys[0]]])} has {row['rows'] or 0} rows of entry {row['seq']}, and the "
        f"Parquet files have {row['rows_expected'] or 0}" + (" others" if row["rows"] == row["rows_expected"] else "")
        for row in other.to_dicts()
    ]


def _different_sources(shown: pl.DataFrame, expected: pl.DataFrame) -> list[str]:
    other = shown.join(expected, on=["uri", "digest"], how="anti")
    lacking = expected.unique("uri").join(shown, on="uri", how="anti")
    return [f"sources: {uri} is not shown as it was seen last" for uri in [*other["uri"], *lacking["uri"]]]


def _different_latest(index: Index, expected: pl.DataFrame) -> list[str]:
    shown = {row["file_id"].bytes: row["seq"] for row in index.query("SELECT file_id, seq FROM latest")}
    latest = dict(expected.iter_rows())
    return [
        f"latest: recording {named([file_id])} shows entry {shown.get(file_id)}, and it must be {latest.get(file_id)}"
        for file_id in shown.keys() | latest.keys()
        if shown.get(file_id) != latest.get(file_id)
    ]


def _different_bookkeeping(index: Index, replay: Replay) -> list[str]:
    live = {file.path for file in index.live_files()} ^ replay.live.keys()
    stones = {(id_, stone.seq, stone.lifted, stone.purged_at is not None) for id_, stone in replay.tombstones.items()}
    shown = {tuple(row.values()) for row in index.query("SELECT file_id, seq, lifted, purged FROM tombstones")}
    wrong = [f"live files: {path} is live for one, and not for the other" for path in live]
    wrong += [f"erasures: {stone[0]} is not what the log says" for stone in stones ^ shown]
    for name, seqs in (("withheld", replay.withheld), ("expired", replay.expired)):
        wrong += [
            f"references: that of entry {seq} is {name} for one, and not for the other"
            for seq in {row["seq"] for row in index.query(f"SELECT DISTINCT seq FROM {name}")} ^ seqs  # noqa: S608
        ]
    return wrong
