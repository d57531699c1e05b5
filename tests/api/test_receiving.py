"""Uploads while they arrive: in pieces, slowly, many at once, and cut short."""

import contextlib
import hashlib
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from api import guard, lingering
from api.receiving import BLOCK_BYTES
from storage.media import media_path
from tests.api.conftest import WAV
from tests.api.sending import END, MULTIPART, body, line_to, part, post
from tests.api.test_metrics import numbers
from tests.waiting import wait_for

if TYPE_CHECKING:
    from tests.api.conftest import Api

SLOW_CLIENTS = 200


def wait_until_nothing_is_stored(api: "Api") -> None:
    """The server learns a moment later that a client is gone."""
    for _ in range(1000):
        if not api.stored():
            break
        time.sleep(0.01)
    assert api.stored() == []


def test_an_upload_goes_to_disk_while_it_arrives_and_nowhere_else(api: "Api", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    content = WAV + bytes(3 * BLOCK_BYTES)
    with line_to(api.http) as line:
        line.head("Transfer-Encoding: chunked")
        line.chunk(part() + content[: 2 * BLOCK_BYTES])
        for _ in range(1000):
            staged = [api.lake.store.stat(path) for path in api.stored()]
            if staged and staged[0] and staged[0].size_bytes >= BLOCK_BYTES:
                break
            time.sleep(0.01)
        assert [path.startswith("media/staging/.") for path in api.stored()] == [True]
        line.chunk(content[2 * BLOCK_BYTES :] + END)
        line.chunk(b"")
        assert line.answer()[0] == 201
    assert api.lake.store.read(media_path(hashlib.sha256(content).hexdigest())) == content


def test_an_upload_may_come_byte_by_byte(api: "Api") -> None:
    with line_to(api.http) as line:
        line.head("Transfer-Encoding: chunked")
        for byte in body(WAV, "é.wav".encode()):
            line.chunk(bytes([byte]))
        line.chunk(b"")
        status, _, answer = line.answer()
    assert (status, answer["file"]) == (201, "é.wav")


def test_slow_clients_keep_nobody_from_being_answered(api: "Api", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODY_PAUSE_S", 120.0)
    with contextlib.ExitStack() as lines:
        slow = [lines.enter_context(line_to(api.http)) for _ in range(SLOW_CLIENTS)]
        for number, line in enumerate(slow):
            line.head("Content-Length: 1000000")
            line.socket.sendall(part() + WAV + bytes([number]))
        assert api.http.get("/api/files").json() == []
        assert post(api.http, body(WAV)).status_code == 201
        for _ in range(1000):
            if len(api.stored()) == SLOW_CLIENTS + 2:  # and the one that was quick, with its receipt
                break
            time.sleep(0.01)
        assert len(api.stored()) == SLOW_CLIENTS + 2, "all of them are under way"
        assert api.http.get("/api/files").json()[0]["status"] == "pending"
    for _ in range(1000):
        if len(api.stored()) == 2:
            break
        time.sleep(0.01)
    assert sorted(path.split("/")[0] for path in api.stored()) == ["inbox", "media"]


def test_many_uploads_at_once_are_each_stored_whole(api: "Api") -> None:
    contents = [WAV + bytes([number]) * (BLOCK_BYTES + number) for number in range(24)]
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda content: post(api.http, body(content)), contents))
    assert {answer.status_code for answer in answers} == {201}
    for content in contents:
        assert api.lake.store.read(media_path(hashlib.sha256(content).hexdigest())) == content


@pytest.mark.parametrize("sent", [part()[:20], part() + WAV, part() + WAV + bytes(2 * BLOCK_BYTES)])
@pytest.mark.parametrize("header", ["Content-Length: 10000000", "Transfer-Encoding: chunked"])
def test_a_client_that_leaves_early_has_stored_nothing(
    api: "Api", caplog: pytest.LogCaptureFixture, sent: bytes, header: str
) -> None:
    with line_to(api.http) as line:
        line.head(header)
        line.chunk(sent) if "chunked" in header else line.socket.sendall(sent)
    ended = {"audiophile_requests_total", "POST"}
    wait_for("the end of the request", lambda: any(ended <= {*labels} for labels in numbers(api)))
    wait_until_nothing_is_stored(api)
    assert api.files() == []
    assert "failed" not in caplog.text


@pytest.mark.parametrize("content", [part() + WAV, part() + WAV + END[:-4], b""])
def test_a_body_without_its_closing_boundary_is_malformed(api: "Api", content: bytes) -> None:
    response = post(api.http, content)
    assert (response.status_code, response.json()["type"]) == (400, "/problems/malformed")
    assert api.stored() == []


def test_a_body_that_stands_still_is_given_up(api: "Api", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODY_PAUSE_S", 0.2)
    monkeypatch.setattr(lingering, "QUIET_S", 0.1)
    with line_to(api.http) as line:
        line.head("Content-Length: 1000000")
        line.socket.sendall(part() + WAV)
        status, headers, answer = line.answer()
        assert (status, headers["connection"]) == (408, "close")
        assert answer["type"] == "/problems/too-slow"
        assert line.socket.recv(1) == b"", "and the connection is closed"
    wait_until_nothing_is_stored(api)


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({}, "no Content-Type"),
        ({"Content-Type": "application/json"}, "'application/json'"),
        ({"Content-Type": "multipart/mixed; boundary=b"}, "multipart/mixed"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, "urlencoded"),
        ({"Content-Type": "text/\u202ex; boundary=b".encode()}, "x80"),
        ({"Content-Type": MULTIPART, "Content-Encoding": "gzip"}, "compressed"),
    ],
)
def test_another_kind_of_body_is_told_how_to_come(api: "Api", headers: dict[str, str | bytes], said: str) -> None:
    path = "/api/files/upload"
    response = api.http.post(path, content=body(WAV), headers=headers)
    assert response.status_code == 415
    assert response.json()["type"] == "/problems/unsupported-media-type"
    assert said in response.json()["detail"]
    assert f"curl -F file=@recording.wav http://localhost:8000{path}" in response.json()["detail"]
    assert response.headers["accept"] == "multipart/form-data"
    assert api.stored() == []


def test_a_body_without_a_boundary_in_its_type_is_malformed(api: "Api") -> None:
    response = api.http.post("/api/files/upload", content=body(WAV), headers={"Content-Type": "multipart/form-data"})
    assert response.status_code == 400
    assert "boundary" in response.json()["detail"]


def test_the_connection_stays_after_an_upload(api: "Api") -> None:
    with line_to(api.http) as line:
        for number in range(3):
            content = body(WAV + bytes([number]))
            line.head(f"Content-Length: {len(content)}")
            line.socket.sendall(content)
            status, headers, _ = line.answer()
            assert (status, headers.get("connection")) == (201, None)


def test_openapi_describes_the_body_and_every_answer(api: "Api") -> None:
    paths = api.http.get("/openapi.json").json()["paths"]
    for path in ("/api/files/upload", "/api/files/upload/s3"):
        route = paths[path]["post"]
        schema = route["requestBody"]["content"]["multipart/form-data"]["schema"]
        assert schema["properties"]["file"]["format"] == "binary"
        assert (schema["required"], route["requestBody"]["required"]) == (["file"], True)
        expected = {"200", "201", "400", "408", "410", "413", "415", "422", "503"}
        assert expected | ({"501"} if path.endswith("/s3") else set()) <= route["responses"].keys()
        assert "Location" in route["responses"]["201"]["headers"]


def test_no_thread_waits_for_a_client(api: "Api") -> None:
    api.http.get("/api/files")
    before = threading.active_count()
    with contextlib.ExitStack() as lines:
        for _ in range(60):  # more than the pool has threads
            line = lines.enter_context(line_to(api.http))
            line.head("Content-Length: 1000")
        assert api.http.get("/api/files").status_code == 200
        assert threading.active_count() < before + 60
