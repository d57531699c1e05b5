"""Windows never overlap, and close by size or by age."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.drift_windows import Arrival, WindowRule, closed_windows
from models.errors import DriftError

START = datetime(2026, 1, 1, tzinfo=UTC)
RULE = WindowRule(utterances=100, hours=24)


def arrivals(*rows: tuple[str, float, int]) -> list[Arrival]:
    return [Arrival(name, START + timedelta(hours=hours), utterances) for name, hours, utterances in rows]


ARRIVALS = st.lists(
    st.tuples(st.sampled_from("abcdefghijklmnop"), st.floats(0, 200), st.integers(0, 120)), max_size=30
).map(lambda rows: arrivals(*rows))


def test_a_window_closes_when_it_is_full() -> None:
    (window,) = closed_windows(arrivals(("a", 0, 60), ("b", 1, 60), ("c", 2, 60)), START + timedelta(hours=3), RULE)
    assert (window.recordings, window.utterances, window.closed_by) == (("a", "b"), 120, "size")


def test_a_window_closes_when_it_is_old_with_what_it_has() -> None:
    came = arrivals(("a", 0, 10), ("b", 23, 10), ("c", 24, 10))
    (window,) = closed_windows(came, START + timedelta(hours=25), RULE)
    assert (window.recordings, window.closed_by) == (("a", "b"), "age")
    assert window.closed_at == START + timedelta(hours=24)


def test_a_window_that_is_neither_full_nor_old_is_open() -> None:
    assert closed_windows(arrivals(("a", 0, 10)), START + timedelta(hours=23), RULE) == []


def test_a_recording_that_comes_again_counts_once() -> None:
    came = arrivals(("a", 0, 60), ("a", 1, 60), ("b", 2, 60))
    (window,) = closed_windows(came, START + timedelta(hours=3), RULE)
    assert window.recordings == ("a", "b")


@given(ARRIVALS, st.floats(0, 300))
def test_windows_never_overlap_and_have_each_recording_once(came: list[Arrival], hours: float) -> None:
    windows = closed_windows(came, START + timedelta(hours=hours), RULE)
    held = [name for window in windows for name in window.recordings]
    assert len(held) == len(set(held))
    for window, following in itertools.pairwise(windows):
        assert window.opened_at <= window.closed_at <= following.opened_at
    for window in windows:
        assert (window.utterances >= RULE.utterances) == (window.closed_by == "size")
        assert window.closed_at - window.opened_at <= timedelta(hours=RULE.hours)


@given(ARRIVALS, st.floats(0, 300), st.floats(0, 300))
def test_a_window_that_is_closed_stays_as_it_is(came: list[Arrival], first: float, second: float) -> None:
    early, late = (START + timedelta(hours=hours) for hours in sorted((first, second)))
    before = closed_windows([each for each in came if each.at <= early], early, RULE)
    assert closed_windows(came, late, RULE)[: len(before)] == before


@pytest.mark.parametrize("rule", [{"utterances": 0}, {"hours": 0}])
def test_a_window_of_nothing_is_refused(rule: dict[str, float]) -> None:
    with pytest.raises(DriftError):
        WindowRule(**rule)  # type: ignore[arg-type]
