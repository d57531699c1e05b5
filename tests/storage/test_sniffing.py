"""The first bytes of content: nothing that libsndfile opens may be refused, and what it never opens mostly is."""

import os
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.sniffing import HEAD_BYTES, refusal

HEADERLESS = {"RAW", "SD2"}
SOUND = np.sin(np.arange(2000) / 10) / 2


def opens(content: bytes) -> bool:
    """Say whether libsndfile opens content as ingest does: by descriptor, so that no name helps it."""
    descriptor = os.memfd_create("content")
    try:
        os.write(descriptor, content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        with soundfile.SoundFile(descriptor, closefd=False):
            return True
    except (soundfile.LibsndfileError, RuntimeError):
        return False
    finally:
        os.close(descriptor)


@lru_cache
def written(container: str) -> dict[str, bytes]:
    """Return a file of each kind in a container that this libsndfile can write."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "sound")
        for subtype in soundfile.available_subtypes(container):
            for channels in (1, 2):
                for endian in ("FILE", "LITTLE", "BIG"):
                    sound = np.stack([SOUND] * channels, axis=1)
                    try:
                        soundfile.write(file, sound, 8000, format=container, subtype=subtype, endian=endian)
                    except (ValueError, soundfile.LibsndfileError):
                        continue
                    found[f"{subtype} {channels} {endian}"] = file.read_bytes()
    return found


@pytest.mark.parametrize("container", sorted(soundfile.available_formats()))
def test_whatever_libsndfile_writes_and_opens_is_let_through(container: str) -> None:
    files = written(container)
    assert files
    opened = {kind: content for kind, content in files.items() if opens(content)}
    assert bool(opened) == (container not in HEADERLESS)
    assert {kind: refusal(content[:HEAD_BYTES]) for kind, content in opened.items()} == dict.fromkeys(opened)


@settings(max_examples=300)
@given(st.data())
def test_nothing_that_libsndfile_opens_is_refused(data: st.DataObject) -> None:
    container = data.draw(st.sampled_from(sorted(set(soundfile.available_formats()) - HEADERLESS)))
    content = bytearray(next(iter(written(container).values())))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, HEAD_BYTES - 1))] = data.draw(st.integers(0, 255))
    if refusal(bytes(content[:HEAD_BYTES])) is not None:
        assert not opens(bytes(content))


@pytest.mark.parametrize("third", range(0, 256, 3))
def test_frame_syncs_are_told_from_other_bytes_as_libsndfile_does(third: int) -> None:
    (frames,) = {kind.split()[0]: content for kind, content in written("MP3").items()}.values()
    for second in range(0xE0, 0x100):
        content = bytes([0xFF, second, third]) + frames[3:]
        if refusal(content[:HEAD_BYTES]) is not None:
            assert not opens(content)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"RIFF", "4 bytes"),
        (b"RIFF____WEBPVP8 ", "no decoder here knows"),
        (b"RIFF____AVI LIST", "AVI"),
        (b"\0\0\0\x20ftypM4A isom", "MP4 or M4A"),
        (b"\x1aE\xdf\xa3" + bytes(8), "WebM"),
        (b"\xff\xf1\x50\x80" + bytes(8), "AAC"),
        (b"#!AMR\n" + bytes(8), "AMR"),
        (b"PK\x03\x04" + bytes(8), "ZIP"),
        (b"Not a recording at all.", "4e 6f 74 20"),
        (bytes(12), "00 00 00 00"),
        (b"<!DOCTYPE html>", "Convert it to WAV"),
    ],
)
def test_a_refusal_says_what_it_looks_like_and_what_to_do(content: bytes, said: str) -> None:
    assert said in (refusal(content[:HEAD_BYTES]) or "")


def test_a_tag_is_let_through_whatever_lies_behind_it() -> None:
    assert refusal(b"ID3\x04\0\0\0\0\x02\x01TI") is None
