"""A recording's bytes over HTTP: ranges as RFC 9110 has them, types, names, and lakes in a bucket."""

import email.parser
import email.policy
import hashlib
import io
import os
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from uuid import UUID

import httpx
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from api.app import create_app
from api.audio import BLOCK_BYTES, FORMATS, sniffed
from api.disposition import harmless, inline
from api.ranges import MAX_RANGES, Span, spans
from storage.erasure import erase
from storage.lake import Lake
from storage.media import media_path
from storage.place import Place
from storage.settings import Settings
from tests.api.conftest import Api, Scribe, recording
from tests.asterisk import SOUNDS
from tests.s3 import S3Server
from tests.serving import serving

Serve = Callable[..., AbstractContextManager[Api]]

PROMPT = (SOUNDS / "conf-getpin.wav").read_bytes()
SIZE = len(PROMPT)
SHA256 = hashlib.sha256(PROMPT).hexdigest()
ETAG = f'"{SHA256}"'


Served = tuple[Api, UUID]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for the tests that only read."""
    data = tmp_path_factory.mktemp("served")
    app = create_app(Settings(_env_file=None, AUDIOPHILE_DATA=data, PREFECT_API_URL="http://127.0.0.1:9/api"))  # type: ignore[call-arg]
    lake = Lake.open(data)
    lake.inbox.add(lake.media.add(io.BytesIO(PROMPT)), "conf-getpin.wav")
    Scribe(lake).ingest()
    with serving(app) as http:
        yield Api(http, Scribe(lake), app), UUID(SHA256[:32])


@pytest.fixture
def mine(api: Api) -> Served:
    """One for a test that changes what is there."""
    return api, api.ingested(PROMPT, "conf-getpin.wav")


def get(served: Served, method: str = "GET", **headers: str) -> httpx.Response:
    api, file_id = served
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return api.http.request(method, f"/api/audio/{file_id}", headers=named)


def test_the_bytes_come_as_they_were_sent(served: Served) -> None:
    answer = get(served)
    assert answer.status_code == 200
    assert answer.content == PROMPT
    assert {name: answer.headers[name] for name in ("content-type", "content-length", "accept-ranges", "etag")} == {
        "content-type": "audio/wav",
        "content-length": str(SIZE),
        "accept-ranges": "bytes",
        "etag": ETAG,
    }
    assert answer.headers["content-disposition"].startswith('inline; filename="conf-getpin.wav"; ')
    assert soundfile.info(io.BytesIO(answer.content)).samplerate == 8_000
    assert served[0].http.get(f"/api/audio/{served[1]}/").content == PROMPT


ONE = [
    ("bytes=0-0", 0, 1),
    ("bytes=0-499", 0, 500),
    ("bytes=500-999", 500, 1_000),
    ("bytes=500-", 500, SIZE),
    ("bytes=-500", SIZE - 500, SIZE),
    (f"bytes=-{10 * SIZE}", 0, SIZE),
    (f"bytes={SIZE - 1}-", SIZE - 1, SIZE),
    ("bytes=0-99999999999999999999999999", 0, SIZE),
    ("bytes=0-" + "9" * 5_000, 0, SIZE),
    ("BYTES=0-9", 0, 10),
    ("bytes= 0-9 ,", 0, 10),
    ("bytes=0-9,10-19", 0, 20),
    ("bytes=0-99,50-149", 0, 150),
    ("bytes=100-199,0-99", 0, 200),
    (f"bytes=0-9,{SIZE}-", 0, 10),
    (f"bytes={SIZE}-,,-5", SIZE - 5, SIZE),
    ("bytes=" + ",".join(["0-9"] * MAX_RANGES), 0, 10),
]


@pytest.mark.parametrize(("header", "start", "end"), ONE)
def test_one_range_is_a_part(served: Served, header: str, start: int, end: int) -> None:
    answer = get(served, Range=header)
    assert answer.status_code == 206
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{SIZE}"
    assert answer.headers["content-length"] == str(end - start)
    assert answer.headers["content-type"] == "audio/wav"
    assert answer.content == PROMPT[start:end]


IGNORED = [
    "bytes",
    "bytes=",
    "bytes=,",
    "bytes=-",
    "bytes=a-b",
    "bytes=1",
    "bytes=9-5",
    "bytes=0-5,9-8",
    "bytes=0-5,x",
    "bytes=+1-5",
    "bytes=1_0-20",
    "bytes=0x1-5",
    "bytes=0 - 5",
    "bytes=--5",
    "bytes:0-5",
    "bytes =0-5",
    "items=0-5",
    "seconds=1-2",
    "bytes=0-5;bytes=7-8",
    "bytes=" + ",".join(f"{2 * n}-{2 * n}" for n in range(MAX_RANGES + 1)),
    "bytes=" + "0-," * 5_000 + "0-",
]


@pytest.mark.parametrize("header", IGNORED)
def test_a_malformed_range_or_too_many_of_them_count_as_none(served: Served, header: str) -> None:
    answer = get(served, Range=header)
    assert answer.status_code == 200
    assert answer.content == PROMPT
    assert "content-range" not in answer.headers


@pytest.mark.parametrize("header", [f"bytes={SIZE}-", f"bytes={SIZE}-{2 * SIZE}", "bytes=-0", f"bytes=-0,{SIZE}-"])
def test_a_range_beyond_the_end_says_where_that_is(served: Served, header: str) -> None:
    answer = get(served, Range=header)
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{SIZE}"
    assert answer.headers["content-type"] == "application/problem+json"
    assert str(SIZE) in answer.json()["detail"]


def parts_of(answer: httpx.Response) -> list[tuple[str, str, bytes]]:
    """Return type, range and bytes of each part, as the standard library reads them."""
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + answer.content)
    boundary = str(message.get_boundary()).encode()
    assert answer.content.startswith(b"--" + boundary)
    assert answer.content.endswith(b"\r\n--" + boundary + b"--\r\n")
    bodies = [piece.partition(b"\r\n\r\n")[2] for piece in answer.content.split(b"\r\n--" + boundary)[:-1]]
    return [
        (part.get_content_type(), part["Content-Range"], body)
        for part, body in zip(message.iter_parts(), bodies, strict=True)
    ]


def test_several_ranges_come_as_parts_in_the_order_that_was_asked_for(served: Served) -> None:
    answer = get(served, Range="bytes=200-299, 0-9, -5")
    assert answer.status_code == 206
    assert re.fullmatch(r"multipart/byteranges; boundary=[0-9a-f]{32}", answer.headers["content-type"])
    assert "content-range" not in answer.headers
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert parts_of(answer) == [
        ("audio/wav", f"bytes {start}-{end - 1}/{SIZE}", PROMPT[start:end])
        for start, end in ((200, 300), (0, 10), (SIZE - 5, SIZE))
    ]


def test_ranges_that_overlap_are_sent_once(served: Served) -> None:
    answer = get(served, Range="bytes=500-599,0-99,50-149")
    assert [part[1] for part in parts_of(answer)] == [f"bytes 0-149/{SIZE}", f"bytes 500-599/{SIZE}"]


def test_two_range_headers_are_malformed(served: Served) -> None:
    api, file_id = served
    answer = api.http.get(f"/api/audio/{file_id}", headers=[("Range", "bytes=0-1"), ("Range", "bytes=4-5")])
    assert (answer.status_code, answer.content) == (200, PROMPT)


@pytest.mark.parametrize(
    ("condition", "status"),
    [(ETAG, 206), (f"W/{ETAG}", 200), ('"another"', 200), ("Fri, 27 Nov 2026 00:00:00 GMT", 200), ("*", 200)],
)
def test_a_range_of_another_content_is_answered_by_the_whole(served: Served, condition: str, status: int) -> None:
    answer = get(served, Range="bytes=0-9", If_Range=condition)
    assert answer.status_code == status
    assert answer.content == (PROMPT[:10] if status == 206 else PROMPT)
    assert get(served, If_Range=condition).status_code == 200


@pytest.mark.parametrize("condition", [ETAG, f"W/{ETAG}", f'"another", {ETAG}', "*"])
def test_what_a_client_has_already_is_not_sent(served: Served, condition: str) -> None:
    answer = get(served, If_None_Match=condition, Range="bytes=0-9")
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", ETAG)
    assert get(served, If_None_Match='"another"').status_code == 200


def test_head_says_what_get_would_and_knows_no_ranges(served: Served) -> None:
    answer = get(served, "HEAD", Range="bytes=0-9")
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", str(SIZE))
    assert answer.headers["content-type"] == "audio/wav"
    assert get(served, "HEAD", If_None_Match=ETAG).status_code == 304


@given(header=st.text(st.sampled_from("bytes=0123456789-, "), max_size=30), size=st.integers(0, 200))
def test_whatever_is_asked_for_spans_lie_within_and_apart(header: str, size: int) -> None:
    found = spans([header], size)
    assert found is None or all(0 <= span.start < span.end <= size for span in found)
    for one, other in zip(sorted(found or (), key=lambda span: span.start), [*(found or ())][1:], strict=False):
        assert one != other
    covered = [place for span in found or () for place in range(span.start, span.end)]
    assert len(covered) == len(set(covered))


def test_an_empty_file_has_no_range() -> None:
    assert spans(["bytes=0-"], 0) == ()
    assert spans(["bytes=-5"], 0) == ()
    assert Span(0, 5).content_range(9) == "bytes 0-4/9"


def test_what_is_empty_is_sent_whole(served: Served) -> None:
    api, _ = served
    blob = api.lake.media.add(io.BytesIO(b""))
    api.lake.inbox.add(blob, "empty.wav")
    answer = api.http.get(f"/api/audio/{blob.file_id}", headers={"Range": "bytes=0-"})
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "0")


def test_a_pending_recording_is_known_by_how_it_begins(served: Served, tmp_path: Path) -> None:
    samples, rate = soundfile.read(io.BytesIO(PROMPT))
    subtypes = {"OGG": "VORBIS", "MP3": "MPEG_LAYER_III"}
    for kind in ("WAV", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF", "RF64"):
        path = tmp_path / "recording"
        soundfile.write(path, samples, rate, format=kind, subtype=subtypes.get(kind, "PCM_16"))
        file_id = UUID(served[0].upload(path.read_bytes(), "no-ending").json()["id"])
        answer = served[0].http.get(f"/api/audio/{file_id}")
        assert answer.headers["content-type"] == FORMATS[soundfile.info(path).format], kind
        assert answer.content == path.read_bytes()


@pytest.mark.parametrize("start", [b"", b"RIFF", b"RIFF1234AVI ", b"<html>", b"\xff", b"FORM1234ILBM"])
def test_what_no_player_knows_is_any_bytes(start: bytes) -> None:
    assert sniffed(start) == "application/octet-stream"


def test_a_rejected_recording_can_be_heard_as_bytes(api: Api) -> None:
    api.lake.inbox.add(api.lake.media.add(io.BytesIO(b"<script>alert(1)</script>")), "x.html")
    api.scribe.ingest(rejected=True)
    (file_id,) = [file["id"] for file in api.files()]
    answer = api.http.get(f"/api/audio/{file_id}")
    assert answer.content == b"<script>alert(1)</script>"
    assert answer.headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize(
    ("name", "plain", "extended"),
    [
        ("call 17.wav", "call 17.wav", "call%2017.wav"),
        ("../../etc/passwd", "_.._etc_passwd", "_.._etc_passwd"),
        ('a"b\\c\r\nX-Evil: 1.wav', "a_b_cX-Evil_ 1.wav", "a_b_cX-Evil_%201.wav"),
        ("тест 🎧.wav", "____ _.wav", "%D1%82%D0%B5%D1%81%D1%82%20%F0%9F%8E%A7.wav"),
        ("gpj.\u202evaw\x00", "gpj.vaw", "gpj.vaw"),
        ("...", "recording", "recording"),
    ],
)
def test_a_name_cannot_leave_its_header(served: Served, name: str, plain: str, extended: str) -> None:
    api, _ = served
    blob = api.lake.media.add(io.BytesIO(name.encode()))
    api.lake.inbox.add(blob, name)
    header = api.http.get(f"/api/audio/{blob.file_id}").headers["content-disposition"]
    assert header == f"inline; filename=\"{plain}\"; filename*=UTF-8''{extended}"


@given(name=st.text(max_size=200))
@settings(max_examples=50)
def test_any_name_makes_a_short_header_of_plain_characters(name: str) -> None:
    header = inline(name)
    assert re.fullmatch(r"inline; filename=\"[A-Za-z0-9 ._-]+\"; filename\*=UTF-8''[\w!#$&+.^`|~%-]+", header, re.ASCII)
    assert len(header) < 2_000
    assert not set(harmless(name)) & set('/\\\r\n\0"')


def test_a_long_name_keeps_its_ending() -> None:
    assert harmless("x" * 4_096 + ".flac") == "x" * 115 + ".flac"


def test_an_unknown_file_is_not_found_and_an_erased_one_gone(mine: Served) -> None:
    api, file_id = mine
    for unknown in (uuid.uuid4(), "..%2F..%2Fetc%2Fpasswd", "x" * 200):
        assert api.http.get(f"/api/audio/{unknown}").status_code == 404
    with api.lake.index() as index:
        erase(api.lake, index, [file_id], uuid.uuid4())
    answer = get(mine)
    assert answer.status_code == 410
    assert answer.headers["content-type"] == "application/problem+json"


def test_bytes_in_the_trash_are_brought_back(mine: Served) -> None:
    api, _ = mine
    found = api.lake.store.stat(media_path(SHA256))
    assert found is not None
    api.lake.media.trash(SHA256, found.modified_at)
    assert get(mine).content == PROMPT
    assert api.lake.store.stat(media_path(SHA256)) == found


def test_bytes_that_are_lost_are_the_stores_problem(mine: Served) -> None:
    mine[0].lake.store.remove(media_path(SHA256))
    assert get(mine).status_code == 503


def test_a_long_recording_comes_in_blocks(api: Api) -> None:
    content = recording(bytes(range(256)) * (3 * BLOCK_BYTES // 256) + b"end")
    file_id = api.ingested(content)
    assert api.http.get(f"/api/audio/{file_id}").content == content
    middle = api.http.get(f"/api/audio/{file_id}", headers={"Range": f"bytes=7-{2 * BLOCK_BYTES}"})
    assert middle.content == content[7 : 2 * BLOCK_BYTES + 1]


def test_a_recording_that_is_erased_while_it_is_sent_ends_and_nothing_else_does(api: Api) -> None:
    content = recording(bytes(64 * BLOCK_BYTES))
    file_id = api.ingested(content)
    with api.http.stream("GET", f"/api/audio/{file_id}") as answer:
        blocks = answer.iter_raw(BLOCK_BYTES)
        received = len(next(blocks))
        sha256 = hashlib.sha256(content).hexdigest()
        os.truncate(api.lake.store.local_path(media_path(sha256)), 0)
        with pytest.raises(httpx.RemoteProtocolError):
            received += sum(len(block) for block in blocks)
    assert received < len(content)
    assert api.http.get("/api/models").status_code == 200


@pytest.fixture
def bucket_lake(s3_server: S3Server, tmp_path: Path) -> tuple[dict[str, str], Scribe]:
    url = s3_server.lake_url()
    return (
        s3_server.settings | {"AUDIOPHILE_DATA": url, "AUDIOPHILE_LOCAL": str(tmp_path / "local")},
        Scribe(Lake.open(Place(url, tmp_path / "elsewhere", s3_server.access))),
    )


def in_bucket(scribe: Scribe, content: bytes = PROMPT) -> UUID:
    blob = scribe.lake.media.add(io.BytesIO(content))
    scribe.lake.inbox.add(blob, "conf-getpin.wav")
    scribe.ingest()
    return blob.file_id


def test_a_lake_in_a_bucket_is_passed_on_with_ranges(serve: Serve, bucket_lake: tuple[dict[str, str], Scribe]) -> None:
    variables, scribe = bucket_lake
    file_id = in_bucket(scribe)
    with serve(**variables) as api:
        served = (api, file_id)
        assert get(served).content == PROMPT
        assert get(served).headers["content-type"] == "audio/wav"
        assert get(served, Range="bytes=100-199").content == PROMPT[100:200]
        assert get(served, Range="bytes=-7").content == PROMPT[-7:]
        assert [part[2] for part in parts_of(get(served, Range="bytes=0-9,50-59"))] == [PROMPT[:10], PROMPT[50:60]]
        assert get(served, Range=f"bytes={SIZE}-").status_code == 416
        assert get(served, If_None_Match=ETAG).status_code == 304
        assert get(served, "HEAD").headers["content-length"] == str(SIZE)
        found = scribe.lake.store.stat(media_path(SHA256))
        assert found is not None
        scribe.lake.media.trash(SHA256, found.modified_at)
        assert get(served).content == PROMPT


def test_a_lake_in_a_bucket_redirects_to_a_signed_address_where_that_is_set(
    serve: Serve, bucket_lake: tuple[dict[str, str], Scribe]
) -> None:
    variables, scribe = bucket_lake
    file_id = in_bucket(scribe)
    with serve(**variables, AUDIO_FROM_S3="redirect") as api:
        answer = get((api, file_id))
        assert answer.status_code == 307
        assert answer.headers["cache-control"] == "no-store"
        assert "a secret" not in answer.headers["location"]
        assert "X-Amz-Expires=3600" in answer.headers["location"]
        there = httpx.get(answer.headers["location"], headers={"Range": "bytes=0-9"}, trust_env=False, timeout=60)
        assert (there.status_code, there.content) == (206, PROMPT[:10])
        assert there.headers["content-type"] == "audio/wav"
        assert there.headers["content-disposition"].startswith('inline; filename="conf-getpin.wav"')
        assert get((api, file_id), "HEAD").headers["content-length"] == str(SIZE)
        assert get((api, uuid.uuid4())).status_code == 404


def test_what_changes_in_the_bucket_while_it_is_sent_ends_the_answer(
    serve: Serve, bucket_lake: tuple[dict[str, str], Scribe]
) -> None:
    variables, scribe = bucket_lake
    content = bytes(64 * BLOCK_BYTES)
    file_id = in_bucket(scribe, content)
    with serve(**variables) as api, api.http.stream("GET", f"/api/audio/{file_id}") as answer:
        blocks = answer.iter_raw(BLOCK_BYTES)
        received = len(next(blocks))
        scribe.lake.store.remove(media_path(hashlib.sha256(content).hexdigest()))
        with pytest.raises(httpx.RemoteProtocolError):
            received += sum(len(block) for block in blocks)
        assert received < len(content)
