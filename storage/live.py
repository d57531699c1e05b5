"""The latest view by brute force: from the log's entries and the live Parquet files, and from no index.

Verification compares it with what indexes say, so it must not use their SQL.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import polars as pl

from storage.errors import StoreError
from storage.replay import Replay
from storage.report import Findings
from storage.store import Store
from storage.tables import OF_FILES, TABLES
from storage.tally import examined, merged

OF_ONE_REFERENCE: Final = ["file_id", "seq"]
_OF_ONE_MODEL: Final = ["file_id", "seq", "model"]

_RESTORE: Final = "Restore it from a copy of the lake"
_BUG: Final = "Report this as a bug, with the log entry"


@dataclass(slots=True)
class LiveFiles:
    """What was read of the live Parquet files.

    Attributes:
        is_whole: Each of them is there and right.
        tallies: By table and path.
    """

    is_whole: bool = True
    tallies: dict[str, dict[str, pl.DataFrame]] = field(default_factory=lambda: {name: {} for name in TABLES})
    _seen: set[str] = field(default_factory=set)

    def read(self, store: Store, replay: Replay, findings: Findings) -> bool:
        """Read the live files that were not read yet; False says that some are gone, and the log will say why."""
        unread = [file for path, file in replay.live.items() if path not in self._seen]
        gone = False
        for number, file in enumerate(unread, 1):
            try:
                content = store.read(file.path)
            except StoreError as error:
                content, wrong = b"", [str(error)]
            else:
                if content is None:
                    gone = True
                    continue
                counted, wrong = examined(file, content)
                if counted is not None:
                    self.tallies[file.table][file.path] = counted
            self._seen.add(file.path)
            self.is_whole &= not wrong
            for one in wrong:
                findings.add("parquet", file.path, one, _RESTORE)
            findings.looked_at["live Parquet files"] += 1
            findings.looked_at["bytes of Parquet files"] += len(content)
            findings.looked_at[f"rows of {file.table}"] += file.rows
            findings.at("Parquet files", number, len(unread))
        return not gone

    def give_up_missing(self, replay: Replay, findings: Findings) -> None:
        """Name the live files that are not there."""
        for path in replay.live.keys() - self._seen:
            self.is_whole = False
            self._seen.add(path)
            findings.add("parquet", path, "the log names it, and it is not there", _RESTORE)


@dataclass(frozen=True, slots=True)
class State:
    """What readers must see after a log entry, as tallies.

    Attributes:
        files: The newest row of each recording.
        sources: What may be said last of each source: of several rows of one time, any.
        latest: Recordings with the log entry of their latest reference.
        coverage: Answers that are published and kept.
        utterances: Of the latest references.
        predictions: Of the latest references.
        baselines: All of them, like the following ones.
        drift_files: The recordings of baselines and windows.
        drift: What was said of windows.
    """

    files: pl.DataFrame
    sources: pl.DataFrame
    latest: pl.DataFrame
    coverage: pl.DataFrame
    utterances: pl.DataFrame
    predictions: pl.DataFrame
    baselines: pl.DataFrame
    drift_files: pl.DataFrame
    drift: pl.DataFrame


def state(live: LiveFiles, replay: Replay, findings: Findings) -> State:
    """Return what readers must see, and name what contradicts itself in the rows."""
    tables = {name: merged(name, _of(live.tallies[name], replay)) for name in TABLES}
    tables |= {name: _not_erased(tables[name], replay) for name in OF_FILES}
    coverage, predictions = tables["coverage"], tables["predictions"]
    published = coverage.filter(~pl.col("seq").is_in(list(replay.withheld)))
    latest = published.group_by("file_id").agg(pl.col("seq").max())
    kept = _without_surplus(coverage, latest, replay)
    for name, rows in (("files", tables["files"]), ("coverage", coverage)):
        _look_for_duplicates(name, rows, findings)
    for name in ("predictions", "descriptors"):
        _look_at_counts(name, kept, _without_surplus(tables[name], latest, replay), findings)
    return State(
        files=tables["files"].filter(_newest("seq", "file_id")),
        sources=tables["sources"].filter(_newest("seen_at", "uri")).filter(_newest("seq", "uri")),
        latest=latest,
        coverage=kept.filter(~pl.col("seq").is_in(list(replay.withheld))),
        utterances=tables["utterances"].join(latest, on=OF_ONE_REFERENCE, how="semi"),
        predictions=predictions.join(latest, on=OF_ONE_REFERENCE, how="semi"),
        **{name: tables[name] for name in ("baselines", "drift_files", "drift")},
    )


def look_for_erased_rows(live: LiveFiles, replay: Replay, findings: Findings) -> None:
    """Name the live files that hold rows of recordings of which nothing should be left."""
    purged = ids_with_seq({id_: stone.seq for id_, stone in replay.tombstones.items() if stone.purged_at})
    for tallies in (live.tallies[name] for name in OF_FILES):
        for path, rows in tallies.items():
            if path in replay.live and (left := older_rows(rows, purged)):
                findings.add("erasure", path, f"it holds rows of erased recordings: {named(left)}", _BUG)


def older_rows(rows: pl.DataFrame, erased: pl.DataFrame) -> list[bytes]:
    """Return the recordings in `rows` that were erased after them."""
    found = rows.join(erased, on="file_id").filter(pl.col("seq") < pl.col("erased_seq"))
    return found["file_id"].unique().to_list()


def ids_with_seq(seqs: Mapping[UUID, int]) -> pl.DataFrame:
    """Return recordings with the log entry that erased them."""
    return pl.DataFrame(
        {"file_id": [file_id.bytes for file_id in seqs], "erased_seq": list(seqs.values())},
        schema={"file_id": pl.Binary, "erased_seq": pl.Int64},
    )


def named(ids: Iterable[bytes]) -> str:
    """Return recordings' ids as text."""
    return ", ".join(str(UUID(bytes=one)) for one in ids)


def _newest(column: str, of: str) -> pl.Expr:
    return pl.col(column) == pl.col(column).max().over(of)


def _of(tallies: Mapping[str, pl.DataFrame], replay: Replay) -> list[pl.DataFrame]:
    return [rows for path, rows in tallies.items() if path in replay.live]


def _not_erased(rows: pl.DataFrame, replay: Replay) -> pl.DataFrame:
    erased = ids_with_seq({file_id: stone.seq for file_id, stone in replay.tombstones.items()})
    joined = rows.join(erased, on="file_id", how="left")
    return joined.filter(pl.col("erased_seq").is_null() | (pl.col("seq") >= pl.col("erased_seq"))).drop("erased_seq")


def _without_surplus(rows: pl.DataFrame, latest: pl.DataFrame, replay: Replay) -> pl.DataFrame:
    """Return `rows` without what expired: of that only what is some recording's latest counts."""
    expired = pl.col("seq").is_in(list(replay.expired))
    return pl.concat([rows.filter(~expired), rows.filter(expired).join(latest, on=OF_ONE_REFERENCE, how="semi")])


def _look_for_duplicates(name: str, rows: pl.DataFrame, findings: Findings) -> None:
    twice = rows.filter(pl.col("rows") > 1)
    wrong = [f"recording {UUID(bytes=row['file_id'])} is there {row['rows']} times" for row in twice.to_dicts()]
    findings.add_some("rows", f"table {name}", wrong, _BUG)


def _look_at_counts(name: str, coverage: pl.DataFrame, rows: pl.DataFrame, findings: Findings) -> None:
    """Compare how many rows of a table an answer has with how many it says it has."""
    both = coverage.select(*_OF_ONE_MODEL, pl.col(name).alias("said")).join(
        rows.select(*_OF_ONE_MODEL, "rows"), on=_OF_ONE_MODEL, how="full", coalesce=True
    )
    findings.looked_at[f"answers whose {name} were counted"] += coverage.height
    wrong = [
        f"entry {row['seq']}: {row['model']} has {row['rows'] or 0} {name} for recording "
        f"{UUID(bytes=row['file_id'])}, and its coverage says {row['said']}"
        for row in both.filter(pl.col("said").fill_null(-1) != pl.col("rows").fill_null(0)).to_dicts()
        if row["said"] is not None or row["rows"]
    ]
    findings.add_some("rows", "table coverage", wrong, _BUG)
