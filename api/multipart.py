"""A multipart body, block by block: its field `file` goes to a staged file, whatever else is in it is passed over.

It must not know where blocks come from, and never holds more than one of them.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from api.dispositions import read_disposition
from api.problems import InvalidProblem, MalformedProblem, TooLargeProblem, UnusableUploadProblem, shown
from storage.media import Media, Staged, Staging
from storage.sniffing import HEAD_BYTES, refusal

FIELD: Final = "file"
MAX_PARTS: Final = 16
HEADERS_PER_PART: Final = 8
HEADER_BYTES: Final = 16_384  # room for a name of 4 KiB, percent-encoded
OTHER_BYTES: Final = 1 << 20
"""What a body may have beside the recording: borders, headers, other fields."""


@dataclass(frozen=True, slots=True)
class Received:
    """An upload that has arrived whole, and is not in the store yet."""

    name: str
    staged: Staged


class UploadBody:
    """Parses a body, and stages the recording in it; what is not kept is gone once it is closed.

    Each method may wait for the disk, and so belongs on a thread other than the event loop's.
    """

    def __init__(self, media: Media, boundary: bytes, max_bytes: int) -> None:
        """Expect a body.

        Args:
            media: Where the recording is staged.
            boundary: What parts it.
            max_bytes: The largest recording that is taken.

        Raises:
            MalformedProblem: There can be no such boundary.
        """
        self._media, self._max_bytes = media, max_bytes
        self._open = contextlib.ExitStack()
        self._staging: Staging | None = None
        self._name: str | None = None
        self._head = b""
        self._size_bytes = self._body_bytes = self._parts = 0
        self._in_file = self._ended = False
        self._header, self._value, self._disposition = bytearray(), bytearray(), b""
        with _readable():
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": self._read_header,
                    "on_header_value": self._read_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._end_headers,
                    "on_part_data": self._read_data,
                    "on_part_end": self._end_part,
                    "on_end": self._end,
                },
                max_header_count=HEADERS_PER_PART,
                max_header_size=HEADER_BYTES,
            )

    @property
    def is_judged(self) -> bool:
        """Say whether the recording has begun, and was not refused by how it begins."""
        return self._staging is not None

    def feed(self, block: bytes) -> None:
        """Take the next block of the body.

        Raises:
            Problem: The body cannot be read or used, or is too large.
            StoreError: This host's disk cannot be written, or is full.
        """
        self._body_bytes += len(block)
        with _readable():
            self._parser.write(block)
        if self._body_bytes - self._size_bytes > OTHER_BYTES:
            raise TooLargeProblem(
                f"Beside the recording, the body has more than {OTHER_BYTES} bytes, the limit: send `{FIELD}` alone",
                limit=OTHER_BYTES,
            )

    def finish(self) -> Received:
        """Return what has arrived, once the body is over.

        Raises:
            Problem: It ended early, or has no recording.
            StoreError: This host's disk cannot be written, or is full.
        """
        if not self._ended:
            raise MalformedProblem("The body ends before its closing boundary: nothing was stored, send it again")
        if self._name is None or self._staging is None:
            missing = {"field": f"body.{FIELD}", "message": "Field required"}
            raise InvalidProblem(
                f"body.{FIELD}: Field required. Send the recording in the field `{FIELD}`", errors=[missing]
            )
        return Received(self._name, self._staging.staged())

    def close(self) -> None:
        """Remove what was staged and not kept."""
        self._open.close()

    def _begin_part(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise UnusableUploadProblem(
                f"The body has more than {MAX_PARTS} fields, the limit: send the field `{FIELD}` alone"
            )
        self._in_file, self._disposition = False, b""

    def _read_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _read_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _end_headers(self) -> None:
        field, name = read_disposition(self._disposition)
        if field is None:
            raise MalformedProblem("A part of the body has no Content-Disposition with a name: send it as a form does")
        if field != FIELD:
            return
        if self._name is not None:
            raise UnusableUploadProblem(
                f"The field `{FIELD}` is there twice: send each recording in a request of its own"
            )
        if name is None:
            raise UnusableUploadProblem(
                f"The field `{FIELD}` has no file name, so it is text and no file. With curl: -F {FIELD}=@recording.wav"
            )
        self._in_file, self._name = True, name or "unnamed"

    def _read_data(self, data: bytes, start: int, end: int) -> None:
        if not self._in_file:
            return
        self._size_bytes += end - start
        if self._size_bytes > self._max_bytes:
            raise too_large(self._max_bytes)
        if self._staging is not None:
            self._staging.write(memoryview(data)[start:end])
            return
        self._head += data[start:end]
        if len(self._head) >= HEAD_BYTES:
            self._stage()

    def _end_part(self) -> None:
        if self._in_file and self._staging is None:
            self._stage()

    def _stage(self) -> None:
        """Look at how the recording begins, and only then touch the disk."""
        reason = refusal(self._head[:HEAD_BYTES])
        if reason is not None:
            raise UnusableUploadProblem(f"{shown(self._name)} {reason}")
        self._staging = self._open.enter_context(self._media.staging())
        self._staging.write(self._head)
        self._head = b""

    def _end(self) -> None:
        self._ended = True


def too_large(max_bytes: int) -> TooLargeProblem:
    """Return the answer to a recording that is larger than `max_bytes`."""
    return TooLargeProblem(
        f"The recording has more than {max_bytes} bytes, the limit: make it FLAC, split it, or raise MAX_UPLOAD_MB",
        limit=max_bytes,
    )


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except FormParserError as error:
        raise MalformedProblem(
            f"The body is not multipart/form-data: {error}. A part may have {HEADERS_PER_PART} headers of "
            f"{HEADER_BYTES} bytes each"
        ) from error
