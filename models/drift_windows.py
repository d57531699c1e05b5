"""Windows: what is new, in stretches that never overlap, each of which is tested once. It must not know tests.

A recording is in one window as a whole, since recordings are what is sampled independently. So a window may have more
utterances than were asked for: those of the recording that filled it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from models.errors import DriftError


@dataclass(frozen=True, slots=True)
class WindowRule:
    """When a window closes, whichever comes first."""

    utterances: int = 100
    hours: float = 24.0

    def __post_init__(self) -> None:
        if self.utterances < 1 or self.hours <= 0:
            raise DriftError(f"{self}: a window needs at least one utterance and more than no time")


@dataclass(frozen=True, slots=True)
class Arrival:
    """A recording of which utterances are known."""

    recording: str
    at: datetime  # UTC: when its reference was committed
    utterances: int


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of what is new, closed for good."""

    recordings: tuple[str, ...]  # in order of arrival
    utterances: int
    opened_at: datetime  # when its first recording arrived
    closed_at: datetime
    closed_by: Literal["size", "age"]


def closed_windows(arrivals: Iterable[Arrival], now: datetime, rule: WindowRule | None = None) -> list[Window]:
    """Return the windows that are closed by now, in order of time.

    They depend on the arrivals alone, so the same arrivals make the same windows whenever one asks; what arrives later
    than another must be given a later time.

    Args:
        arrivals: Every recording since some time at which no window was open, those of the baseline left out. A
            recording that comes again counts once, the first time.
        now: UTC.
        rule: When a window closes.
    """
    rule = rule or WindowRule()
    length = timedelta(hours=rule.hours)
    closed: list[Window] = []
    waiting: list[Arrival] = []
    seen: set[str] = set()
    for arrival in sorted(arrivals, key=lambda each: (each.at, each.recording)):
        if arrival.recording in seen or arrival.at > now:
            continue
        seen.add(arrival.recording)
        if waiting and arrival.at >= waiting[0].at + length:
            closed.append(_window(waiting, waiting[0].at + length, "age"))
            waiting = []
        waiting.append(arrival)
        if sum(each.utterances for each in waiting) >= rule.utterances:
            closed.append(_window(waiting, arrival.at, "size"))
            waiting = []
    if waiting and now >= waiting[0].at + length:
        closed.append(_window(waiting, waiting[0].at + length, "age"))
    return closed


def _window(arrivals: list[Arrival], closed_at: datetime, closed_by: Literal["size", "age"]) -> Window:
    utterances = sum(each.utterances for each in arrivals)
    return Window(tuple(each.recording for each in arrivals), utterances, arrivals[0].at, closed_at, closed_by)
