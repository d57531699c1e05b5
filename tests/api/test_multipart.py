"""A body in blocks: however it is cut, the same recording and name come out; what is not as it should be is refused."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api import multipart
from api.multipart import MAX_PARTS, OTHER_BYTES, UploadBody
from api.problems import InvalidProblem, MalformedProblem, Problem, TooLargeProblem, UnusableUploadProblem
from storage.media import Media
from storage.store import LocalStore
from tests.api.conftest import WAV
from tests.api.sending import BOUNDARY, END, body, part

LIMIT = 1 << 20


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def parsed(folder: Path, *blocks: bytes, limit: int = LIMIT) -> tuple[str, bytes]:
    """Parse a body; return name and content. Nothing of it may be left."""
    upload = UploadBody(Media(LocalStore(folder)), BOUNDARY, limit)
    try:
        with contextlib.closing(upload):
            for block in blocks:
                upload.feed(block)
            received = upload.finish()
            content = received.staged.path.read_bytes()
            assert received.staged.blob.size_bytes == len(content)
            return received.name, content
    finally:
        assert [path for path in folder.rglob("*") if path.is_file()] == []


def refused(folder: Path, kind: type[Problem], *blocks: bytes, limit: int = LIMIT) -> str:
    with pytest.raises(kind) as caught:
        parsed(folder, *blocks, limit=limit)
    return caught.value.detail


tricky = st.lists(
    st.sampled_from(
        [b"\r\n--" + BOUNDARY[:-1], b"\r\n--" + BOUNDARY + b"x", b"\r", b"\n", b"--", b"\r\n", b"\0", b"sound"]
    )
).map(b"".join)


@settings(max_examples=150)
@given(
    data=st.data(),
    content=tricky,
    name=st.text(st.characters(exclude_characters='"\r\n%\\', exclude_categories=["Cs"])),
)
def test_any_cut_of_a_body_gives_the_same_bytes_and_name(
    folder: Path, data: st.DataObject, content: bytes, name: str
) -> None:
    ignored = b"--" + BOUNDARY + b'\r\nContent-Disposition: form-data; name="note"\r\n\r\nhello\r\n'
    whole = b"\r\n" + ignored + body(WAV + content, name.encode())
    cuts = sorted(data.draw(st.sets(st.integers(0, len(whole)))))
    blocks = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert parsed(folder, *blocks) == (name or "unnamed", WAV + content)


def test_the_largest_recording_is_taken_and_one_byte_more_is_not(folder: Path) -> None:
    assert len(parsed(folder, body(WAV.ljust(LIMIT, b"-")))[1]) == LIMIT
    assert str(LIMIT) in refused(folder, TooLargeProblem, part() + WAV.ljust(LIMIT, b"-"), b"-")


def test_what_surrounds_a_recording_is_bounded(folder: Path) -> None:
    other = part(field=b"other")
    assert "Beside the recording" in refused(folder, TooLargeProblem, other, bytes(OTHER_BYTES))
    assert "Beside the recording" in refused(folder, TooLargeProblem, body(WAV), bytes(OTHER_BYTES))
    assert f"{MAX_PARTS} fields" in refused(folder, UnusableUploadProblem, (other + b"\r\n") * (MAX_PARTS + 1))


def test_an_epilogue_is_passed_over(folder: Path) -> None:
    assert parsed(folder, body(WAV) + b"and so on") == ("a.wav", WAV)


def test_a_second_file_is_refused(folder: Path) -> None:
    assert "twice" in refused(folder, UnusableUploadProblem, part() + WAV + b"\r\n" + body(WAV))


def test_a_field_without_a_file_name_is_text(folder: Path) -> None:
    text = b"--" + BOUNDARY + b'\r\nContent-Disposition: form-data; name="file"\r\n\r\nrecording.wav' + END
    assert "-F file=@recording.wav" in refused(folder, UnusableUploadProblem, text)


def test_a_body_without_the_field_is_invalid(folder: Path) -> None:
    assert "body.file" in refused(folder, InvalidProblem, part(field=b"recording") + WAV + END)


@pytest.mark.parametrize("content", [b"", WAV[:-1], b"Not a recording at all."])
def test_what_is_no_recording_is_refused_before_the_disk_is_touched(
    folder: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Media, "staging")
    assert "'a.wav'" in refused(folder, UnusableUploadProblem, body(content))


@pytest.mark.parametrize(
    "broken",
    [
        b"no boundary",
        b"--" + BOUNDARY + b"\r\n\r\nno header" + END,
        b"--" + BOUNDARY + b"\r\nContent-Disposition: form-data\r\n\r\nno name" + END,
        b"--" + BOUNDARY + b"\r\nContent Disposition: form-data\r\n\r\n" + END,
        part() + WAV,
        b"",
        part(b"x" * multipart.HEADER_BYTES),
        b"--" + BOUNDARY + b"\r\n" + b"X: y\r\n" * (multipart.HEADERS_PER_PART + 1),
    ],
)
def test_a_body_that_is_none_is_malformed(folder: Path, broken: bytes) -> None:
    assert refused(folder, MalformedProblem, broken)


def test_a_boundary_that_is_too_long_is_malformed(folder: Path) -> None:
    with pytest.raises(MalformedProblem):
        UploadBody(Media(LocalStore(folder)), b"-" * 1000, LIMIT)
