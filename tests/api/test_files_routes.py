"""GET /api/files: every recording with exactly its latest reference's rows."""

import hashlib
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import pytest

from tests.api.conftest import WAV

if TYPE_CHECKING:
    from tests.api.conftest import Api

Serve = Callable[..., AbstractContextManager["Api"]]

FOUND = [("call", 0.97), ("is", 0.9), ("recorded", 0.25)]


def labels(answer: dict) -> list[str]:
    return [row["utterance"] for row in answer["confidences"]]


def test_a_lake_that_does_not_exist_yet_has_no_files(api: "Api") -> None:
    assert api.files() == []
    assert api.stored() == []


def test_a_file_has_the_shape_that_clients_know(api: "Api") -> None:
    file_id = api.ingested(b"RIFF1", "call-17.wav")
    reference = api.scribe.refresh(file_id, {"words": [("call", 0.97)]})
    answer = api.file(file_id)
    assert answer == {
        "id": str(file_id),
        "file": "call-17.wav",
        "status": "accepted",
        "duration": 1.234,
        "sample_rate": 8000,
        "channels": 1,
        "format": "WAV/PCM_16",
        "size": 17,
        "demo": False,
        "ingested_at": answer["ingested_at"],
        "reference": reference,
        "predicted_at": answer["predicted_at"],
        "url": f"http://localhost:8000/api/files/{file_id}",
        "confidences": [
            {
                "utterance": "call",
                "time": 0.25,
                "end": 0.375,
                "channel": 0,
                "confidence": 0.97,
                "model": "words",
                "model_version": "v1",
            }
        ],
    }
    assert api.files() == [answer]


@pytest.mark.parametrize("route", ["/api/files", "/api/files/{id}", "/api/files/{id}/words"])
@pytest.mark.parametrize("query", ["", "?min_confidence=0.2", "?transcript=true"])
def test_a_trailing_slash_changes_nothing(api: "Api", route: str, query: str) -> None:
    file_id = api.ingested()
    api.scribe.refresh(file_id, {"words": FOUND})
    path = route.format(id=file_id)
    plain, slashed = api.http.get(path + query), api.http.get(f"{path}/{query}")
    assert plain.status_code == slashed.status_code == 200
    assert plain.json() == slashed.json() != []
    assert plain.headers["content-type"] == slashed.headers["content-type"] == "application/json"


def test_each_route_is_documented_once(api: "Api") -> None:
    paths = api.http.get("/openapi.json").json()["paths"]
    own = {path: sorted(methods) for path, methods in paths.items() if path.startswith(("/api/files", "/api/search"))}
    assert own == {
        "/api/files": ["get"],
        "/api/files/{file_id}": ["delete", "get"],
        "/api/files/{file_id}/{model}": ["get"],
        "/api/search": ["get"],
        "/api/files/upload": ["post"],
        "/api/files/upload/s3": ["post"],
    }


def test_detections_show_from_the_threshold_on_unless_asked_otherwise(api: "Api") -> None:
    file_id = api.ingested()
    api.scribe.refresh(file_id, {"words": FOUND})
    for shown in (api.file, lambda _, **query: api.files(**query)[0]):
        assert labels(shown(file_id)) == ["call", "is"]
        assert labels(shown(file_id, min_confidence=0)) == ["call", "is", "recorded"]
        assert labels(shown(file_id, min_confidence=0.95)) == ["call"]
        assert labels(shown(file_id, min_confidence=1)) == []


def test_the_threshold_is_a_setting(serve: Serve) -> None:
    with serve(MODEL_CONFIDENCE_THRESHOLD=0.2) as api:
        file_id = api.ingested()
        api.scribe.refresh(file_id, {"words": FOUND})
        assert labels(api.file(file_id)) == ["call", "is", "recorded"]


def test_only_the_latest_references_rows_are_shown(api: "Api") -> None:
    file_id = api.ingested()
    api.scribe.refresh(file_id, {"words": [("call", 0.97), ("is", 0.95)], "scene": [("music", 0.99)]})
    latest = api.scribe.refresh(file_id, {"words": [("call", 0.91)]})
    answer = api.file(file_id, min_confidence=0, transcript=True)
    assert answer["reference"] == latest
    assert [(row["utterance"], row["confidence"]) for row in answer["confidences"]] == [("call", 0.91)]
    assert [(row["model"], row["text"]) for row in answer["transcript"]] == [("words", "call")]
    assert api.files(min_confidence=0, transcript=True) == [answer]


def test_a_recording_without_detections_has_its_reference_and_no_confidences(api: "Api") -> None:
    file_id = api.ingested()
    api.scribe.refresh(file_id, {"words": [("call", 0.97)]})
    reference = api.scribe.refresh(file_id, {"words": []})
    answer = api.file(file_id, min_confidence=0)
    assert (answer["reference"], answer["confidences"]) == (reference, [])


def test_a_recording_before_its_first_refresh_has_no_reference(api: "Api") -> None:
    answer = api.file(api.ingested())
    assert (answer["status"], answer["reference"], answer["predicted_at"], answer["confidences"]) == (
        "accepted",
        None,
        None,
        [],
    )


def test_one_recordings_refresh_leaves_the_others_as_they_were(api: "Api") -> None:
    first, second = api.ingested(b"1", "1.wav"), api.ingested(b"2", "2.wav")
    references = [api.scribe.refresh(file_id, {"words": [("call", 0.97)]}) for file_id in (first, second)]
    newest = api.scribe.refresh(first, {"words": []})
    assert {answer["id"]: (answer["reference"], labels(answer)) for answer in api.files()} == {
        str(first): (newest, []),
        str(second): (references[1], ["call"]),
    }


def test_a_models_route_shows_its_predictions_only(api: "Api") -> None:
    file_id = api.ingested()
    api.scribe.group("words", "scene", "mood")
    api.scribe.refresh(file_id, {"words": [("call", 0.97)], "scene": [("music", 0.99)], "mood": []})
    whole = api.file(file_id, transcript=True)
    for model, found in {"words": ["call"], "scene": ["music"], "mood": []}.items():
        answer = api.file(f"{file_id}/{model}", transcript=True)
        assert labels(answer) == found
        assert {row["model"] for row in answer["transcript"]} == {model}
        assert answer | {"confidences": [], "transcript": []} == whole | {"confidences": [], "transcript": []}


def test_a_transcript_comes_only_when_asked_for(api: "Api") -> None:
    file_id = api.ingested()
    api.scribe.refresh(file_id, {"words": [("call", 0.5)]})
    assert "transcript" not in api.file(file_id)
    assert api.file(file_id, transcript=True)["transcript"] == [
        {"time": 0.25, "end": 1.0, "channel": 0, "text": "call", "model": "words", "model_version": "v1"}
    ]


def test_a_rejected_recording_says_why(api: "Api") -> None:
    file_id = api.upload(b"not audio").json()["id"]
    assert "reason" not in api.file(file_id)
    api.scribe.ingest(rejected=True)
    answer = api.file(file_id)
    assert (answer["status"], answer["reason"], answer["duration"]) == ("rejected", "no audio in it", None)


def test_files_come_in_order_of_their_ids_whether_pending_or_not(api: "Api") -> None:
    ingested = [str(api.ingested(name.encode(), name)) for name in ("1.wav", "2.wav")]
    pending = [api.upload(name.encode(), name).json()["id"] for name in ("3.wav", "4.wav", "5.wav")]
    assert [answer["id"] for answer in api.files()] == sorted([*ingested, *pending])
    assert sorted(ingested + pending) != ingested + pending


def test_links_start_with_the_base_url(serve: Serve) -> None:
    with serve(BASE_URL="https://audio.example/calls/") as api:
        link = f"https://audio.example/calls/api/files/{uuid.UUID(hashlib.sha256(WAV).hexdigest()[:32])}"
        assert api.upload(WAV).json()["url"] == api.files()[0]["url"] == link
        api.scribe.ingest()
        assert api.files()[0]["url"] == link


def test_an_id_may_be_written_in_any_form_of_a_uuid(api: "Api") -> None:
    file_id = api.ingested()
    assert api.file(file_id.hex.upper())["id"] == str(file_id)


def test_two_hosts_of_one_lake_answer_alike(serve: Serve) -> None:
    with serve() as here, serve() as there:
        file_id = here.upload().json()["id"]
        assert there.file(file_id)["status"] == "pending"
        here.scribe.ingest()
        here.scribe.refresh(uuid.UUID(file_id), {"words": [("call", 0.97)]})
        assert there.files() == here.files() != []
