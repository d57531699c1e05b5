"""The access log: one object of JSON a line, whatever is sent."""

import contextlib
import json
import threading
import unicodedata
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from api import observe
from api.observe import AccessLog, line
from tests.raw import connected, exchanged

if TYPE_CHECKING:
    from tests.api.conftest import Api

Serve = Callable[..., contextlib.AbstractContextManager["Api"]]


def logged(capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(entry) for entry in capfd.readouterr().out.splitlines()]


def test_a_request_is_one_line(serve: Serve, capfd: pytest.CaptureFixture[str]) -> None:
    with serve() as api:
        file_id = api.upload().json()["id"]
        api.http.get(f"/api/files/{file_id}/?transcript=true", headers={"User-Agent": "a test"})
    upload, entry = logged(capfd)
    assert (upload["method"], upload["status"], upload["route"]) == ("POST", 201, "/api/files/upload")
    assert entry.pop("ms") > 0
    assert entry.pop("bytes") > 100
    assert entry.pop("time").endswith("Z")
    assert entry == {
        "client": "127.0.0.1",
        "method": "GET",
        "path": f"/api/files/{file_id}/",
        "query": "transcript=true",
        "route": "/api/files/{file_id}",
        "status": 200,
        "key": None,
        "agent": "a test",
    }


def test_it_can_be_switched_off(serve: Serve, capfd: pytest.CaptureFixture[str]) -> None:
    with serve(API_ACCESS_LOG="0") as api:
        api.http.get("/api/files")
    assert logged(capfd) == []


def test_what_nobody_asked_for_is_logged_too(serve: Serve, capfd: pytest.CaptureFixture[str]) -> None:
    with serve() as api:
        api.http.get("/nothing")
        api.http.get("/api/files", headers={"Host": "elsewhere.example"})
        api.http.put("/api/files")
    found = [(entry["status"], entry["route"]) for entry in logged(capfd)]
    assert found == [(404, "unmatched"), (421, "unmatched"), (405, "/api/files")]


def test_nothing_that_is_sent_makes_a_second_line(serve: Serve, capfd: pytest.CaptureFixture[str]) -> None:
    hostile = 'a\u2028b\u2029c\u0085d\u202e\x7f\x1b[31m\r\n{"status": 200}'
    with serve() as api:
        api.http.get(f"/api/files/{quote(hostile)}", params={"q": hostile})
        for name in (b"User-Agent", b"X-Forwarded-For", b"Referer"):
            value = b"a\x85b\xe2\x80\xa8c\x0b\x1b[31m"
            exchanged(
                api.http,
                b"GET /x\xe2\x80\xa8 HTTP/1.1\r\nHost: localhost\r\n"
                + name
                + b": "
                + value
                + b"\r\nConnection: close\r\n\r\n",
            )
            exchanged(
                api.http,
                b"GET /x HTTP/1.1\r\nHost: localhost\r\n" + name + b': a\n{"status": 1}\r\nConnection: close\r\n\r\n',
            )
    out = capfd.readouterr().out
    assert out.isascii()
    assert not {unicodedata.category(character) for character in out.replace("\n", "")} & {"Cc", "Cf", "Zl", "Zp"}
    first, *rest = [json.loads(entry) for entry in out.split("\n")[:-1]]
    assert first["path"] == f"/api/files/{hostile}"
    assert all(entry["path"].startswith("/x") and entry["status"] >= 400 for entry in rest)


def test_lengths_are_bounded(serve: Serve, capfd: pytest.CaptureFixture[str]) -> None:
    with serve() as api:
        api.http.get("/" + "x" * 4000, params={"q": "y" * 4000}, headers={"User-Agent": "z" * 20_000})
    (entry,) = logged(capfd)
    assert (len(entry["path"]), len(entry["query"]), len(entry["agent"])) == (1000, 1000, 1000)


def test_a_stream_is_logged_with_all_its_bytes_once_it_ends(serve: Serve, capfd: pytest.CaptureFixture[str]) -> None:
    async def stream(request: Request) -> Response:
        async def parts() -> Any:
            for _ in range(10):
                yield b"x" * 100

        return StreamingResponse(parts())

    with serve() as api:
        api.app.router.add_route("/stream", stream)
        api.http.get("/stream")
    (entry,) = logged(capfd)
    assert (entry["status"], entry["bytes"], entry.get("aborted")) == (200, 1000, None)


def test_an_answer_that_breaks_off_is_marked(serve: Serve, capfd: pytest.CaptureFixture[str]) -> None:
    async def breaks(request: Request) -> Response:
        async def parts() -> Any:
            yield b"x" * 100
            raise RuntimeError("the inside")

        return StreamingResponse(parts())

    with serve() as api:
        api.app.router.add_route("/breaks", breaks)
        assert b"the inside" not in exchanged(api.http, b"GET /breaks HTTP/1.1\r\nHost: localhost\r\n\r\n")
    (entry,) = logged(capfd)
    assert (entry["status"], entry["bytes"], entry["aborted"]) == (200, 100, True)


def test_a_client_that_leaves_is_marked(serve: Serve, capfd: pytest.CaptureFixture[str]) -> None:
    ended = threading.Event()

    async def waits(request: Request) -> Response:
        try:
            while (await request.receive())["type"] != "http.disconnect":
                pass
        finally:
            ended.set()
        return Response()

    with serve() as api:
        api.app.router.add_route("/waits", waits)
        with connected(api.http) as connection:
            connection.sendall(b"GET /waits HTTP/1.1\r\nHost: localhost\r\n\r\n")
            connection.shutdown(1)
            connection.close()
        assert ended.wait(20)
    (entry,) = logged(capfd)
    assert entry["path"] == "/waits"


def test_a_bug_is_logged_with_its_status(serve: Serve, capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise RuntimeError("the inside")

    with serve() as api:
        api.app.add_api_route("/fail", fail)
        api.http.get("/fail")
    (entry,) = logged(capfd)
    assert (entry["status"], entry["route"]) == (500, "/fail")


@settings(max_examples=50)
@given(st.dictionaries(st.text(), st.text()))
def test_a_line_is_one_line_of_ascii_that_says_the_same(facts: dict[str, str]) -> None:
    content = line(facts).decode("ascii")
    assert len(content.splitlines()) == 1
    assert json.loads(content) == facts


def test_a_reader_that_stops_holds_up_nobody(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(observe, "WAITING_LINES", 3)
    access_log = AccessLog()
    for number in range(5):
        access_log.note({"number": number})
    access_log.start()
    access_log.stop()
    *lines, last = logged(capfd)
    assert lines == [{"number": 0}, {"number": 1}, {"number": 2}]
    assert last["dropped_lines"] == 2
