"""Every error is an application/problem+json that says what failed and what is known."""

import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from api.dependencies import POLL_S
from api.problems import GoneProblem, NotFoundProblem, Problem, problem_kinds, problems
from storage.log import entry_path

if TYPE_CHECKING:
    from tests.api.conftest import Api


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    """Check what holds of every problem; return it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = dict(response.json())
    assert body["status"] == status
    assert body["type"].startswith("/problems/")
    assert body["title"]
    assert body["detail"]
    assert body["instance"] == response.request.url.path
    return body


@pytest.mark.parametrize("file_id", [str(uuid.UUID(int=7)), "42", "nothing", "%00", "тест", "x" * 3000])
def test_an_unknown_file_is_not_found_and_the_known_ones_are_named(api: "Api", file_id: str) -> None:
    known = api.ingested()
    for rest in ("", "/", "/words", "/words/"):
        body = problem(api.http.get(f"/api/files/{file_id}{rest}"), 404)
        assert body["known"] == [str(known)]
        assert "http://localhost:8000/api/files" in body["detail"]


def test_an_unknown_file_in_an_empty_lake_is_not_found(api: "Api") -> None:
    assert problem(api.http.get(f"/api/files/{uuid.uuid4()}"), 404)["known"] == []


def test_an_unknown_files_known_ones_include_uploads_that_wait(api: "Api") -> None:
    pending = api.upload().json()["id"]
    assert problem(api.http.get(f"/api/files/{uuid.uuid4()}"), 404)["known"] == [pending]


@pytest.mark.parametrize("slash", ["", "/"])
def test_an_unknown_model_is_not_found_and_the_known_ones_are_named(api: "Api", slash: str) -> None:
    file_id = api.ingested()
    api.scribe.group("words", "scene")
    api.scribe.refresh(file_id, {"words": [], "older": []})
    body = problem(api.http.get(f"/api/files/{file_id}/nonsense{slash}"), 404)
    assert body["known"] == ["older", "scene", "words"]
    assert "'nonsense'" in body["detail"]
    assert "older, scene, words" in body["detail"]


def test_before_the_first_group_no_model_is_known(api: "Api") -> None:
    file_id = api.upload().json()["id"]
    body = problem(api.http.get(f"/api/files/{file_id}/words"), 404)
    assert body["known"] == []
    assert "none yet" in body["detail"]


@pytest.mark.parametrize("value", ["1.1", "-0.1", "nan", "inf", "much", ""])
def test_a_confidence_out_of_bounds_is_named(api: "Api", value: str) -> None:
    file_id = api.ingested()
    for rest in ("", f"/{file_id}", f"/{file_id}/words"):
        body = problem(api.http.get(f"/api/files{rest}", params={"min_confidence": value}), 422)
        assert [error["field"] for error in body["errors"]] == ["query.min_confidence"]
        assert "min_confidence" in body["detail"]


def test_an_upload_without_the_field_file_names_it(api: "Api") -> None:
    body = problem(api.http.post("/api/files/upload", files={"recording": ("a.wav", b"RIFF")}), 422)
    assert "body.file" in body["detail"]
    assert body["errors"][0]["field"] == "body.file"
    assert api.stored() == []


def test_a_broken_multipart_body_is_a_problem(api: "Api") -> None:
    headers = {"Content-Type": "multipart/form-data"}
    problem(api.http.post("/api/files/upload", content=b"--b\r\n", headers=headers), 400)


@pytest.mark.parametrize("path", ["/", "/api", "/api/nothing", "/api/files/a/b/c", "/api/files/..%2F..%2Fetc%2Fpasswd"])
def test_a_path_that_no_route_has_is_a_problem(api: "Api", path: str) -> None:
    assert problem(api.http.get(path), 404)["type"] == "/problems/not-found"


@pytest.mark.parametrize(("method", "path"), [("DELETE", "/api/files"), ("PUT", "/api/files/upload")])
def test_a_method_that_a_route_does_not_know_is_a_problem(api: "Api", method: str, path: str) -> None:
    response = api.http.request(method, path)
    problem(response, 405)
    assert response.headers["allow"]


@pytest.mark.parametrize("slash", ["", "/"])
def test_all_methods_that_a_path_knows_are_named(api: "Api", slash: str) -> None:
    allowed = api.http.put(f"/api/files/{uuid.UUID(int=7)}{slash}").headers["allow"].split(", ")
    assert {"DELETE", "GET"} <= set(allowed)


def test_a_bug_is_a_problem_that_tells_nothing_of_the_inside(api: "Api", caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise RuntimeError("the inside")

    api.app.add_api_route("/fail", fail)
    response = api.http.get("/fail")
    problem(response, 500)
    assert "the inside" not in response.text
    assert "the inside" in caplog.text


@pytest.mark.parametrize("taken", ["media", "inbox"])
def test_an_upload_that_cannot_be_stored_is_not_acknowledged(api: "Api", taken: str) -> None:
    api.lake.store.write(taken, b"a file where a folder should be")
    problem(api.upload(), 503)
    (api.lake.store.root / taken).unlink()
    assert api.upload().status_code == 201


def test_a_damaged_log_is_a_problem_until_it_is_repaired(api: "Api") -> None:
    file_id = api.ingested()
    api.lake.store.write(entry_path(2), b"{")
    for path in ("/api/files", f"/api/files/{file_id}", f"/api/files/{file_id}/words"):
        assert "log entry 2" in problem(api.http.get(path), 503)["detail"]
    time.sleep(3 * POLL_S)  # the thread that follows the log has met it as well
    api.lake.store.remove(entry_path(2))
    assert api.file(file_id)["id"] == str(file_id)
    assert "index" in [thread.name for thread in threading.enumerate()]


def test_a_value_out_of_bounds_is_shown_escaped_and_short_beside_its_limit(api: "Api") -> None:
    for value, said in (("1.5", "'1.5'"), ("\u202e\n\u2028" + "x" * 3000, "'\\u202e\\n\\u2028")):
        body = problem(api.http.get("/api/files", params={"min_confidence": value}), 422)
        (error,) = body["errors"]
        assert error["value"].startswith(said)
        assert len(error["value"]) < 150
        assert error["value"] in body["detail"]
    body = problem(api.http.get("/api/files", params={"min_confidence": "1.5"}), 422)
    assert body["errors"][0]["limit"] == {"le": "1.0"}


def test_openapi_says_of_every_route_what_may_go_wrong(api: "Api") -> None:
    document = api.http.get("/openapi.json").json()
    schema = document["components"]["schemas"]["Problem"]
    assert set(schema["required"]) == {"type", "title", "status", "detail", "instance"}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            for status, answer in operation["responses"].items():
                if status >= "400":
                    where = answer.get("$ref", "").rpartition("/")[2]
                    said = document["components"]["responses"][where] if where else answer
                    assert list(said["content"]) == ["application/problem+json"], (method, path, status)
                    assert said["description"]
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_a_routes_own_problems_are_described_by_their_classes() -> None:
    described = problems(NotFoundProblem, GoneProblem)
    assert set(described) == {404, 410}
    examples = described[410]["content"]["application/problem+json"]["examples"]
    assert examples["gone"]["value"]["type"] == "/problems/gone"


def test_every_kind_of_problem_has_its_own_name_and_says_what_it_means() -> None:
    kinds = problem_kinds()
    assert len(kinds) == 1 + len(Problem.__subclasses__())
    for kind, each in kinds.items():
        assert kind.replace("-", "").isalpha()
        assert each.__doc__ is not None
        assert each.title
        assert each.example
