"""Lakes of earlier formats, written by the code of their time.

Format 1 came before `min_seq`, `held`, `etag`; format 2 before descriptors; format 3 before what drift keeps. From 2 on
the lake has been compacted and folded, has an erased recording, a reference that was released and one that is held.
"""

import dataclasses
import json
import shutil
import uuid
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from storage.backup import backup
from storage.erasure import erase, purge
from storage.errors import LogError
from storage.index import Index
from storage.lake import Lake
from storage.log import SCHEMA_VERSION, entry_path, read_entry
from storage.place import Place
from storage.recordings import predictions, recordings, utterances
from storage.snapshot import fold
from storage.verify import verify
from tests.storage.conftest import Author

FORMATS = range(1, SCHEMA_VERSION)


@pytest.fixture(params=FORMATS)
def version(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture
def kept(version: int) -> Path:
    return Path(__file__).parent / f"format{version}"


@pytest.fixture
def shown_then(kept: Path) -> dict[str, Any]:
    return json.loads((kept / "shown.json").read_text())


@pytest.fixture
def lake(kept: Path, tmp_path: Path) -> Lake:
    shutil.copytree(kept / "lake", tmp_path / "lake")
    return Lake.open(tmp_path / "lake")


def head_of(lake: Lake) -> int:
    return len(lake.store.names("log"))


def shown(lake: Lake) -> dict[str, Any]:
    with lake.index() as index:
        known = [
            {"file_id": row.file_id, "name": row.name, "reference": row.reference, "status": row.status}
            for row in recordings(index)
        ]
        found = [dataclasses.asdict(row) for row in predictions(index)]
        said = [dataclasses.asdict(row) for row in utterances(index)]
    pending = [{"file_id": receipt.file_id, "name": receipt.name} for receipt in lake.inbox.receipts()]
    answer = {"recordings": known, "predictions": found, "utterances": said, "pending": pending}
    return json.loads(json.dumps(answer, default=plain))


def plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def test_the_fixture_is_of_its_format(lake: Lake, version: int):
    entries = [json.loads(lake.store.read(entry_path(seq))) for seq in range(1, head_of(lake) + 1)]
    assert {entry["schema_version"] for entry in entries} == {version}
    assert bool({"held", "expired", "deleted", "lifted"} & entries[0].keys()) == (version > 1)
    assert ("min_seq" in entries[0]["files"][0]) == (version > 1)
    tables = {file["table"] for entry in entries for file in entry["files"]}
    assert ("descriptors" in tables) == (version > 2)
    assert not {"baselines", "drift_files", "drift"} & tables


def test_it_shows_what_it_showed_then(lake: Lake, version: int, shown_then: dict[str, Any]):
    assert shown(lake) == shown_then
    with lake.index() as index:
        etags = [row["etag"] for row in index.query("SELECT etag FROM sources ORDER BY etag NULLS LAST")]
        assert etags == ([None, None] if version == 1 else ["5d41402abc4b2a76b9719d911017c592", None])
        assert index.applied_seq == head_of(lake)


def test_it_is_whole(lake: Lake):
    report = verify(lake)
    assert report.ok, str(report)
    assert report.looked_at["recordings' bytes hashed"] == 3


def test_it_is_committed_to_folded_and_verified(lake: Lake, shown_then: dict[str, Any]):
    head = head_of(lake)
    author = Author(lake, lake.index())
    ids = [row.file_id for row in recordings(author.index)]
    reference = author.refresh({(ids[0], "moonshine-tiny-en"): [("call", 0.875)]}, version="8c1d0e6b52f7")
    assert read_entry(lake.store, head + 1).schema_version == SCHEMA_VERSION
    now = shown(lake)
    assert fold(lake.store, author.index, after=1) is not None
    assert shown(lake) == now, "from the snapshot"
    assert [row["reference"] for row in now["recordings"]] == [str(reference), shown_then["recordings"][1]["reference"]]
    report = verify(lake)
    assert report.ok, str(report)
    assert report.looked_at["indexes compared"] == 2


def test_its_files_are_rewritten_into_todays(lake: Lake, shown_then: dict[str, Any]):
    with lake.index() as index:
        gone, kept = (row.file_id for row in recordings(index))
        erase(lake, index, [gone], uuid.uuid4())
        purge(lake, index, uuid.uuid4())
    after = shown(lake)
    assert after["predictions"] == [row for row in shown_then["predictions"] if row["file_id"] == str(kept)]
    assert not [path for path in Path(lake.place.url).rglob("*") if gone.hex in path.name]
    report = verify(lake)
    assert report.ok, str(report)


def test_it_is_backed_up(lake: Lake, tmp_path: Path, shown_then: dict[str, Any]):
    backup(lake, Place.of(tmp_path / "copy"))
    assert shown(Lake.open(tmp_path / "copy")) == shown_then


def test_an_entry_of_a_newer_format_is_refused_with_what_to_do(lake: Lake):
    head = head_of(lake)
    entry = json.loads(lake.store.read(entry_path(head)))
    newer = entry | {"seq": head + 1, "key": str(uuid.uuid4()), "schema_version": SCHEMA_VERSION + 1, "unknown": 1}
    lake.store.write(entry_path(head + 1), json.dumps(newer).encode())
    with Index(lake.store) as index, pytest.raises(LogError, match="update Audiophile on this host"):
        index.catch_up()
    assert any("Update Audiophile" in problem.remedy for problem in verify(lake).problems)
