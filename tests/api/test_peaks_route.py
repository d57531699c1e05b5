"""Waveforms for players over HTTP, as ingest kept them; and what is said where there are none."""

import hashlib
import io
import json
import struct
import uuid
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from features.peaks import probe_with_peaks
from storage.erasure import erase, purge
from storage.media import media_path, peaks_path
from storage.peaks import Waveform, decode
from tests.api.conftest import Api, recording
from tests.asterisk import SOUNDS

PATH = SOUNDS / "conf-getpin.wav"
PROMPT = PATH.read_bytes()
SHA256 = hashlib.sha256(PROMPT).hexdigest()
BINARY = {"Accept": "application/octet-stream"}


def kept(path: Path = PATH) -> bytes:
    """Return what ingest keeps of a recording."""
    info, peaks = probe_with_peaks(path, max_duration_s=60)
    return Waveform(info.sample_rate, peaks.samples_per_pixel, peaks.values).encode()


@pytest.fixture
def file_id(api: Api) -> UUID:
    id_ = api.ingested(PROMPT, "conf-getpin.wav")
    api.lake.media.put_peaks(SHA256, kept())
    return id_


def test_json_is_what_players_take(api: Api, file_id: UUID) -> None:
    answer = api.http.get(f"/api/peaks/{file_id}")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["vary"] == "Accept"
    body = answer.json()
    assert list(body) == ["version", "channels", "sample_rate", "samples_per_pixel", "bits", "length", "data"]
    assert {name: value for name, value in body.items() if name not in ("data", "length")} == {
        "version": 2,
        "channels": 1,
        "sample_rate": 8000,
        "samples_per_pixel": 160,
        "bits": 8,
    }
    assert len(body["data"]) == 2 * body["length"]
    assert body["length"] == -(-((len(PROMPT) - 44) // 2) // 160)
    assert min(body["data"]) < -20
    assert max(body["data"]) > 20
    assert api.http.get(f"/api/peaks/{file_id}/").content == answer.content


def test_the_binary_form_is_audiowaveforms_and_says_the_same(api: Api, file_id: UUID) -> None:
    answer = api.http.get(f"/api/peaks/{file_id}", headers=BINARY)
    assert answer.headers["content-type"] == "application/octet-stream"
    body = api.http.get(f"/api/peaks/{file_id}").json()
    header = struct.unpack_from("<iIiiIi", answer.content)
    assert header == (2, 1, body["sample_rate"], body["samples_per_pixel"], body["length"], body["channels"])
    assert np.frombuffer(answer.content, np.int8, offset=24).tolist() == body["data"]


@pytest.mark.parametrize(
    ("accept", "binary"),
    [
        ("application/octet-stream", True),
        ("text/html, Application/Octet-Stream;q=0.8", True),
        ("application/json, application/octet-stream;q=0.5", False),
        ("application/octet-stream;q=0", False),
        ("*/*", False),
        ("", False),
    ],
)
def test_json_is_the_default(api: Api, file_id: UUID, accept: str, binary: bool) -> None:
    answer = api.http.get(f"/api/peaks/{file_id}", headers={"Accept": accept})
    assert (answer.headers["content-type"] == "application/octet-stream") == binary


@pytest.mark.parametrize("points", [1, 7, 50, 100_000])
def test_fewer_points_span_all_of_it(api: Api, file_id: UUID, points: int) -> None:
    every = decode(kept())
    found = decode(api.http.get(f"/api/peaks/{file_id}", params={"points": points}, headers=BINARY).content)
    together = found.samples_per_pixel // every.samples_per_pixel
    assert found.samples_per_pixel == together * every.samples_per_pixel
    assert len(found.values) == -(-len(every.values) // together)
    assert min(points, len(every.values)) / 2 <= len(found.values) <= points
    for number, pixel in enumerate(found.values):
        spanned = every.values[number * together :][:together]
        assert pixel[:, 0] == spanned[..., 0].min(axis=0)
        assert pixel[:, 1] == spanned[..., 1].max(axis=0)


def test_points_have_bounds(api: Api, file_id: UUID) -> None:
    for points in (0, 100_001, "many"):
        answer = api.http.get(f"/api/peaks/{file_id}", params={"points": points})
        assert answer.status_code == 422
        assert "points" in answer.json()["detail"]


def test_each_form_has_a_tag_of_its_own(api: Api, file_id: UUID) -> None:
    asked = [({}, {}), ({"points": 5}, {}), ({}, BINARY)]
    answers = [api.http.get(f"/api/peaks/{file_id}", params=query, headers=accept) for query, accept in asked]
    tags = [answer.headers["etag"] for answer in answers]
    assert len(set(tags)) == 3
    for (query, accept), tag in zip(asked, tags, strict=True):
        again = api.http.get(f"/api/peaks/{file_id}", params=query, headers=accept | {"If-None-Match": tag})
        assert (again.status_code, again.content, again.headers["vary"]) == (304, b"", "Accept")
    assert api.http.head(f"/api/peaks/{file_id}").headers["etag"] == tags[0]


def test_both_channels_are_drawn(api: Api) -> None:
    values = np.array([[[-1, 2], [-3, 4]], [[-5, 6], [-7, 8]]], np.int8)
    file_id = api.ingested(b"two")
    api.lake.media.put_peaks(hashlib.sha256(recording(b"two")).hexdigest(), Waveform(8_000, 160, values).encode())
    assert api.http.get(f"/api/peaks/{file_id}").json()["data"] == [-1, 2, -3, 4, -5, 6, -7, 8]
    assert api.http.get(f"/api/peaks/{file_id}", params={"points": 1}).json()["data"] == [-5, 6, -7, 8]


def test_where_there_are_none_the_reason_and_the_remedy_are_said(api: Api) -> None:
    def detail(file_id: object) -> str:
        answer = api.http.get(f"/api/peaks/{file_id}")
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
        return str(answer.json()["detail"])

    pending = api.upload(b"RIFF1").json()["id"]
    assert "next run of ingest" in detail(pending)
    api.scribe.ingest(rejected=True)
    assert "no audio in it" in detail(pending)
    assert "under another name" in detail(api.ingested(b"RIFF2"))
    assert "/api/files" in detail(uuid.uuid4())


def test_damaged_peaks_are_the_stores_problem(api: Api, file_id: UUID) -> None:
    for damage in (b"", kept()[:-1], b"\x01" + kept()[1:], b"\xff" * 100):
        api.lake.store.write(peaks_path(SHA256), damage)
        answer = api.http.get(f"/api/peaks/{file_id}")
        assert answer.status_code == 503
        assert peaks_path(SHA256) in answer.json()["detail"]


def test_an_erased_recording_keeps_no_picture(api: Api, file_id: UUID) -> None:
    with api.lake.index() as index:
        erase(api.lake, index, [file_id], uuid.uuid4())
        purge(api.lake, index, uuid.uuid4())
    assert api.http.get(f"/api/peaks/{file_id}").status_code == 410
    assert not api.lake.media.has_peaks(SHA256)
    assert list(api.lake.store.found("media")) == []


def test_a_day_of_many_channels_is_answered(api: Api) -> None:
    content = io.BytesIO(b"a day")
    values = np.zeros((100_000, 2, 2), np.int8)
    blob = api.lake.media.add(content)
    api.lake.inbox.add(blob, "day.wav")
    api.scribe.ingest()
    api.lake.media.put_peaks(blob.sha256, Waveform(48_000, 40_960, values).encode())
    assert json.loads(api.http.get(f"/api/peaks/{blob.file_id}").content)["length"] == 100_000
    assert api.lake.store.stat(media_path(blob.sha256)) is not None
