"""A lake at s3://, from the upload to the answer, on a real server; this host's own files stay on its disk."""

import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.app import create_app
from flows.infer import infer
from flows.ingest import ingest
from storage.settings import get_settings
from tests import asterisk
from tests.s3 import UPLOADS, S3Server
from tests.serving import serving


@pytest.fixture
def url(s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the lake lies that the settings of this process and its children name."""
    url = s3_server.lake_url()
    values = s3_server.settings | {
        "AUDIOPHILE_DATA": url,
        "AUDIOPHILE_LOCAL": str(tmp_path / "own"),
        "AUDIOPHILE_DEMO": "0",
        "AUDIOPHILE_WORKERS": "1",
        "AWS_S3_BUCKET": UPLOADS,
        "INGEST_SETTLE_S": "0.1",
        "PHRASES": "goodbye,messages",
        "PREFECT_API_URL": os.environ.get("PREFECT_API_URL", "http://127.0.0.1:9/api"),
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    get_settings.cache_clear()
    yield url
    get_settings.cache_clear()


def found(client: httpx.Client) -> dict[str, dict[str, Any]]:
    return {file["file"]: file for file in client.get("/api/files?min_confidence=0").raise_for_status().json()}


def test_recordings_are_uploaded_ingested_scored_and_answered(
    url: str, prefect_url: str, s3_server: S3Server, tmp_path: Path
) -> None:
    asterisk.require()
    uploads, settings = s3_server.uploads(), get_settings()
    sounds = {
        name: (asterisk.SOUNDS / f"{name}.wav").read_bytes() for name in ("vm-goodbye", "vm-instructions", "beep")
    }
    settings.watched_folder.mkdir(parents=True)
    (settings.watched_folder / "beep.wav").write_bytes(sounds["beep"])
    uploads.put("storages/2026/vm-instructions.wav", sounds["vm-instructions"])
    with serving(create_app(settings)) as client:
        sent = client.post("/api/files/upload/s3", files={"file": ("vm-goodbye.wav", sounds["vm-goodbye"])})
        assert sent.status_code == 201
        assert [file["status"] for file in found(client).values()] == ["pending"]
        ingest()
        assert {name: file["status"] for name, file in found(client).items()} == {
            "vm-goodbye.wav": "accepted",
            "vm-instructions.wav": "accepted",
            "beep.wav": "accepted",
        }
        assert infer(return_state=True).message.startswith("Reference ")
        labels = {
            (name, row["model"], row["utterance"])
            for name, file in found(client).items()
            for row in file["confidences"]
        }
        assert {(name, label) for name, model, label in labels if model == "moonshine-tiny-en"} == {
            ("vm-goodbye.wav", "goodbye"),
            ("vm-instructions.wav", "messages"),
        }
        assert {name for name, model, _ in labels if model == "callscene"} == set(found(client))
        assert infer(return_state=True).message == "Nothing is missing"
        assert ingest(return_state=True).message == "Nothing new"
    own = {path.relative_to(tmp_path / "own").parts[0] for path in (tmp_path / "own").rglob("*") if path.is_file()}
    assert own <= {"incoming", "bucket.json", "index"}, "no recording, table or entry stays on this host"
