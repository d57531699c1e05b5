"""Uploads that are too large: refused at once or while they arrive, in an answer that the client sees."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import pytest

from api import lingering
from tests.api.conftest import WAV
from tests.api.sending import END, body, line_to, part, post

if TYPE_CHECKING:
    from tests.api.conftest import Api

Serve = Callable[..., AbstractContextManager["Api"]]

LIMIT = 1 << 20


@pytest.fixture
def small(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Iterator["Api"]:
    """An API that takes uploads of up to a mebibyte."""
    monkeypatch.setattr(lingering, "QUIET_S", 0.2)
    with serve(MAX_UPLOAD_MB=1) as api:
        yield api


def test_the_limit_is_the_recordings_own_size(small: "Api") -> None:
    assert post(small.http, body(WAV.ljust(LIMIT, b"-"))).status_code == 201
    before = small.stored()
    response = post(small.http, body(WAV.ljust(LIMIT + 1, b"-")))
    assert (response.status_code, response.json()["type"]) == (413, "/problems/too-large")
    assert response.json()["limit"] == LIMIT
    assert "MAX_UPLOAD_MB" in response.json()["detail"]
    assert small.stored() == before


def test_a_body_that_claims_ten_gigabytes_is_refused_before_any_of_it_is_read(small: "Api") -> None:
    with line_to(small.http) as line:
        line.head("Content-Length: 10000000000")
        status, headers, answer = line.answer()
        assert (status, headers["connection"], answer["status"]) == (413, "close", 413)
        assert line.socket.recv(1) == b""
    assert small.stored() == []


@pytest.mark.parametrize("header", ["Content-Length: 10000000000", "Transfer-Encoding: chunked"])
def test_a_client_that_goes_on_sending_sees_why_it_is_refused(small: "Api", header: str) -> None:
    piece = bytes(1 << 16)
    with line_to(small.http) as line:
        line.head(header)

        def send() -> None:
            with contextlib.suppress(OSError):
                line.chunk(part() + WAV)
                for _ in range(1000):
                    line.chunk(piece)

        sender = threading.Thread(target=send)
        sender.start()
        assert line.answer()[0] == 413
        sender.join()
    assert small.stored() == []


def test_a_body_that_never_ends_is_cut_off(small: "Api", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lingering, "LINGER_S", 0.3)
    sent = 0
    with line_to(small.http) as line, contextlib.suppress(OSError):
        line.head("Transfer-Encoding: chunked")
        line.chunk(part() + WAV)
        while True:
            line.chunk(bytes(1 << 16))
            sent += 1
    assert sent
    assert small.stored() == []
    assert small.http.get("/api/files").json() == []


def test_who_asks_first_is_answered_before_it_sends(small: "Api") -> None:
    content = body(WAV)
    with line_to(small.http) as line:
        line.head("Expect: 100-continue", "Content-Length: 10000000000")
        assert line.answer()[0] == 413
    with line_to(small.http) as line:
        line.head("Expect: 100-continue", f"Content-Length: {len(content)}")
        assert line.answer()[0] == 100
        line.socket.sendall(content)
        assert line.answer()[0] == 201


def test_other_fields_are_bounded_as_well(small: "Api") -> None:
    response = post(small.http, part(field=b"other") + bytes(3 << 20) + END)
    assert response.status_code == 413
    assert small.stored() == []


def test_an_answer_before_the_body_of_any_route_is_seen(small: "Api") -> None:
    with line_to(small.http) as line:
        line.head("Content-Length: 10000", path="/api/nothing")
        line.socket.sendall(bytes(1000))
        status, headers, _ = line.answer()
        assert (status, headers["connection"]) == (404, "close")
        line.socket.sendall(bytes(1000))
        assert line.socket.recv(1) == b""
