"""The header `Range` (RFC 9110, 14.1 and 14.2): which bytes are asked for. It must not know of what.

Starlette's FileResponse answers 400 to what a server has to ignore, 416 where a single one of several ranges lies
outside, and 206 to HEAD, for which ranges are not defined; and it reads files only.
"""

import re
from dataclasses import dataclass
from typing import Final

MAX_RANGES: Final = 32
"""Whoever asks for more gets the whole: it costs less than its parts."""

_RANGES: Final = re.compile(r"bytes=(.*)", re.IGNORECASE | re.DOTALL)
_SPEC: Final = re.compile(r"([0-9]+)-([0-9]*)|-([0-9]+)")
_DIGITS: Final = 18  # of a number that is larger than any file


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes from `start` up to, and without, `end`."""

    start: int
    end: int

    def content_range(self, size_bytes: int) -> str:
        """Return the value of `Content-Range`."""
        return f"bytes {self.start}-{self.end - 1}/{size_bytes}"


def spans(headers: list[str], size_bytes: int) -> tuple[Span, ...] | None:
    """Return what is asked for; None where the header counts as not sent, as it does if it is malformed.

    Spans that touch or overlap are one, and then all are in order; else they are in the order of the request. An empty
    tuple says that none of them can be satisfied.

    Args:
        headers: What was sent as `Range`; more than one is malformed.
        size_bytes: Of the whole.
    """
    match = _RANGES.fullmatch(headers[0].strip(" \t")) if len(headers) == 1 else None
    if match is None:
        return None
    asked = [spec for part in match[1].split(",") if (spec := part.strip(" \t"))]
    if not 1 <= len(asked) <= MAX_RANGES:
        return None
    found: list[Span] = []
    for spec in asked:
        parts = _SPEC.fullmatch(spec)
        if parts is None or (parts[2] and _number(parts[2]) < _number(parts[1])):
            return None
        span = _span(parts, size_bytes)
        if span.start < span.end:
            found.append(span)
    return _joined(found)


def _span(parts: re.Match[str], size_bytes: int) -> Span:
    """Return what one range asks for; an empty one where it lies beyond the end."""
    if parts[3] is not None:
        return Span(max(0, size_bytes - _number(parts[3])), size_bytes)
    end = _number(parts[2]) + 1 if parts[2] else size_bytes
    return Span(_number(parts[1]), min(end, size_bytes))


def _number(digits: str) -> int:
    significant = digits.lstrip("0") or "0"
    return int(significant) if len(significant) <= _DIGITS else 10**_DIGITS


def _joined(found: list[Span]) -> tuple[Span, ...]:
    joined: list[Span] = []
    for span in sorted(found, key=lambda one: one.start):
        if joined and span.start <= joined[-1].end:
            joined[-1] = Span(joined[-1].start, max(joined[-1].end, span.end))
        else:
            joined.append(span)
    return tuple(found) if len(joined) == len(found) else tuple(joined)
