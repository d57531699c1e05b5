"""The index's tables and views in SQL. It must not know where rows come from.

Rows lie in the schema `tail` in memory, which grows entry by entry, and in the database `base`, a file that is never
written. What queries name are views over both.
"""

from typing import Final

import pyarrow as pa

from storage.tables import BOOKKEEPING, INDEXED_TABLES, OF_FILES, TABLES

SQL_TYPES: Final = {
    pa.string(): "VARCHAR",
    pa.bool_(): "BOOLEAN",
    pa.int16(): "SMALLINT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float64(): "DOUBLE",
    pa.uuid(): "UUID",
    pa.timestamp("us", tz="UTC"): "TIMESTAMPTZ",
}

_SEQ: Final = pa.schema([("seq", pa.int64())])
SCHEMAS: Final[dict[str, pa.Schema]] = BOOKKEEPING | {
    name: pa.unify_schemas([_SEQ, schema]) for name, schema in TABLES.items() if name in INDEXED_TABLES
}
"""Every table of an index and of a snapshot, with the seq of each row."""

SNAPSHOT_ORDER: Final[dict[str, str]] = {
    "entries": "seq",
    "group_models": "seq",
    "data_files": "path",
    "removed_files": "path",
    "held": "seq",
    "decisions": "seq",
    "expired": "seq",
    "tombstones": "file_id",
    "files": "file_id",
    "sources": "file_id, seq",
    "coverage": "file_id, seq",
    "utterances": "file_id, model, channel, utterance",
    "predictions": "file_id, model, channel, start_s",
    "baselines": "seq",
    "drift_files": "file_id, seq",
    "drift": "seq, place",
}
"""The order of each table's rows in snapshots and base files: by file, so that one file's rows lie together."""

BASE_FILES: Final[dict[str, str]] = {
    "name": "VARCHAR",
    "demo": "BOOLEAN",
    "latest_seq": "BIGINT",
    "reference": "UUID",
    "predicted_at": "TIMESTAMPTZ",
    "held": "BOOLEAN",  # in a reference that waits for a decision, and in none that was published
}
"""What the base says of a recording beside its row of `files`: what readers would else ask four tables for."""

_ROWS_OF_FILES: Final = """
WITH withheld AS (SELECT seq FROM held WHERE seq NOT IN (SELECT seq FROM decisions WHERE released)),
waiting AS (SELECT DISTINCT file_id FROM coverage
            WHERE seq IN (SELECT seq FROM held WHERE seq NOT IN (SELECT seq FROM decisions)
                          AND seq NOT IN (SELECT seq FROM group_models))),
last AS (SELECT file_id, max(seq) AS seq FROM coverage WHERE seq NOT IN (SELECT seq FROM withheld) GROUP BY file_id),
named AS (SELECT file_id, arg_min(name, seen_at) AS name, bool_and(kind = 'demo') AS demo FROM sources GROUP BY file_id)
SELECT f.*, n.name, n.demo, l.seq AS latest_seq, e.reference, e.committed_at AS predicted_at,
       l.seq IS NULL AND w.file_id IS NOT NULL AS held
FROM read_parquet({parquet}) f LEFT JOIN named n USING (file_id) LEFT JOIN last l USING (file_id)
LEFT JOIN waiting w USING (file_id) LEFT JOIN entries e ON e.seq = l.seq ORDER BY f.file_id
"""

_INDEXED: Final = ("files", "sources", "coverage", "tombstones")

_UNLESS_NEWER: Final = {
    "files": ("file_id", "tail.files"),  # what is said last of a recording counts
    "tombstones": ("file_id", "tail.tombstones"),
    "data_files": ("path", "tail.removed_files"),
}
"""Tables of which rows in the tail take the place of rows in the base: by which column, and where to look for it."""

_PUBLISHED: Final = "seq NOT IN (SELECT seq FROM withheld)"

_LATEST: Final = """
CREATE OR REPLACE VIEW latest AS SELECT file_id, max(seq) AS seq FROM coverage WHERE {published} GROUP BY file_id
"""
"""A file's latest reference: it wins as a whole, and nothing is merged across references."""

_WITHHELD: Final = """
CREATE OR REPLACE VIEW withheld AS
SELECT seq FROM held WHERE seq NOT IN (SELECT seq FROM decisions WHERE released)
"""

_UNDECIDED: Final = """
CREATE OR REPLACE VIEW undecided AS
SELECT seq FROM held WHERE seq NOT IN (SELECT seq FROM decisions) AND seq NOT IN (SELECT seq FROM group_models)
"""
"""A refresh with a group of its own is a one-off: it is held, and nothing waits for a decision on it."""

_ANSWERS: Final = """
CREATE OR REPLACE VIEW answers AS SELECT c.* FROM coverage c
WHERE {published}
  AND (c.seq NOT IN (SELECT seq FROM expired) OR (c.file_id, c.seq) IN (SELECT (file_id, seq) FROM latest))
"""
"""Coverage whose rows are kept and published: of expired references only what is some file's latest."""

_ERASED: Final = "CREATE OR REPLACE VIEW erased AS SELECT file_id FROM tombstones WHERE NOT lifted"

_CURRENT_SOURCES: Final = """
CREATE OR REPLACE VIEW current_sources AS SELECT * EXCLUDE (seq) FROM sources
QUALIFY row_number() OVER (PARTITION BY uri ORDER BY seen_at DESC, seq DESC) = 1
"""
"""What was said last of each source."""


def columns(schema: pa.Schema) -> str:
    """Return the columns of a table as CREATE TABLE wants them."""
    return ", ".join(f"{field.name} {SQL_TYPES[field.type]}" for field in schema)


def base_tables() -> list[str]:
    """Return what makes the empty tables of a base."""
    made = {name: columns(schema) for name, schema in SCHEMAS.items()}
    made["files"] += "".join(f", {name} {type_}" for name, type_ in BASE_FILES.items())
    return [f"CREATE TABLE {name} ({those})" for name, those in made.items()]


def base_rows(name: str, parquet: str) -> str:
    """Return what fills one table of a base from its file of a snapshot; `files` has to be the last.

    Args:
        name: The table.
        parquet: The file, quoted.
    """
    rows = _ROWS_OF_FILES.format(parquet=parquet) if name == "files" else f"SELECT * FROM read_parquet({parquet})"  # noqa: S608
    return f"INSERT INTO {name} BY NAME {rows}"


def tail_tables() -> list[str]:
    """Return what makes the empty tables of a tail."""
    created = [f"CREATE TABLE tail.{name} ({columns(schema)})" for name, schema in SCHEMAS.items()]
    indexed = [f"CREATE INDEX {name}_file ON tail.{name} (file_id)" for name in _INDEXED]
    return [
        "CREATE SCHEMA tail",
        *created,
        *indexed,
        "CREATE INDEX entries_key ON tail.entries (key)",
        "CREATE INDEX removed_files_path ON tail.removed_files (path)",
        "CREATE TABLE tail.erased (file_id UUID)",  # since the base: its rows of them do not count
    ]


def views(tables: frozenset[str], *, erased: bool, held: bool) -> list[str]:
    """Return what makes the views.

    Args:
        tables: Those of TABLES that the tail follows; the others have no view, rather than half of one.
        erased: Recordings have been erased since the base was made.
        held: There may be references that are withheld; to look for them is planned with each query.
    """
    made = [_union(name, erased=erased) for name in SCHEMAS if name in BOOKKEEPING or name in tables]
    made += [_WITHHELD, _UNDECIDED, _ERASED]
    if "coverage" in tables:
        published = _PUBLISHED if held else "true"
        made += [_LATEST.format(published=published), _ANSWERS.format(published=published)]
    if "sources" in tables:
        made.append(_CURRENT_SOURCES)
    return made


def _union(name: str, *, erased: bool) -> str:
    base = f"SELECT {', '.join(f'b.{column}' for column in SCHEMAS[name].names)} FROM base.{name} b"  # noqa: S608  names from above
    if name in _UNLESS_NEWER:
        column, newer = _UNLESS_NEWER[name]
        base += f" ANTI JOIN {newer} n ON b.{column} = n.{column}"
    if erased and name in OF_FILES:
        base += " ANTI JOIN tail.erased e ON b.file_id = e.file_id"
    return f"CREATE OR REPLACE VIEW {name} AS SELECT * FROM tail.{name} UNION ALL {base}"  # noqa: S608
