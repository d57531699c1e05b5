"""DELETE /api/files/{file_id}: hidden at once, gone for every route, and removed by a run that is asked for."""

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import pytest

from storage.erasure import lift
from tests.waiting import wait_for

if TYPE_CHECKING:
    from tests.api.conftest import Api, FakePrefect

Serve = Callable[..., AbstractContextManager["Api"]]

START_A_RUN = [
    "GET /api/deployments/name/maintain/maintain",
    "POST /api/flow_runs/count",
    "POST /api/deployments/maintain-id/create_flow_run",
]


def erased(api: "Api", file_id: object) -> list[uuid.UUID]:
    with api.lake.index() as index:
        return sorted(index.erased([uuid.UUID(str(file_id))]))


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("ingested", [False, True])
def test_a_file_is_gone_for_every_route_at_once(api: "Api", ingested: bool, slash: str) -> None:
    file_id = api.ingested() if ingested else api.upload().json()["id"]
    other = api.upload(b"other").json()["id"]
    response = api.http.delete(f"/api/files/{file_id}{slash}")
    assert response.status_code == 202
    answer = response.json()
    assert "maintain" in answer.pop("message")
    assert answer == {"id": str(file_id), "status": "erased"}
    assert [file["id"] for file in api.files()] == [other]
    for path in (f"/api/files/{file_id}", f"/api/files/{file_id}/words"):
        assert api.http.get(path).status_code == 410
    assert api.upload().status_code == 410
    assert erased(api, file_id) == [uuid.UUID(str(file_id))]


def test_a_second_delete_finds_it_gone(api: "Api") -> None:
    file_id = api.ingested()
    head = api.lake.store.names("log")
    assert [api.http.delete(f"/api/files/{file_id}").status_code for _ in range(3)] == [202, 410, 410]
    assert len(api.lake.store.names("log")) == len(head) + 1


def test_deletes_at_once_erase_once(api: "Api") -> None:
    file_id = api.ingested()
    head = api.lake.store.names("log")
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: api.http.delete(f"/api/files/{file_id}").status_code, range(8)))
    assert sorted(statuses) == [202] + [410] * 7
    assert len(api.lake.store.names("log")) == len(head) + 1


@pytest.mark.parametrize("file_id", [str(uuid.UUID(int=7)), "42", "upload", "x" * 3000, "%00", "..%2F..%2Fetc"])
def test_an_unknown_file_is_not_found(api: "Api", file_id: str) -> None:
    response = api.http.delete(f"/api/files/{file_id}")
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert api.lake.store.names("log") == []


def test_a_file_that_was_lifted_can_be_erased_again(api: "Api") -> None:
    file_id = api.ingested()
    for _ in range(2):
        assert api.http.delete(f"/api/files/{file_id}").status_code == 202
        with api.lake.index() as index:
            lift(api.lake, index, [file_id], uuid.uuid4())
        assert api.upload().status_code in (200, 201)


def test_a_rejected_file_can_be_erased(api: "Api") -> None:
    file_id = api.upload().json()["id"]
    api.scribe.ingest(rejected=True)
    assert api.http.delete(f"/api/files/{file_id}").status_code == 202
    assert api.files() == []


def test_an_erasure_asks_for_the_run_that_removes_what_is_left(serve: Serve, prefect: "FakePrefect") -> None:
    with serve(PREFECT_API_URL=prefect.url) as api:
        file_id = api.ingested()
        prefect.wait_for(3)
        assert api.http.delete(f"/api/files/{file_id}").status_code == 202
        assert prefect.wait_for(6)[3:] == START_A_RUN
    assert prefect.asked == [{"tags": ["upload"]}, {"tags": ["erase"], "parameters": {"stages": ["erase"]}}]


def test_a_run_that_was_refused_is_asked_for_again_beside_others(serve: Serve, prefect: "FakePrefect") -> None:
    with serve(PREFECT_API_URL=prefect.url) as api:
        file_id = api.ingested()
        prefect.wait_for(3)
        prefect.busy = 1
        assert api.http.delete(f"/api/files/{file_id}").status_code == 202
        wait_for("refusal", lambda: not prefect.busy)
        assert api.upload(b"RIFF____WAVE and more").status_code == 201
        wait_for("runs", lambda: len(prefect.asked) == 3)
    assert sorted(run["tags"] for run in prefect.asked) == [["erase"], ["upload"], ["upload"]]


def test_a_store_that_fails_erases_nothing(api: "Api") -> None:
    file_id = api.upload().json()["id"]
    api.lake.store.write("log", b"a file where a folder should be")
    assert api.http.delete(f"/api/files/{file_id}").status_code == 503
    api.lake.store.local_path("log").unlink()
    assert api.file(file_id)["status"] == "pending"
    assert api.http.delete(f"/api/files/{file_id}").status_code == 202


def test_openapi_describes_it(api: "Api") -> None:
    route = api.http.get("/openapi.json").json()["paths"]["/api/files/{file_id}"]["delete"]
    assert {"202", "404", "410"} <= route["responses"].keys()
