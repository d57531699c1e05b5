"""What a server without keys refuses, what every answer carries, and how much a request may take."""

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from api import guard, lingering, server
from api.guard import ADDRESS_BYTES, BODY_BYTES, HEADERS_BYTES
from tests.api.conftest import WAV
from tests.api.test_problems import problem
from tests.raw import connected, exchanged, said

if TYPE_CHECKING:
    from tests.api.conftest import Api


@pytest.fixture(autouse=True)
def no_lingering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lingering, "LINGER_S", 0.1)


Serve = Callable[..., contextlib.AbstractContextManager["Api"]]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:8000"])
def test_names_of_this_machine_are_answered(api: "Api", host: str) -> None:
    assert api.http.get("/api/files", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "elsewhere.example",
        "localhost.elsewhere.example",
        "127.0.0.1.elsewhere.example",
        "10.0.0.1",
        "localhost@x",
        "",
        "[::2]",
    ],
)
def test_a_name_that_was_made_to_point_here_is_refused(api: "Api", host: str) -> None:
    for path in ("/api/files", "/docs", "/metrics", "/api/nothing"):
        body = problem(api.http.get(path, headers={"Host": host}), 421)
        assert body["type"] == "/problems/foreign-host"
        assert "AUDIOPHILE_API_KEYS" in body["detail"]


def test_the_host_of_the_base_url_is_answered(serve: Serve) -> None:
    with serve(BASE_URL="https://Bücher.example/audio") as api:
        assert api.http.get("/api/files", headers={"Host": "xn--bcher-kva.example"}).status_code == 200


def test_two_hosts_are_refused(api: "Api") -> None:
    answer = exchanged(api.http, b"GET /api/files HTTP/1.1\r\nHost: localhost\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"/problems/malformed" in answer


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://elsewhere.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:3000"},
        {"Origin": "http://127.0.0.1.elsewhere.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "\u202ehttps://x\u2028".encode("utf-8", "replace").decode("latin-1")},
    ],
)
def test_a_page_of_another_origin_can_change_nothing(api: "Api", headers: dict[str, str]) -> None:
    for method, path in (("POST", "/api/files/upload"), ("DELETE", "/api/files/x"), ("PUT", "/api/files")):
        raw = {name: value.encode("latin-1") for name, value in headers.items()}
        assert problem(api.http.request(method, path, headers=raw), 403)["type"] == "/problems/cross-site"  # type: ignore[arg-type]
    assert api.stored() == []


def test_this_servers_own_pages_and_what_is_no_browser_may_upload(api: "Api") -> None:
    own = f"http://127.0.0.1:{api.http.base_url.port}"
    for headers in ({}, {"Origin": own}, {"Sec-Fetch-Site": "same-origin", "Origin": own}, {"Sec-Fetch-Site": "none"}):
        response = api.http.post("/api/files/upload", headers=headers, files={"file": ("a.wav", WAV)})
        assert response.is_success


def test_without_a_setting_no_origin_may_read(api: "Api") -> None:
    response = api.http.get("/api/files", headers={"Origin": "https://app.example"})
    assert "access-control-allow-origin" not in response.headers
    assert response.headers["cross-origin-resource-policy"] == "same-origin"


def test_an_origin_that_is_named_may_read_and_upload_and_sees_errors(serve: Serve) -> None:
    app, keys = {"Origin": "https://app.example"}, "k" * 32
    for more, key in (({}, {}), ({"AUDIOPHILE_API_KEYS": f"{keys}:read+upload"}, {"X-API-Key": keys})):
        with serve(API_CORS_ORIGINS="https://app.example, http://localhost:3000", **more) as api:
            asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
            preflight = api.http.options("/api/files/upload", headers=app | asked)
            assert preflight.status_code == 200
            assert preflight.headers["access-control-allow-origin"] == "https://app.example"
            assert "x-content-type-options" in preflight.headers
            uploaded = api.http.post("/api/files/upload", headers=app | key, files={"file": ("a.wav", WAV)})
            missing, wrong = (api.http.get(path, headers=app | key) for path in ("/api/files/x", "/nothing"))
            refused = api.http.get("/api/files/x", headers=app | {"X-API-Key": "y"})
            for response in (uploaded, missing, wrong, refused):
                assert response.headers["access-control-allow-origin"] == "https://app.example"
                assert "etag" in response.headers["access-control-expose-headers"].lower()
            assert "access-control-allow-credentials" not in uploaded.headers
            other = api.http.get("/api/files", headers=key | {"Origin": "https://elsewhere.example"})
            assert "access-control-allow-origin" not in other.headers


def test_a_bug_is_answered_with_all_headers(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise RuntimeError("the inside")

    with serve(API_CORS_ORIGINS="https://app.example") as api:
        api.app.add_api_route("/fail", fail)
        response = api.http.get("/fail", headers={"Origin": "https://app.example"})
    problem(response, 500)
    assert response.headers["access-control-allow-origin"] == "https://app.example"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert caplog.text.count("RuntimeError: the inside") == 1


@pytest.mark.parametrize(
    "path", ["/api/files", "/api/files/x", "/nothing", "/docs", "/metrics", "/docs/files/swagger-ui.css"]
)
def test_every_answer_carries_the_security_headers(api: "Api", path: str) -> None:
    for response in (api.http.get(path), api.http.post(path), api.http.get(path, headers={"Host": "x"})):
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["referrer-policy"] == "no-referrer"
        assert response.headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in response.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
        assert "server" not in response.headers


def test_a_body_that_no_upload_needs_is_bounded(api: "Api") -> None:
    for path, method in (("/api/files", "GET"), ("/api/files/x", "DELETE"), ("/api/files", "POST")):
        small = api.http.request(method, path, content=b"x" * BODY_BYTES)
        assert small.status_code != 413
        body = problem(api.http.request(method, path, content=b"x" * (BODY_BYTES + 1)), 413)
        assert (body["type"], body["limit"]) == ("/problems/too-large", BODY_BYTES)


def test_a_body_that_claims_ten_gigabytes_is_refused_before_it_comes(api: "Api") -> None:
    claim = b"DELETE /api/files/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000000\r\n\r\n"
    assert exchanged(api.http, claim).startswith(b"HTTP/1.1 413")


def test_a_body_that_never_ends_is_cut_off(api: "Api") -> None:
    async def reads(request: Request) -> Response:
        return Response(await request.body())

    api.app.router.add_route("/reads", reads, methods=["POST"])

    def endless() -> Any:
        while True:
            yield b"x" * 8192

    with contextlib.suppress(httpx.WriteError):
        problem(api.http.post("/reads", content=endless()), 413)


@pytest.mark.parametrize("path", ["/api/files/upload", "/reads"])
def test_a_body_that_stops_is_given_up(api: "Api", monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    async def reads(request: Request) -> Response:
        return Response(await request.body())

    api.app.router.add_route("/reads", reads, methods=["POST"])
    monkeypatch.setattr(guard, "BODY_PAUSE_S", 0.05)
    form = "Content-Type: multipart/form-data; boundary=b"
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n{form}\r\n\r\n--b"
    answer = exchanged(api.http, head.encode())
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"/problems/too-slow" in answer


def test_a_body_that_trickles_is_given_up(api: "Api", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODY_PAUSE_S", 0.3)
    monkeypatch.setattr(guard, "BODY_RATE", 1_000_000)

    async def reads(request: Request) -> Response:
        return Response(await request.body())

    api.app.router.add_route("/reads", reads, methods=["POST"])
    answer = trickled(api.http, b"POST /reads HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 408")


def test_a_body_that_goes_on_after_its_answer_is_cut_off(api: "Api") -> None:
    answer = trickled(api.http, b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 404")


def trickled(http: httpx.Client, head: bytes) -> bytes:
    """Send a head, and byte by byte a body that never ends; return what comes back until the server closes."""
    ended = threading.Event()
    with connected(http) as connection:
        connection.sendall(head)

        def trickle() -> None:
            with contextlib.suppress(OSError):
                while not ended.wait(0.05):
                    connection.sendall(b"-")

        thread = threading.Thread(target=trickle)
        thread.start()
        answer = said(connection)
        ended.set()
        thread.join()
    return answer


def test_a_client_that_leaves_in_the_middle_of_its_body_leaves_nothing(api: "Api") -> None:
    with connected(api.http) as connection:
        connection.sendall(
            b"POST /api/files/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n"
            b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
        )
    assert api.http.get("/api/files").json() == []
    assert api.stored() == []


def test_long_addresses_and_headers_are_refused_with_their_limits(api: "Api") -> None:
    body = problem(api.http.get("/api/files/" + "x" * ADDRESS_BYTES), 414)
    assert str(ADDRESS_BYTES) in body["detail"]
    body = problem(api.http.get("/api/files", params={"q": "x" * ADDRESS_BYTES}), 414)
    body = problem(api.http.get("/api/files", headers={f"X-{n}": "y" * 1000 for n in range(40)}), 431)
    assert str(HEADERS_BYTES) in body["detail"]


def test_headers_that_never_end_are_refused(api: "Api") -> None:
    endless = b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 1_000_000
    with connected(api.http) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(endless)
        answer = said(connection)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 431")


@pytest.mark.parametrize(
    "request_",
    [b"\x16\x03\x01\x00", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\nX\x00: b\r\n\r\n"],
)
def test_what_is_no_http_is_a_problem(api: "Api", request_: bytes) -> None:
    answer = exchanged(api.http, request_)
    assert answer.startswith(b"HTTP/1.1 400")
    body = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert (body["type"], body["status"]) == ("/problems/malformed", 400)
    assert api.http.get("/healthz").status_code == 200


def test_slow_headers_are_given_up(api: "Api", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_S", 0.1)
    assert exchanged(api.http, b"") == b""
    monkeypatch.setattr(server, "HEAD_S", 1.0)  # time enough to send what has no end
    answer = exchanged(api.http, b"GET /healthz HTTP/1.1\r\nHost: loc")
    assert answer.startswith(b"HTTP/1.1 408")
    whole = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer = exchanged(api.http, whole + b"GET /healthz HTTP/1.1\r\nHost: loc")
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"HTTP/1.1 408" in answer


def test_200_slow_clients_keep_nobody_waiting(api: "Api", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_S", 120.0)
    monkeypatch.setattr(guard, "BODY_PAUSE_S", 120.0)
    with contextlib.ExitStack() as open_:
        slow = [open_.enter_context(connected(api.http)) for _ in range(200)]
        for number, connection in enumerate(slow):
            body = b"POST /api/files/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nx"
            connection.sendall(b"GET /api/files HTTP/1.1\r\nHo" if number % 2 else body)
        assert api.http.get("/api/files").json() == []
        assert api.upload().status_code == 201
        for connection in slow[1::2]:
            connection.sendall(b"st: localhost\r\nConnection: close\r\n\r\n")
        for connection in slow[1::2]:
            assert said(connection).startswith(b"HTTP/1.1 200")


def test_a_client_that_reads_nothing_is_cut_off(api: "Api", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "UNREAD_S", 0.1)
    sent = threading.Event()

    async def endless(request: Request) -> Response:
        async def parts() -> Any:
            try:
                while True:
                    yield b"x" * 65_536
                    await asyncio.sleep(0)
            finally:
                sent.set()

        return StreamingResponse(parts())

    api.app.router.add_route("/endless", endless)
    with connected(api.http) as connection:
        connection.sendall(b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert sent.wait(20)


def test_more_requests_than_the_limit_are_told_to_come_back(serve: Serve) -> None:
    busy, ended = threading.Event(), threading.Event()

    def slow() -> None:
        busy.set()
        ended.wait(20)

    with serve(API_MAX_REQUESTS=1) as api:
        api.app.add_api_route("/slow", slow)
        with ThreadPoolExecutor(1) as pool:
            under_way = pool.submit(api.http.get, "/slow")
            assert busy.wait(20)
            response = api.http.get("/api/files")
            assert problem(response, 503)["type"] == "/problems/busy"
            assert response.headers["retry-after"] == "1"
            assert api.http.get("/healthz").status_code == 200
            ended.set()
            assert under_way.result().status_code == 200
        assert api.http.get("/api/files").status_code == 200
