"""storage/FORMAT.md says what is so: its example reads a lake, and its tables name every column and member."""

import dataclasses
import os
import re
import subprocess
import sys
import textwrap
import uuid
from pathlib import Path

import pytest

from storage import rewrite
from storage.log import OPS, SCHEMA_VERSION, DataFile, LogEntry
from storage.manifest import Manifest, SnapshotFile
from storage.tables import BOOKKEEPING, TABLES
from tests.storage.conftest import Author

FORMAT = (Path(__file__).parents[2] / "storage" / "FORMAT.md").read_text(encoding="utf-8")
EXAMPLE = textwrap.dedent(FORMAT[FORMAT.index("    import json, pathlib") :])


def test_the_example_reads_the_latest_predictions_with_a_parquet_reader_alone(
    author: Author, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rewrite, "MIN_SMALL_FILES", 2)
    first, second = author.ingest("a", "b")
    for sure in (0.1, 0.2):
        author.refresh({(file_id, "m"): [("x", sure)] for file_id in (first, second)})
    while rewrite.compact(author.lake, author.index, uuid.uuid4()):
        pass
    author.refresh({(first, "m"): [("y", 0.7)]})
    code = EXAMPLE.replace('pathlib.Path("data")', f"pathlib.Path({str(author.lake.store.root)!r})").replace(
        "print(rows", "found = (rows"
    )
    code += '\nprint(sorted(found.select("label", "confidence").rows()))\n'
    ran = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=os.sep, timeout=60
    )
    assert ran.stdout.strip() == "[('x', 0.2), ('y', 0.7)]"


def test_every_column_is_named() -> None:
    tables = FORMAT[FORMAT.index("## Tables") :]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", tables, flags=re.MULTILINE))
    for name, schema in TABLES.items():
        assert all(re.search(rf"\b{column}\b", rows[name]) for column in schema.names), name
    for name, schema in BOOKKEEPING.items():
        columns = set(schema.names) - {field.name for field in dataclasses.fields(DataFile)}
        assert all(re.search(rf"\b{column}\b", rows[name]) for column in columns), name


def test_every_member_of_an_entry_and_of_a_manifest_is_named() -> None:
    named = set(re.findall(r"`(\w+)`", FORMAT))
    for described in (LogEntry, DataFile, Manifest, SnapshotFile):
        members = {field.name for field in dataclasses.fields(described)}
        assert members - {"tables"} <= named, described
    assert named >= OPS
    assert f"version {SCHEMA_VERSION}" in FORMAT
