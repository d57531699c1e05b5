"""POST /api/files/upload/s3, on a real server: in the bucket first, then acknowledged like any upload."""

import hashlib
import socket
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from storage.bucket import Bucket
from storage.uploads import title
from tests.s3 import UPLOADS, S3Server

if TYPE_CHECKING:
    from tests.api.conftest import Api

Serve = Callable[..., AbstractContextManager["Api"]]

WAV = b"RIFF____WAVE and more"
SHA256 = hashlib.sha256(WAV).hexdigest()
FILE_ID = str(uuid.UUID(SHA256[:32]))
KEY = f"storages/{SHA256}"
S3 = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "hunter2",
    "AWS_REGION": "eu-central-1",
    "AWS_S3_BUCKET": "b",
}


@pytest.fixture
def uploads(s3_server: S3Server) -> Bucket:
    return s3_server.uploads()


@pytest.fixture
def settings(s3_server: S3Server, uploads: Bucket) -> dict[str, str]:
    return s3_server.settings | {"AWS_S3_BUCKET": UPLOADS}


def send(api: "Api", content: bytes = WAV, name: str = "call-17.wav", path: str = "/api/files/upload/s3") -> Any:
    return api.http.post(path, files={"file": (name, content)})


def objects(bucket: Bucket) -> list[str]:
    return [found.key for page in bucket.pages("") for found in page.objects]


@pytest.mark.parametrize("path", ["/api/files/upload/s3", "/api/files/upload/s3/"])
def test_an_upload_is_in_the_bucket_and_acknowledged(
    serve: Serve, settings: dict[str, str], uploads: Bucket, path: str
) -> None:
    with serve(**settings) as api:
        response = send(api, path=path)
        assert response.status_code == 201
        answer = response.json()
        assert isinstance(answer.pop("message"), str)
        assert answer == {
            "id": FILE_ID,
            "file": "call-17.wav",
            "status": "pending",
            "url": f"http://localhost:8000/api/files/{FILE_ID}",
            "s3_url": f"s3://{UPLOADS}/{KEY}",
        }
        assert uploads.get(KEY) == WAV
        (receipt,) = api.lake.inbox.receipts()
        found = uploads.head(KEY)
        assert found is not None
        assert (receipt.uri, receipt.etag) == (f"s3://{UPLOADS}/{KEY}", found.etag)
        assert api.file(FILE_ID)["status"] == "pending"
        assert sorted(path.split("/")[0] for path in api.stored()) == ["inbox", "media"]


def test_a_public_base_starts_the_link(serve: Serve, settings: dict[str, str]) -> None:
    with serve(**settings, S3_BUCKET_URL="https://cdn.example/calls/") as api:
        assert send(api).json()["s3_url"] == f"https://cdn.example/calls/{KEY}"


def test_the_same_bytes_again_are_known_already(serve: Serve, settings: dict[str, str], uploads: Bucket) -> None:
    with serve(**settings) as api:
        first, before = send(api), uploads.head(KEY)
        again = send(api)
        assert (first.status_code, again.status_code) == (201, 200)
        assert again.json() | {"message": ""} == first.json() | {"message": ""}
        assert uploads.head(KEY) == before, "it is not put again"
        assert len(api.lake.inbox.receipts()) == 1


def test_an_object_of_another_content_under_the_hash_is_replaced(
    serve: Serve, settings: dict[str, str], uploads: Bucket
) -> None:
    uploads.put(KEY, b"NOT " + WAV[4:])
    with serve(**settings) as api:
        assert send(api).status_code == 201
    assert uploads.get(KEY) == WAV


def test_bytes_that_were_uploaded_here_before_go_into_the_bucket_as_well(
    serve: Serve, settings: dict[str, str], uploads: Bucket
) -> None:
    with serve(**settings) as api:
        api.upload(WAV, "call-17.wav")
        assert send(api).status_code == 200
        assert uploads.get(KEY) == WAV


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "тест 🎧.wav", "a b%2Fc?d=e\\f.wav", "<script>.wav", "x" * 900 + ".wav"]
)
def test_a_name_from_outside_is_only_ever_metadata(
    serve: Serve, settings: dict[str, str], uploads: Bucket, name: str, tmp_path: Path
) -> None:
    with serve(**settings) as api:
        assert send(api, name=name).json()["file"] == name
        assert api.files()[0]["file"] == name
    assert objects(uploads) == [KEY]
    assert title(uploads, KEY) == name
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_name_too_long_for_metadata_is_cut_at_a_whole_character(
    serve: Serve, settings: dict[str, str], uploads: Bucket
) -> None:
    name = "🎧" * 250
    with serve(**settings) as api:
        assert send(api, name=name).json()["file"] == name
    shown = title(uploads, KEY)
    assert 50 < len(shown) < 250
    assert set(shown) == {"🎧"}


def test_an_empty_upload_is_refused_and_leaves_nothing(serve: Serve, settings: dict[str, str], uploads: Bucket) -> None:
    with serve(**settings) as api:
        assert send(api, b"").status_code == 422
        assert api.http.post("/api/files/upload/s3").status_code == 415
        assert api.stored() == []
    assert objects(uploads) == []


@pytest.mark.parametrize("path", ["/api/files/upload/s3", "/api/files/upload/s3/"])
@pytest.mark.parametrize("files", [None, {"file": ("a.wav", WAV)}])
def test_missing_settings_are_named(serve: Serve, path: str, files: dict[str, Any] | None) -> None:
    with serve(AWS_REGION="eu-central-1") as api:
        response = api.http.post(path, files=files)
        assert api.stored() == []
    missing = sorted(S3.keys() - {"AWS_REGION"})
    assert response.status_code == 501
    assert response.headers["content-type"] == "application/problem+json"
    assert sorted(response.json()["missing"]) == missing
    assert all(name in response.json()["detail"] for name in missing)
    assert "AWS_REGION" not in response.text


def unavailable(response: httpx.Response, *words: str) -> None:
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"
    assert all(word in response.json()["detail"] for word in words)
    assert "hunter2" not in response.text
    assert "a secret" not in response.text


def test_a_bucket_that_is_away_leaves_nothing_half_written(serve: Serve, settings: dict[str, str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with serve(**S3, AWS_ENDPOINT_URL=endpoint) as api:
            unavailable(send(api), "s3://b", endpoint, "AWS_ENDPOINT_URL")
            assert api.stored() == []
            assert api.files() == []
            assert api.upload(WAV).status_code == 201, "and the local upload goes on"


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"AWS_S3_BUCKET": "nobodys-bucket"}, "correct AWS_S3_BUCKET"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "AWS_ACCESS_KEY_ID"),
        ({"AWS_SECRET_ACCESS_KEY": "hunter2"}, "AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_a_bucket_that_refuses_leaves_nothing_half_written(
    serve: Serve, settings: dict[str, str], wrong: dict[str, str], named: str
) -> None:
    with serve(**settings | wrong) as api:
        unavailable(send(api), named)
        assert api.stored() == []


def test_a_lake_that_cannot_be_written_acknowledges_nothing(serve: Serve, settings: dict[str, str]) -> None:
    with serve(**settings) as api:
        api.lake.store.write("inbox", b"a file where a folder should be")
        assert send(api).status_code == 503
        (api.lake.store.local_path("inbox")).unlink()
        assert send(api).status_code == 201
