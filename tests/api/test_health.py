"""/healthz, /readyz and /problems: what who runs the API asks for, with or without keys."""

import time
from typing import TYPE_CHECKING, Any

import pytest

from api import health
from api.dependencies import POLL_S
from storage.log import entry_path
from tests.api.test_problems import problem
from tests.waiting import wait_for

if TYPE_CHECKING:
    from tests.api.conftest import Api


def ready(api: "Api") -> dict[str, Any]:
    """Wait until the API is ready, which it is once the log has been looked at."""
    for _ in range(200):
        response = api.http.get("/readyz")
        if response.is_success:
            return dict(response.json())
        problem(response, 503)
        time.sleep(0.02)
    raise AssertionError(response.text)


@pytest.mark.parametrize("path", ["/healthz", "/healthz/"])
def test_it_is_alive_while_it_answers(api: "Api", path: str) -> None:
    api.lake.store.write(entry_path(1), b"{")
    assert api.http.get(path).json() == {"status": "alive"}


def test_it_is_ready_once_the_index_has_the_log(api: "Api") -> None:
    api.ingested()
    answer = ready(api)
    assert answer["status"] == "ready"
    assert answer["seconds_behind"] < 30
    assert api.http.get("/readyz/").status_code == 200


def test_it_is_not_ready_while_the_log_cannot_be_followed(api: "Api", monkeypatch: pytest.MonkeyPatch) -> None:
    ready(api)
    monkeypatch.setattr(health, "READY_LAG_S", POLL_S)
    api.lake.store.write(entry_path(1), b"{")
    wait_for("a failure", lambda: "log entry 1" in api.app.state.service.failure)
    wait_for("a lag", lambda: api.app.state.service.lag_s() > POLL_S)
    response = api.http.get("/readyz")
    body = problem(response, 503)
    assert body["type"] == "/problems/behind"
    assert "log entry 1" in body["detail"]
    assert body["seconds_behind"] > POLL_S
    assert response.headers["retry-after"] == "5"
    monkeypatch.setattr(health, "READY_LAG_S", 30)
    api.lake.store.remove(entry_path(1))
    assert ready(api)["applied_seq"] == 0


def test_how_far_behind_it_is_is_counted_without_reading(api: "Api") -> None:
    ready(api)
    for seq in range(1, 12):
        api.lake.store.write(entry_path(seq), b"{")
        assert api.http.get("/readyz").json()["entries_behind"] == seq


def test_every_kind_of_problem_says_what_it_means(api: "Api") -> None:
    gone = api.http.get("/problems/gone").json()
    assert gone == {
        "type": "/problems/gone",
        "title": "Not kept any more",
        "status": 410,
        "meaning": "There was one, and it is not kept any more.",
    }
    wrong = problem(api.http.get("/problems/x%E2%80%AE"), 404)
    for kind in wrong["known"]:
        answer = api.http.get(f"/problems/{kind}").json()
        assert answer["type"] == f"/problems/{kind}"
        assert answer["meaning"]
    assert "\\u202e" in wrong["detail"]


@pytest.mark.parametrize(("path", "up"), [("/docs", ""), ("/docs/", "../")])
def test_the_docs_load_nothing_from_elsewhere(api: "Api", path: str, up: str) -> None:
    page = api.http.get(path)
    assert "//" not in page.text
    assert "<script>" not in page.text
    assert "script-src 'self';" in page.headers["content-security-policy"]
    for asset, content_type in (
        ("docs/files/swagger-ui-bundle.js", "text/javascript"),
        ("docs/files/swagger-ui.css", "text/css"),
        ("docs/start.js", "text/javascript"),
        ("openapi.json", "application/json"),
    ):
        assert f'"{up}{asset}"' in page.text
        response = api.http.get(f"/{asset}")
        assert response.status_code == 200
        assert response.headers["content-type"].startswith(content_type)
