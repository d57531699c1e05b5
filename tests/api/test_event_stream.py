"""Server-sent events from a real server: what happens is told within moments, and exactly once to who comes back."""

import contextlib
import functools
import io
import json
import logging
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastapi.routing
import httpx
import pytest

import api.events as api_events
import api.news as api_news
from api.app import create_app
from api.ending import EndingServer
from api.server import server_config
from storage.erasure import erase
from storage.settings import Settings
from tests.api.conftest import Api
from tests.storage.conftest import Author

Serve = Callable[..., AbstractContextManager[Api]]


@dataclass
class Stream:
    """An open stream, read line by line."""

    response: httpx.Response
    lines: Iterator[str]

    def message(self) -> dict[str, str]:
        """Return the next message: its fields, and its comment as `comment`."""
        fields = {}
        for line in self.lines:
            if not line:
                return fields
            name, _, value = line.partition(":")
            fields[name or "comment"] = value.strip()
        return {}

    def event(self) -> tuple[str, dict[str, Any], str]:
        """Return the next event: its name, data and id."""
        while "event" not in (fields := self.message()):
            assert fields, "the stream has ended"  # a comment alone keeps it open
        return fields["event"], json.loads(fields["data"]), fields["id"]


@contextlib.contextmanager
def listening(api: Api, last: str | None = None, **query: str) -> Iterator[Stream]:
    """Listen; what is sent at first is read already."""
    headers = {} if last is None else {"Last-Event-ID": last}
    with api.http.stream("GET", "/api/events", headers=headers, params=query) as response:
        assert response.status_code == 200, response.read()
        stream = Stream(response, response.iter_lines())
        assert stream.message()["retry"] == "2000"
        yield stream


def test_what_happens_is_told_as_it_happens(api: Api) -> None:
    api.ingested(b"RIFF before", "before.wav")
    with listening(api) as stream:
        headers = stream.response.headers
        assert headers["content-type"] == "text/event-stream; charset=utf-8"
        assert headers["cache-control"] == "no-cache"
        file_id = api.ingested(b"RIFF", "call 🎧 17.wav")
        name, data, _ = stream.event()
        assert name == "file.accepted"
        assert data.pop("at").endswith("Z")
        url = f"http://localhost:8000/api/files/{file_id}"
        assert data == {"id": str(file_id), "file": "call 🎧 17.wav", "url": url}
        reference = api.scribe.refresh(file_id, {"m": [("x", 0.9)]})
        name, data, _ = stream.event()
        assert name == "reference.published"
        assert (data["reference"], data["counts"]) == (reference, {})
        assert data["url"] == f"http://localhost:8000/api/references/{reference}"
        api.lake.inbox.add(api.lake.media.add(io.BytesIO(b"no audio")), "a\n\nevent: b.txt")
        api.scribe.ingest(rejected=True)
        name, data, _ = stream.event()
        assert (name, data["file"], data["reason"]) == ("file.rejected", "a\n\nevent: b.txt", "no audio in it")
        with api.lake.index() as index:
            erase(api.lake, index, [file_id], uuid.uuid4())
        name, data, _ = stream.event()
        assert (name, data["id"], sorted(data)) == ("file.erased", str(file_id), ["at", "id"])


def test_held_references_are_told_and_what_becomes_of_them(api: Api) -> None:
    file_id = api.ingested(b"RIFF")
    row = {"file_id": file_id, "model": "m", "model_version": "v1", "state": "computed", "tries": 0}
    held, rejected = uuid.uuid4(), uuid.uuid4()
    with listening(api) as stream:
        for reference in (held, rejected):
            row["first_reference"] = reference
            api.scribe.commit("refresh", {"coverage": [row]}, reference=reference, held=True, counts={"files": 1})
        api.scribe.commit("reject", {}, reference=rejected)
        api.scribe.commit("release", {}, reference=held)
        told = [stream.event()[:2] for _ in range(4)]
    assert [(name, data["reference"]) for name, data in told] == [
        ("reference.held", str(held)),
        ("reference.held", str(rejected)),
        ("reference.rejected", str(rejected)),
        ("reference.published", str(held)),
    ]
    for _, data in told:
        assert data["counts"] == {"files": 1.0}
        assert data["url"] == f"http://localhost:8000/api/references/{data['reference']}"


def test_drift_is_told_when_it_starts_and_when_it_ends(api: Api) -> None:
    author = Author(api.lake, api.lake.index())
    ids = author.ingest(*"abc")
    reference = author.refresh({(id_, "m"): [] for id_ in ids})
    with listening(api) as stream:
        many = [author.window([ids[0]], *["drift"] * 12), author.window([ids[1]], "drift")]
        last = author.window([ids[2]], "no_drift")
        started, ended = stream.event(), stream.event()
    assert [started[0], ended[0]] == ["drift.started", "drift.ended"]
    assert started[1]["descriptors"] == [f"d{place}" for place in range(10)]
    assert [data["window"] for data in (started[1], ended[1])] == [str(many[0]), str(last)]
    for _, data, _ in (started, ended):
        assert data["at"].endswith("Z")
        assert data["reference"] == str(reference)
        assert data["url"] == f"http://localhost:8000/api/drift/{reference}"
    with listening(api, started[2]) as stream:
        assert stream.event() == ended, "who comes back is told the same"


def test_who_comes_back_gets_what_was_missed_and_nothing_twice(serve: Serve) -> None:
    with serve() as api:
        with listening(api) as stream:
            api.ingested(b"RIFF 1", "1.wav")
            seen = stream.event()[2]
        for number in range(2, 5):
            api.ingested(f"RIFF {number}".encode(), f"{number}.wav")
    with serve() as again, serve() as another:
        for api in (again, another):
            for query in ({}, {"last_event_id": seen}):
                with listening(api, None if query else seen, **query) as stream:
                    assert [stream.event()[1]["file"] for _ in range(3)] == ["2.wav", "3.wav", "4.wav"]
        with listening(again, seen, last_event_id="0") as stream:
            assert stream.event()[1]["file"] == "2.wav", "the header counts first"
            last = stream.event()[2]
        another.ingested(b"RIFF 5", "5.wav")
        with listening(again, last) as stream:
            assert [stream.event()[1]["file"] for _ in range(2)] == ["4.wav", "5.wav"]


def test_the_first_message_says_where_a_stream_that_told_nothing_goes_on(api: Api) -> None:
    with api.http.stream("GET", "/api/events/") as response:
        stream = Stream(response, response.iter_lines())
        start = stream.message()["id"]
    api.ingested(b"RIFF", "missed.wav")
    with listening(api, start) as stream:
        assert stream.event()[1]["file"] == "missed.wav"


def test_a_long_way_back_is_told_in_batches(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(8):
        api.upload(f"RIFF {number}".encode(), f"{number}.wav")
    api.scribe.ingest()
    monkeypatch.setattr(api_news, "events_after", functools.partial(api_news.events_after, limit=3))
    with listening(api, "0") as stream:
        names = {stream.event()[1]["file"] for _ in range(8)}
        assert names == {f"{number}.wav" for number in range(8)}
        api.ingested(b"RIFF later", "later.wav")
        assert stream.event()[1]["file"] == "later.wav"


@pytest.mark.parametrize("last", ["x", "1-", "-1", "1; DROP TABLE files", "9" * 30, "1-" + "f" * 40, "%00"])
def test_what_is_no_position_is_refused(api: Api, last: str) -> None:
    for answer in (
        api.http.get("/api/events", headers={"Last-Event-ID": last}),
        api.http.get("/api/events", params={"last_event_id": last}),
    ):
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_position_of_another_lake_means_from_now_on(api: Api) -> None:
    with listening(api, "999-0") as stream:
        api.ingested(b"RIFF", "new.wav")
        assert stream.event()[1]["file"] == "new.wav"


def test_an_idle_stream_is_kept_alive(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastapi.routing, "_PING_INTERVAL", 0.05)
    with listening(api) as stream:
        assert stream.message() == {"comment": "ping"}
        assert stream.message() == {"comment": "ping"}


def test_there_is_a_limit_to_streams_and_closed_ones_do_not_count(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_events, "MAX_STREAMS", 2)
    with listening(api):
        with listening(api):
            answer = api.http.get("/api/events")
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "5"
            assert answer.json()["type"] == "/problems/too-many-streams"
        wait_until(lambda: api.app.state.news.streams == 1)
        with listening(api):
            pass
    wait_until(lambda: api.app.state.news.streams == 0)


def test_streams_at_one_position_share_a_look(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []

    def counted(*arguments: Any) -> Any:
        looks.append(arguments)
        return real(*arguments)

    real = api_news.events_after
    monkeypatch.setattr(api_news, "events_after", counted)
    with contextlib.ExitStack() as open_streams:
        streams = [open_streams.enter_context(listening(api)) for _ in range(8)]
        before = len(looks)
        api.ingested(b"RIFF", "a.wav")
        assert {stream.event()[1]["file"] for stream in streams} == {"a.wav"}
        assert len(looks) - before <= 4


def test_streams_end_by_themselves_when_the_service_does(
    tmp_path: Path, nowhere: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(Settings(_env_file=None, AUDIOPHILE_DATA=tmp_path / "data", PREFECT_API_URL=nowhere))  # type: ignore[call-arg]
    with socket.socket() as bound, caplog.at_level(logging.WARNING):
        bound.bind(("127.0.0.1", 0))
        server = EndingServer(server_config(app, log_config=None), app.state.news.end)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        wait_until(lambda: server.started)
        address = f"http://127.0.0.1:{bound.getsockname()[1]}/api/events"
        with httpx.stream("GET", address, trust_env=False, timeout=30) as response:
            lines = response.iter_lines()
            assert next(lines) == "id: 0"
            server.should_exit = True
            rest = list(lines)  # to its end, which is a whole one
        thread.join(10)
    assert not thread.is_alive()
    assert "event: " not in "".join(rest)
    assert not [record for record in caplog.records if record.name.startswith("uvicorn")]


def wait_until(happened: Callable[[], bool]) -> None:
    for _ in range(1_000):
        if happened():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen within 10 s")
