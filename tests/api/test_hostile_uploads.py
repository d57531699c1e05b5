"""Names and contents that want to be a path, a header, a log line or a decoder's end: through a real server."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from api.dispositions import NAME_BYTES
from tests.api.conftest import WAV
from tests.api.sending import BOUNDARY, END, body, part, post

if TYPE_CHECKING:
    from tests.api.conftest import Api

NAMES = {
    "../../../../etc/passwd": None,
    "..\\..\\x.wav": None,
    "/etc/passwd": None,
    ".": None,
    "..": None,
    "a\0b.wav": None,
    "a\0b\x01\x1b[31m.wav": None,
    "\u202egnp.wav": None,
    "\u200f\u2066x\u2069.wav": None,
    "a%0D%0Ab.wav": "a\r\nb.wav",
    "%22;drop table files;--": '";drop table files;--',
    "'; DROP TABLE files; --": None,
    "{name} %s ${HOME} $(id) `id`": None,
    "<script>alert(1)</script>": None,
    "é" * 2048: "é" * (NAME_BYTES // 2),  # 4 KB of Unicode
    "🎧" * 1024: "🎧" * (NAME_BYTES // 4),
    "\ud800.wav": "\ufffd\ufffd\ufffd.wav",
    "CON": None,
    "inbox/x.json": None,
    "": "unnamed",
}


def test_any_name_is_shown_as_it_is_and_never_a_path(
    api: "Api", tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ids: dict[str, str] = {}
    for number, (name, shown) in enumerate(NAMES.items()):
        with caplog.at_level(logging.INFO):
            response = post(api.http, body(WAV + bytes([number]), name.encode(errors="surrogatepass")))
        assert (response.status_code, response.json()["file"]) == (201, name if shown is None else shown)
        assert len(name) < 3 or name not in caplog.text
        ids[response.json()["id"]] = response.json()["file"]
    assert {answer["id"]: answer["file"] for answer in api.files()} == ids
    api.scribe.ingest()
    assert {answer["id"]: answer["file"] for answer in api.files()} == ids
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert {path.split("/")[0] for path in api.stored()} == {"data", "log", "media"}


def test_a_name_in_a_refusal_is_escaped_and_short(api: "Api") -> None:
    for name in ("\u202e\x1b[31m" + "x" * 1000, "a%0D%0ASet-Cookie: x"):
        response = post(api.http, body(b"Not a recording at all.", name.encode()))
        assert response.status_code == 422
        detail = response.json()["detail"]
        assert detail.isprintable()
        assert len(detail) < 400


@pytest.mark.parametrize("path", ["/api/files/upload", "/api/files/upload/"])
def test_what_no_decoder_knows_is_refused_with_a_reason(api: "Api", path: str) -> None:
    for content in (b"", b"R", bytes(1000), b"Not a recording at all.", b"\x89PNG\r\n\x1a\n" + bytes(99)):
        response = post(api.http, body(content, b"x.wav"), path)
        assert (response.status_code, response.json()["type"]) == (422, "/problems/unusable-upload")
        assert "'x.wav'" in response.json()["detail"]
    assert api.stored() == []
    assert api.files() == []


def test_what_only_fails_on_decoding_is_taken(api: "Api") -> None:
    assert post(api.http, body(WAV + b"and no chunk")).status_code == 201


@pytest.mark.parametrize(
    "content",
    [
        b"\r\n" * 5000,
        b"--" + BOUNDARY + b"--",
        (part(field=b"x") + b"\r\n") * 100 + END,
        part(b"x" * 20_000) + WAV + END,
        part() + WAV + b"\r\n" + part() + WAV + END,
        b"--" + BOUNDARY + b"\r\nContent-Disposition: form-data; filename=a.wav\r\n\r\n" + WAV + END,
        b"--" + BOUNDARY + b"\r\n" + b"A: b\r\n" * 100 + b"\r\n" + WAV + END,
        b"--" + BOUNDARY + b"\r\n\0: b\r\n\r\n" + WAV + END,
        body(WAV).replace(b"\r\n", b"\n"),
    ],
)
def test_a_body_that_is_not_as_it_should_be_is_a_problem_that_says_so(api: "Api", content: bytes) -> None:
    response = post(api.http, content)
    assert response.status_code in (400, 422), response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["detail"].isprintable()
    assert api.stored() == []
    assert post(api.http, body(WAV)).status_code == 201
