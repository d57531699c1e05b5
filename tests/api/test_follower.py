"""The thread that follows the log outlives whatever it meets; a lake that has vanished is no healthy one."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from storage.index import Index

if TYPE_CHECKING:
    from tests.api.conftest import Api


def wait_until(true: Callable[[], bool]) -> None:
    for _ in range(500):
        if true():
            return
        time.sleep(0.02)
    raise AssertionError("it did not become so within 10 s")


def test_an_error_that_nobody_expected_is_logged_and_followed_on(
    api: "Api", monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failed: list[int] = []

    def rebase(self: Index) -> None:
        failed.append(1)
        raise duckdb.OutOfMemoryException("no room")

    with monkeypatch.context() as broken:
        broken.setattr(Index, "rebase", rebase)
        wait_until(lambda: len(failed) > 2)
        assert "no room" in api.app.state.service.failure
    wait_until(lambda: not api.app.state.service.failure)
    assert [record.message for record in caplog.records].count("the index cannot be caught up: no room") == 1


def test_a_lake_that_has_vanished_is_not_ready_and_takes_nothing(api: "Api") -> None:
    file_id = api.ingested()
    assert api.file(file_id)["status"] == "accepted"
    root = api.lake.store.root
    root.rename(root.with_name("unmounted"))
    answer = api.upload(b"RIFF2", "b.wav")
    assert answer.status_code == 503, answer.text
    refused: dict[str, Any] = answer.json()
    assert refused["type"] == "/problems/storage-unavailable"
    assert "Mount the lake again" in refused["detail"]
    wait_until(lambda: "Mount the lake again" in api.app.state.service.failure)
    assert not (root / "inbox").exists()
    if root.exists():
        for left in sorted(root.rglob("*"), reverse=True):
            left.rmdir() if left.is_dir() else left.unlink()
        root.rmdir()
    root.with_name("unmounted").rename(root)
    wait_until(lambda: not api.app.state.service.failure)
    assert api.file(file_id)["status"] == "accepted"
