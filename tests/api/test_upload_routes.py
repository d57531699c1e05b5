"""POST /api/files/upload: acknowledged once the bytes are safe, whatever they are called and whoever is away."""

import hashlib
import math
import threading
import uuid
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from api import trigger
from storage.media import media_path
from tests.waiting import wait_for

if TYPE_CHECKING:
    from tests.api.conftest import Api, FakePrefect

Serve = Callable[..., AbstractContextManager["Api"]]

WAV = b"RIFF____WAVE and more"
SHA256 = hashlib.sha256(WAV).hexdigest()
FILE_ID = str(uuid.UUID(SHA256[:32]))
START_A_RUN = [
    "GET /api/deployments/name/ingest/ingest",
    "POST /api/flow_runs/count",
    "POST /api/deployments/ingest-id/create_flow_run",
]


@pytest.mark.parametrize("path", ["/api/files/upload", "/api/files/upload/"])
def test_an_upload_is_acknowledged_with_its_id_and_link(api: "Api", path: str) -> None:
    response = api.http.post(path, files={"file": ("call-17.wav", WAV)})
    assert response.status_code == 201
    assert response.headers["location"] == f"http://localhost:8000/api/files/{FILE_ID}"
    answer = response.json()
    assert isinstance(answer.pop("message"), str)
    assert answer == {
        "id": FILE_ID,
        "file": "call-17.wav",
        "status": "pending",
        "url": f"http://localhost:8000/api/files/{FILE_ID}",
    }


def test_an_acknowledged_uploads_bytes_are_in_the_media_store(api: "Api") -> None:
    api.upload(WAV)
    assert api.lake.store.read(media_path(SHA256)) == WAV
    assert [receipt.sha256 for receipt in api.lake.inbox.receipts()] == [SHA256]


def test_an_upload_is_answered_as_pending_right_away(api: "Api") -> None:
    api.upload(WAV, "call-17.wav")
    answer = api.file(FILE_ID)
    assert answer == {
        "id": FILE_ID,
        "file": "call-17.wav",
        "status": "pending",
        "duration": None,
        "sample_rate": None,
        "channels": None,
        "format": None,
        "size": len(WAV),
        "demo": False,
        "ingested_at": None,
        "reference": None,
        "predicted_at": None,
        "url": f"http://localhost:8000/api/files/{FILE_ID}",
        "confidences": [],
    }
    assert api.files() == [answer]
    assert api.file(FILE_ID, transcript=True) == answer | {"transcript": []}


def test_an_upload_outlives_the_api_that_took_it(serve: Serve) -> None:
    with serve() as api:
        api.upload(WAV)
    with serve() as api:
        assert api.file(FILE_ID)["status"] == "pending"
        assert api.upload(WAV).status_code == 200


@pytest.mark.parametrize("status", ["pending", "accepted", "rejected"])
def test_the_same_bytes_again_are_known_already(api: "Api", status: str) -> None:
    first = api.upload(WAV).json()
    if status != "pending":
        api.scribe.ingest(rejected=status == "rejected")
    before = api.stored()
    again = api.upload(WAV)
    assert again.status_code == 200
    assert again.json()["message"] != first["message"]
    assert again.json() | {"message": ""} == first | {"message": "", "status": status}
    receipts = [path for path in api.stored() if path not in before]
    assert bool(receipts) == (status == "rejected"), "what was rejected is looked at once more"
    assert all(path.startswith("inbox/") for path in receipts)
    assert len(api.files()) == 1


@pytest.mark.parametrize("ingested", [False, True])
def test_the_same_bytes_under_another_name_are_one_more_source(api: "Api", ingested: bool) -> None:
    api.upload(WAV, "first.wav")
    if ingested:
        api.scribe.ingest()
    again = api.upload(WAV, "second.wav")
    assert (again.status_code, again.json()["id"], again.json()["file"]) == (200, FILE_ID, "second.wav")
    assert [receipt.name for receipt in api.lake.inbox.receipts()] == ["first.wav"] * (not ingested) + ["second.wav"]
    assert [answer["file"] for answer in api.files()] == ["first.wav"]


def test_uploads_of_the_same_bytes_at_once_are_one_file(api: "Api") -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: api.upload(WAV, f"{number}.wav"), range(8)))
    assert {answer.status_code for answer in answers} <= {200, 201}
    assert {answer.json()["id"] for answer in answers} == {FILE_ID}
    assert len(api.files()) == 1
    assert {receipt.name for receipt in api.lake.inbox.receipts()} == {f"{number}.wav" for number in range(8)}


def test_a_large_upload_is_stored_whole(api: "Api") -> None:
    content = WAV + bytes(range(256)) * 20_000
    assert api.upload(content).status_code == 201
    assert api.lake.store.read(media_path(hashlib.sha256(content).hexdigest())) == content


@pytest.mark.parametrize("name", ["empty.wav", "../x"])
def test_an_empty_upload_is_refused_and_leaves_nothing(api: "Api", name: str) -> None:
    response = api.upload(b"", name)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert name in response.json()["detail"]
    assert api.stored() == []


@pytest.mark.parametrize(
    "name",
    [
        b"../../x",
        b"/etc/passwd",
        b"..",
        b"a%00b.wav",
        b"a\x00b.wav",
        b"C:\\\\x.wav",
        b"log/00000000000000000001.json",
        b"x" * 3000 + b".wav",
        "тест 🎧 \u202e.wav".encode(),
        b"\xff\xfe.wav",
        b"\xed\xa0\x80.wav",
        b"<script>.wav",
    ],
)
def test_a_hostile_name_never_becomes_a_path(api: "Api", tmp_path: Path, name: bytes) -> None:
    """It is stored under the hash, whatever its name; one that cannot be in a header is refused as a problem."""
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="' + name + b'"\r\n\r\n'
    response = api.http.post(
        "/api/files/upload",
        content=head + WAV + b"\r\n--b--\r\n",
        headers={"Content-Type": "multipart/form-data; boundary=b"},
    )
    assert [path.name for path in tmp_path.iterdir()] in ([], ["data"])
    if response.status_code in (400, 422):
        assert response.headers["content-type"] == "application/problem+json"
        assert api.stored() == []
        return
    assert (response.status_code, response.json()["id"]) == (201, FILE_ID)
    inbox, media = api.stored()
    assert inbox.startswith(f"inbox/{SHA256}.")
    assert media == f"media/{SHA256[:2]}/{SHA256}"
    shown = response.json()["file"]
    assert [answer["file"] for answer in api.files()] == [shown]
    api.scribe.ingest()
    assert api.file(FILE_ID)["file"] == shown


@pytest.mark.parametrize(("charset", "name"), [("utf-7", "+2AA-.wav"), ("unicode_escape", "a\\ud800.wav")])
def test_a_charset_of_the_body_changes_no_name(api: "Api", charset: str, name: str) -> None:
    head = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
    response = api.http.post(
        "/api/files/upload",
        content=head + WAV + b"\r\n--b--\r\n",
        headers={"Content-Type": f"multipart/form-data; boundary=b; charset={charset}"},
    )
    assert (response.status_code, response.json()["file"]) == (201, name)


def test_an_upload_starts_ingest_through_prefect(serve: Serve, prefect: "FakePrefect") -> None:
    with serve(PREFECT_API_URL=prefect.url) as api:
        assert api.upload(WAV).status_code == 201
        assert prefect.wait_for(3) == START_A_RUN


def test_a_prefect_with_a_password_is_given_it(serve: Serve, prefect: "FakePrefect") -> None:
    with serve(PREFECT_API_URL=prefect.url, PREFECT_API_AUTH_STRING="admin:a:b") as api:
        assert api.upload(WAV).status_code == 201
        assert prefect.wait_for(3) == START_A_RUN
    assert prefect.passwords == {f"Basic {b64encode(b'admin:a:b').decode()}"}


def test_a_prefect_that_is_busy_is_asked_again(serve: Serve, prefect: "FakePrefect") -> None:
    prefect.busy = 1
    with serve(PREFECT_API_URL=prefect.url) as api:
        assert api.upload(WAV).status_code == 201
        assert prefect.wait_for(6) == START_A_RUN * 2
    assert len(prefect.asked) == len({*prefect.keys}) == 1, "Prefect can tell that it is the same request"


def test_a_prefect_that_stays_busy_is_asked_less_and_less_often_until_somebody_asks_again(
    prefect: "FakePrefect", monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float | None] = []

    class Noting(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            pauses.append(timeout)
            return super().wait(timeout)

    monkeypatch.setattr(trigger, "PAUSE_S", 0.01)
    monkeypatch.setattr(trigger, "LONGEST_PAUSE_S", 0.05)
    prefect.busy = math.inf
    asking = trigger.Trigger(prefect.url)
    asking._wanted = Noting()
    asking.start()
    try:
        asking.pull()
        wait_for("pauses", lambda: len(pauses) >= 6)
        assert pauses[:6] == [None, 0.01, 0.02, 0.04, 0.05, 0.05]
        asking.pull()
        wait_for("short pause", lambda: 0.01 in pauses[6:])
    finally:
        asking.stop()
    assert len({*prefect.keys}) == 2
    assert prefect.asked == []


def test_a_burst_of_uploads_is_not_a_burst_of_runs(serve: Serve, prefect: "FakePrefect") -> None:
    with serve(PREFECT_API_URL=prefect.url) as api:
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda number: api.upload(WAV + bytes([number])), range(40)))
        assert {answer.status_code for answer in answers} == {201}
        prefect.wait_for(3)
    assert 1 <= prefect.requests.count(START_A_RUN[-1]) < 20


def test_a_run_that_has_not_started_yet_takes_the_upload_as_well(serve: Serve, prefect: "FakePrefect") -> None:
    prefect.waiting_runs = 1
    with serve(PREFECT_API_URL=prefect.url) as api:
        api.upload(WAV)
        assert prefect.wait_for(2) == START_A_RUN[:2]
    assert START_A_RUN[-1] not in prefect.requests


def test_an_upload_is_acknowledged_while_prefect_is_away(api: "Api", caplog: pytest.LogCaptureFixture) -> None:
    assert api.upload(WAV).status_code == 201
    wait_for("line in the log", lambda: "the next scheduled run will" in caplog.text, every_s=0.01)
    assert api.upload(WAV + b"2").status_code == 201
    assert len(api.lake.inbox.receipts()) == 2


def test_nonsense_in_prefects_place_is_asked_again_until_it_is_well(serve: Serve, prefect: "FakePrefect") -> None:
    prefect.well = False
    with serve(PREFECT_API_URL=prefect.url) as api:
        assert api.upload(WAV).status_code == 201
        prefect.wait_for(1)
        prefect.well = True
        wait_for("run", lambda: START_A_RUN[-1] in prefect.requests)
        *nonsense, _, _, _ = requests = list(prefect.requests)
        assert api.upload(WAV + b"2").status_code == 201
        assert prefect.wait_for(len(requests) + 3)[len(requests) :] == START_A_RUN
    assert nonsense
    assert requests == START_A_RUN[:1] * len(nonsense) + START_A_RUN
