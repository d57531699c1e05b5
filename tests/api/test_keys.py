"""Keys and scopes: who may ask what, and that no key is ever shown."""

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.api.conftest import WAV
from tests.api.test_problems import problem

if TYPE_CHECKING:
    from tests.api.conftest import Api

READER, UPLOADER, ALL = "r" * 32, "u" * 32, "a" * 32
KEYS = f"{READER},{UPLOADER}:upload, {ALL}:read+upload+delete"
Serve = Callable[..., contextlib.AbstractContextManager["Api"]]


@pytest.fixture
def locked(serve: Serve) -> Iterator["Api"]:
    with serve(AUDIOPHILE_API_KEYS=KEYS) as running:
        yield running


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize("path", ["/api/files", "/api/models", "/metrics", "/api/nothing", "/", "/docsx", "/healthz/x"])
def test_without_a_key_nothing_is_said(locked: "Api", path: str) -> None:
    for headers in (
        {},
        {"Authorization": "Bearer"},
        bearer("x" * 32),
        {"X-API-Key": "x"},
        {"Authorization": f"Basic {READER}"},
    ):
        response = locked.http.get(path, headers=headers)
        assert problem(response, 401)["type"] == "/problems/key-required"
        assert response.headers["www-authenticate"] == 'Bearer realm="audiophile"'


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/docs", "/docs/start.js", "/openapi.json", "/problems/gone"])
def test_what_is_open_needs_no_key(locked: "Api", path: str) -> None:
    assert locked.http.get(path).status_code in (200, 503)
    assert problem(locked.http.post(path), 401)
    assert problem(locked.http.post(path, headers=bearer(ALL)), 405)


@pytest.mark.parametrize("headers", [bearer(READER), {"Authorization": f"bearer  {READER}"}, {"X-API-Key": READER}])
def test_a_key_is_taken_from_either_header(locked: "Api", headers: dict[str, str]) -> None:
    assert locked.http.get("/api/files", headers=headers).json() == []
    beside = {"Authorization": "Basic of-a-proxy"} | headers
    assert locked.http.get("/api/files", headers=beside).json() == []


@pytest.mark.parametrize(
    ("method", "path", "key", "missing"),
    [
        ("POST", "/api/files/upload", READER, "upload"),
        ("GET", "/api/files", UPLOADER, "read"),
        ("GET", "/metrics", UPLOADER, "read"),
        ("DELETE", "/api/files/x", UPLOADER, "delete"),
        ("PUT", "/api/files", READER, "delete"),
    ],
)
def test_a_scope_that_a_key_lacks_is_named(locked: "Api", method: str, path: str, key: str, missing: str) -> None:
    body = problem(locked.http.request(method, path, headers=bearer(key)), 403)
    assert body["type"] == "/problems/forbidden"
    assert body["missing"] == missing
    assert f"`{missing}`" in body["detail"]


def test_a_scope_lets_through_what_it_says(locked: "Api") -> None:
    uploaded = {"files": {"file": ("a.wav", WAV)}}
    assert locked.http.post("/api/files/upload", headers=bearer(UPLOADER), **uploaded).status_code == 201
    assert locked.http.post("/api/files/upload", headers=bearer(ALL), **uploaded).status_code == 200
    assert locked.http.put("/api/files", headers=bearer(ALL)).status_code == 405


def test_a_key_that_is_sent_twice_is_refused(locked: "Api") -> None:
    headers = [("X-API-Key", "x" * 32), ("X-API-Key", READER)]
    assert problem(locked.http.get("/api/files", headers=headers), 400)["type"] == "/problems/malformed"


def test_with_keys_any_host_and_origin_may_ask(locked: "Api") -> None:
    headers = bearer(ALL) | {"Host": "audio.example", "Origin": "https://elsewhere.example"}
    response = locked.http.post("/api/files/upload", headers=headers, files={"file": ("a.wav", WAV)})
    assert response.status_code == 201


def test_the_access_log_knows_a_key_by_its_fingerprint_only(serve: Serve, capfd: Any) -> None:
    with serve(AUDIOPHILE_API_KEYS=KEYS) as locked:
        locked.http.get("/api/files", headers=bearer(READER))
        locked.http.get("/api/files", headers={"X-API-Key": ALL})
        locked.http.get("/api/files", headers=bearer("x" * 32))
    out, err = capfd.readouterr()
    keys = [json.loads(line)["key"] for line in out.splitlines()]
    assert keys[2] is None
    assert len(set(keys)) == 3
    assert all(len(key) == 8 for key in keys[:2])
    assert not any(key in out + err for key in (READER, ALL, "x" * 32))


def test_openapi_declares_the_keys_and_says_where_none_is_needed(locked: "Api") -> None:
    document = locked.http.get("/openapi.json").json()
    schemes = document["components"]["securitySchemes"]
    assert (schemes["bearer"]["type"], schemes["bearer"]["scheme"]) == ("http", "bearer")
    assert (schemes["key"]["in"], schemes["key"]["name"]) == ("header", "X-API-Key")
    assert document["paths"]["/api/files"]["get"]["security"] == [{"bearer": []}, {"key": []}]
    assert document["paths"]["/healthz"]["get"]["security"] == [{}]
    assert "401" in document["paths"]["/metrics"]["get"]["responses"]
    assert "401" not in document["paths"]["/healthz"]["get"]["responses"]


def test_without_keys_openapi_says_that_none_is_needed(api: "Api") -> None:
    document = api.http.get("/openapi.json").json()
    assert {} in document["paths"]["/api/files"]["get"]["security"]
