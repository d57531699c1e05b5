"""What must not get lost, be told twice or be left half done, whatever comes between."""

import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from flows.drift_baselines import ChosenBaseline, choose_baseline, first_baseline, fitted
from flows.drift_windows import closed, judge
from flows.drift_work import passed
from models.drift_verdicts import Budget
from models.drift_windows import WindowRule
from storage import commit as commit_module
from storage.answers import changes
from storage.decisions import check, reject, release_held
from storage.drift import active_baseline, baselines, held, waiting, windows
from storage.erasure import erase
from storage.errors import PublishedReferenceError, UnknownReferenceError
from storage.history import state_of
from storage.lake import Lake
from tests.flows.drift_world import World
from tests.flows.test_drift_parts import LEAST, RULE, a_baseline, said


@pytest.fixture
def world(lake: Lake) -> World:
    return World.over(lake)


def test_what_was_answered_again_while_it_was_held_is_tested_once_the_first_is_rejected(world: World) -> None:
    world.come(30)
    a_baseline(world)
    ids = world.come(20, level_dbfs=-8.0, held=True)
    assert said(world) == ["drift"]
    world.change_model("v2")
    again = world.answer(ids, level_dbfs=-8.0, held=True)
    world.come(20)
    assert said(world) == ["no_drift"]
    first = held(world.index)[0].reference
    assert first != again
    reject(world.lake, world.index, [first])
    index = world.index
    assert again not in passed(index, waiting(index)), "its recordings are in no window any more, and wait for one"
    assert said(world) == ["drift"]
    assert again not in passed(world.index, waiting(world.index))


def test_what_somebody_rejects_meanwhile_is_not_published_for_having_passed(world: World) -> None:
    world.come(5, held=True)
    mine = world.lake.index()
    those = passed(mine, waiting(mine))
    reject(world.lake, world.index, those)
    assert release_held(world.lake, mine, those) == []
    assert [state_of(mine, id_) for id_ in those] == ["rejected"]


def test_a_baseline_that_lost_a_recording_to_erasure_is_still_compared_with(world: World) -> None:
    ids = world.come(30)
    a_baseline(world)
    erase(world.lake, world.author.index, ids[:1], uuid.uuid4())
    world.come(20, level_dbfs=-8.0)
    assert said(world) == ["drift"]


def between(monkeypatch: pytest.MonkeyPatch, what: Any) -> None:
    """Do something once, between the plan of the next commit and its log entry."""
    left = [what]

    def reached(step: str) -> None:
        if step == "tables written" and left:
            left.pop()()

    monkeypatch.setattr(commit_module, "reached", reached)


def test_a_chosen_baseline_is_not_replaced_by_a_first_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.come(40)
    mine, other = world.lake.index(), world.lake.index()
    choice = ChosenBaseline(name="mine", since=datetime(2020, 1, 1, tzinfo=UTC))
    between(monkeypatch, lambda: choose_baseline(world.lake, other, choice, LEAST, uuid.uuid4()))
    first_baseline(world.lake, mine, LEAST, uuid.uuid4())
    found = active_baseline(mine)
    assert found is not None
    assert found.name == "mine"
    assert len(baselines(mine)) == 1


def test_a_window_does_not_overlap_one_of_another_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.come(30)
    row = a_baseline(world)
    world.come(20)
    mine, other = world.lake.index(), world.lake.index()
    (one,) = closed(mine, RULE)
    baseline = fitted(world.lake, mine, row, LEAST)

    def meanwhile() -> None:
        erase(world.lake, other, [one.arrivals[0].file_id], uuid.uuid4())
        (shorter,) = closed(other, WindowRule(38, 24))
        assert judge(world.lake, other, shorter, row, baseline, Budget()) is not None

    between(monkeypatch, meanwhile)
    assert judge(world.lake, mine, one, row, baseline, Budget()) is None
    assert len(windows(mine)) == 1


def test_who_is_erased_while_a_window_is_committed_is_not_in_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.come(30)
    row = a_baseline(world)
    ids = world.come(20)
    mine, other = world.lake.index(), world.lake.index()
    (one,) = closed(mine, RULE)
    baseline = fitted(world.lake, mine, row, LEAST)
    between(monkeypatch, lambda: erase(world.lake, other, ids[:1], uuid.uuid4()))
    assert judge(world.lake, mine, one, row, baseline, Budget()) is not None
    rows = mine.query("SELECT 1 FROM drift_files WHERE file_id = ?", [ids[0]])
    assert rows == []


def test_a_change_is_complete_where_the_rest_has_failed_for_good(world: World) -> None:
    ids = world.come(10)
    world.change_model("v2")
    world.answer(ids[1:])
    row = world.author.coverage_row(ids[0], "m", "v2") | {"state": "failed", "reason": "x", "tries": 3}
    world.author.commit("refresh", reference=uuid.uuid4(), coverage=[row])
    (change,) = changes(world.index)
    assert change.is_ripe(100)


def test_of_a_baseline_that_is_erased_as_a_whole_each_test_says_so(world: World) -> None:
    ids = world.come(30)
    a_baseline(world)
    erase(world.lake, world.author.index, ids, uuid.uuid4())
    world.come(20)
    assert said(world) == ["insufficient"]
    (one,) = windows(world.index)
    assert {(test.detector, test.reason) for test in one.tests} == {("ks", "nothing of the baseline is left")}


def test_a_folder_behind_a_link_is_chosen_by_either_path(world: World, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    world.come(40, uri=(tmp_path / "link" / "a.wav").as_uri())
    choice = ChosenBaseline(folder=str(tmp_path / "link"))
    assert choose_baseline(world.lake, world.index, choice, LEAST, uuid.uuid4()) is not None


@pytest.mark.parametrize("folder", ["", "\0", "x\0y"])
def test_a_folder_that_can_be_none_is_refused_in_the_form(folder: str) -> None:
    with pytest.raises(ValidationError, match="folder"):
        ChosenBaseline(folder=folder, since=datetime(2020, 1, 1, tzinfo=UTC))


def test_decisions_are_refused_before_any_of_them_is_made(world: World) -> None:
    world.come(1, held=True)
    world.come(1, held=True)
    index = world.index
    one, other = [each.reference for each in held(index)]
    with pytest.raises(UnknownReferenceError):
        check(index, [one], [uuid.uuid4()])
    with pytest.raises(PublishedReferenceError, match="both released and rejected"):
        check(index, [one, other], [other])
    check(index, [one], [other])
    assert [state_of(index, id_) for id_ in (one, other)] == ["held", "held"]
