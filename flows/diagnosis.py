"""What the doctor finds, and how it is shown. It must not know what is looked at.

Only the standard library: it has to work where everything else is broken.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final, TextIO


class Level(Enum):
    """How much a finding matters."""

    OK = "ok"
    WARN = "warn"  # it may be meant so
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look came to.

    Attributes:
        level: How much it matters.
        subject: What was looked at.
        text: What was found; of what is not well, with the remedy.
    """

    level: Level
    subject: str
    text: str


_COLOURS: Final = {Level.OK: "32", Level.WARN: "33", Level.FAIL: "31"}
_SUBJECT_WIDTH: Final = 13


def ok(subject: str, text: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(Level.OK, subject, text)


def warn(subject: str, text: str) -> Finding:
    """Return a finding that may be meant so, or may not."""
    return Finding(Level.WARN, subject, text)


def fail(subject: str, text: str) -> Finding:
    """Return a finding that something does not work."""
    return Finding(Level.FAIL, subject, text)


def guarded(subject: str, look: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """Yield what `look` finds; whatever it raises is a finding, too, so that the others are still looked at."""
    try:
        yield from look()
    except Exception as error:  # a broken package may raise anything, on import already
        yield fail(subject, f"cannot be looked at: {type(error).__name__}: {one_line(str(error))}. Mend what is above")


def show(finding: Finding, out: TextIO = sys.stdout) -> None:
    """Write a finding as a line."""
    word = f"{finding.level.value:4}"
    if out.isatty() and not os.environ.get("NO_COLOR"):
        word = f"\033[{_COLOURS[finding.level]}m{word}\033[0m"
    out.write(f"{word}  {finding.subject:{_SUBJECT_WIDTH}}  {one_line(finding.text)}\n")
    out.flush()


def one_line(text: str) -> str:
    """Return a text of any shape as one line."""
    return " ".join(text.split())
