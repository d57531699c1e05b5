"""What the flow drift is made of: evidence, baselines, windows and changed models, over a lake without Prefect."""

import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import polars as pl
import pytest
from pydantic import ValidationError

from flows.drift_baselines import (
    FITTED,
    ChosenBaseline,
    choose_baseline,
    first_baseline,
    fitted,
    forget_fitted,
)
from flows.drift_evidence import evidence
from flows.drift_windows import closed, judge
from flows.drift_work import work_for_drift
from flows.model_changes import compare
from models.drift_verdicts import Budget
from models.drift_windows import WindowRule
from models.errors import DriftError
from storage.answers import changes
from storage.drift import BaselineRow, active_baseline, files_of_window, waiting, windows
from storage.erasure import erase
from storage.lake import Lake
from storage.log import GroupModel
from storage.settings import Settings
from tests.flows.drift_world import UTTERANCES, World

LEAST = 60  # utterances of a baseline
RULE = WindowRule(utterances=40, hours=24)
MODEL_SAMPLES = {"speaking_rate:m", "embedding:m", "confidence:m", "confidence:m:call", "detections_per_minute:m"}


@pytest.fixture
def world(lake: Lake) -> World:
    return World.over(lake)


def a_baseline(world: World) -> BaselineRow:
    made = first_baseline(world.lake, world.author.index, LEAST, uuid.uuid4())
    assert made is not None
    return made


def said(world: World, now: datetime | None = None) -> list[str]:
    """Test every window that has closed; return the verdicts."""
    index, row = world.author.index, active_baseline(world.author.index)
    assert row is not None
    baseline = fitted(world.lake, index, row, LEAST)
    verdicts = []
    for one in closed(index, RULE, now):
        tested = judge(world.lake, index, one, row, baseline, Budget())
        assert tested is not None
        verdicts.append(tested.verdict)
    return verdicts


def test_evidence_has_every_sample_of_the_recordings_and_of_no_others(world: World) -> None:
    ids = world.come(12)
    world.come(3)
    found = evidence(world.lake, world.author.index, ids)
    assert found.utterances.height == found.answers.height == found.predictions.height == 12 * UTTERANCES
    assert set(found.utterances["file_id"]) == {id_.bytes for id_ in ids}
    assert {sample.name for sample in found.samples} >= MODEL_SAMPLES | {"level_dbfs", "format", "sample_rate"}
    assert {sample.model_version for sample in found.samples if sample.name in MODEL_SAMPLES} == {"v1"}


def test_evidence_is_of_the_present_version_and_of_audio_what_there_is(world: World) -> None:
    ids = world.come(4)
    world.change_model("v2")
    world.answer(ids[:1], level_dbfs=-40.0)
    found = evidence(world.lake, world.author.index, ids)
    assert found.utterances.height == 4 * UTTERANCES
    assert found.answers["model_version"].to_list() == ["v2"] * UTTERANCES
    assert found.predictions.height == UTTERANCES
    assert found.utterances.filter(pl.col("file_id") == ids[0].bytes)["level_dbfs"].max() < -30


def test_evidence_leaves_out_utterances_that_were_cut_otherwise(world: World) -> None:
    def group(version: str, pad_s: float) -> None:
        settings = {"utterances": {"pad_s": pad_s}}
        world.version = version
        world.author.commit("group", group=(GroupModel("m", version, "phrases", True, settings),))

    group("v2", 0.1)
    ids = world.come(4)
    group("v3", 0.5)
    assert evidence(world.lake, world.index, ids).utterances.height == 0
    world.answer(ids[:1])
    assert evidence(world.lake, world.index, ids).utterances.height == UTTERANCES
    group("v4", 0.5)
    assert evidence(world.lake, world.index, ids).utterances.height == UTTERANCES, (
        "another phrase cuts nothing otherwise"
    )


def test_evidence_counts_held_references_and_not_rejected_ones(world: World) -> None:
    ids = world.come(2, held=True)
    index = world.author.index
    assert evidence(world.lake, index, ids).utterances.height == 2 * UTTERANCES
    (reference,) = [row["reference"] for row in index.query("SELECT reference FROM entries WHERE op = 'refresh'")]
    world.author.commit("reject", reference=reference)
    assert evidence(world.lake, index, ids).utterances.height == 0


def test_an_utterance_has_the_scene_that_takes_most_of_it(world: World) -> None:
    (file_id,) = world.come(1)
    group = tuple(GroupModel(name, "v1", task, True, {}) for name, task in (("m", "phrases"), ("scenes", "scenes")))
    world.author.commit("group", group=group)
    spans = [("music", 0.0, 0.1), ("speech", 0.1, 0.6), ("music", 0.6, 1.0)]
    place = {"file_id": file_id, "model": "scenes", "model_version": "v1", "channel": 0, "utterance": 0}
    rows = [place | {"label": label, "start_s": a, "end_s": b, "confidence": 0.9} for label, a, b in spans]
    coverage = [world.author.coverage_row(file_id, "scenes", "v1", predictions=3)]
    world.author.commit("refresh", reference=uuid.uuid4(), coverage=coverage, predictions=rows)
    found = evidence(world.lake, world.author.index, [file_id])
    assert found.utterances["scene"].to_list() == ["speech", "music"], "of 0 to 0.4 s, and of 0.5 to 0.9 s"
    assert found.predictions["model"].unique().to_list() == ["m"]
    assert found.asked == {"m": "v1"}


def test_the_first_baseline_is_made_of_what_came_first_and_only_once(world: World) -> None:
    first = world.come(29)
    assert first_baseline(world.lake, world.author.index, LEAST, uuid.uuid4()) is None
    later = world.come(20)
    row = a_baseline(world)
    assert (row.name, row.version, row.recordings, row.utterances) == ("first", 1, 30, 60)
    assert set(files_of_window(world.author.index, row.baseline_id)) == {*first, min(later)}
    assert a_baseline(world) == row


def test_the_demo_is_in_no_baseline_and_no_window(world: World) -> None:
    world.come(60, kind="demo")
    assert first_baseline(world.lake, world.author.index, LEAST, uuid.uuid4()) is None
    assert waiting(world.author.index) == []


def test_many_utterances_of_few_recordings_are_no_baseline(world: World) -> None:
    world.come(9)
    assert first_baseline(world.lake, world.author.index, 10, uuid.uuid4()) is None
    world.come(1)
    assert first_baseline(world.lake, world.author.index, 10, uuid.uuid4()) is not None


@pytest.mark.parametrize("by", ["folder", "since", "reference"])
def test_a_baseline_is_chosen_by_folder_time_or_reference(world: World, tmp_path: Path, by: str) -> None:
    world.come(35, uri="file:///elsewhere/a.wav")
    wanted = world.come(40, uri=(tmp_path / "quiet" / "a.wav").as_uri())
    index = world.author.index
    (since,) = [
        row["at"]
        for row in index.query("SELECT min(ingested_at) AS at FROM files WHERE file_id IN (SELECT unnest(?))", [wanted])
    ]
    last = index.query("SELECT reference FROM entries WHERE op = 'refresh' ORDER BY seq DESC LIMIT 1")[0]["reference"]
    choice = {"folder": str(tmp_path / "quiet"), "since": since, "reference": last}[by]
    row = choose_baseline(world.lake, index, ChosenBaseline(name="quiet", **{by: choice}), LEAST, uuid.uuid4())
    assert row is not None
    assert row == active_baseline(index)
    assert set(files_of_window(index, row.baseline_id)) == set(wanted)
    again = choose_baseline(world.lake, index, ChosenBaseline(name="quiet", **{by: choice}), LEAST, uuid.uuid4())
    assert again is not None
    assert (again.name, again.version) == ("quiet", 2)


def test_a_choice_of_too_little_is_refused_with_what_there_is(world: World) -> None:
    world.come(5)
    choice = ChosenBaseline(since=datetime(2020, 1, 1, tzinfo=UTC))
    with pytest.raises(DriftError, match=r"10 utterances in 5 recordings, and 60 in 10 are needed"):
        choose_baseline(world.lake, world.author.index, choice, LEAST, uuid.uuid4())
    assert active_baseline(world.author.index) is None


@pytest.mark.parametrize("wrong", [{}, {"name": "x"}, {"folder": "/a", "name": "<b>"}, {"since": "now", "more": 1}])
def test_a_choice_of_nothing_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ChosenBaseline(**wrong)


def test_a_fitted_baseline_is_kept_until_one_of_its_recordings_is_erased(world: World) -> None:
    ids = world.come(40)
    row = a_baseline(world)
    folder = world.lake.place.local / FITTED
    first = fitted(world.lake, world.author.index, row, LEAST)
    (kept,) = folder.iterdir()
    again = fitted(world.lake, world.author.index, row, LEAST)
    assert [one.name for one in again.references] == [one.name for one in first.references]
    assert list(folder.iterdir()) == [kept]
    erase(world.lake, world.author.index, [min(ids)], uuid.uuid4())
    without = fitted(world.lake, world.author.index, row, LEAST)
    assert min(ids).hex in first.recordings
    assert min(ids).hex not in without.recordings
    assert list(folder.iterdir()) != [kept]
    forget_fitted(world.lake.place)
    assert not folder.exists()


def test_a_damaged_fitted_baseline_is_fitted_anew(world: World) -> None:
    world.come(40)
    row = a_baseline(world)
    fitted(world.lake, world.author.index, row, LEAST)
    for file in (world.lake.place.local / FITTED).rglob("*.json"):
        file.write_text("{")
    assert fitted(world.lake, world.author.index, row, LEAST).utterances == LEAST


def test_windows_are_tested_once_in_order_and_say_what_came(world: World) -> None:
    world.come(30)
    a_baseline(world)
    world.come(20)
    world.come(25, level_dbfs=-8.0)
    assert said(world) == ["no_drift", "drift"]
    assert said(world) == [], "each is tested once"
    newest, older = windows(world.author.index)
    assert newest.tests[0].descriptor == "level_dbfs"
    assert newest.verdict == "drift"
    assert (older.recordings, older.utterances, older.closed_by) == (20, 40, "size")
    assert len(waiting(world.author.index)) == 5, "they are in the next window"
    assert not set(files_of_window(world.author.index, newest.window_id)) & set(
        files_of_window(world.author.index, older.window_id)
    )


def test_a_window_that_another_run_has_tested_is_left_alone(world: World) -> None:
    world.come(30)
    row = a_baseline(world)
    world.come(20)
    index = world.author.index
    (one,) = closed(index, RULE)
    (other,) = closed(index, WindowRule(utterances=20, hours=24))[:1]
    baseline = fitted(world.lake, index, row, LEAST)
    assert judge(world.lake, index, other, row, baseline, Budget()) is not None
    assert judge(world.lake, index, one, row, baseline, Budget()) is None, "what counts is what the other run said"
    assert len(windows(index)) == 1
    rest = closed(index, WindowRule(utterances=10, hours=24))
    assert rest[0].arrivals[0].file_id not in files_of_window(index, other.window_id)


def test_a_window_closes_by_age_and_too_little_is_no_verdict_of_no_drift(world: World) -> None:
    world.come(30)
    a_baseline(world)
    world.come(5, level_dbfs=-8.0)
    came = waiting(world.author.index)[0].at
    assert said(world, came + timedelta(hours=23)) == []
    assert said(world, came + timedelta(hours=25)) == ["insufficient"]
    (only,) = windows(world.author.index)
    assert only.closed_by == "age"
    assert {test.verdict for test in only.tests} == {"insufficient"}
    assert all(test.reason for test in only.tests)


def test_recordings_that_are_erased_meanwhile_are_in_no_window(world: World) -> None:
    world.come(30)
    row = a_baseline(world)
    ids = world.come(20)
    index = world.author.index
    (one,) = closed(index, RULE)
    erase(world.lake, index, ids[:3], uuid.uuid4())
    tested = judge(world.lake, index, one, row, fitted(world.lake, index, row, LEAST), Budget())
    assert tested is not None
    assert set(files_of_window(index, tested.window_id)) == set(ids[3:])


def test_a_new_version_is_compared_on_the_same_recordings_and_is_no_drift(world: World) -> None:
    ids = world.come(30)
    a_baseline(world)
    ids += world.come(20)
    said(world)
    world.change_model("v2")
    world.answer(ids[:10], sure=0.3)
    index = world.author.index
    (change,) = changes(index)
    assert (change.before_version, change.after_version, len(change.after)) == ("v1", "v2", 10)
    assert not change.is_ripe(40)
    world.answer(ids[10:], sure=0.3)
    (change,) = changes(index)
    assert change.is_ripe(40)
    found = compare(world.lake, index, change)
    assert found is not None
    assert (found.change.utterances, found.change.total.agreement, found.change.total.moved) == (100, 1.0, 100)
    assert changes(index) == []
    (newest, *_) = windows(index)
    assert newest.verdict == "model_change"
    assert newest.tests[0].details["labels"][0]["label"] == "call"
    assert closed(index, RULE) == [], "no recording comes again"
    world.come(20, sure=0.3)
    assert said(world) == ["no_drift"]
    tests = {test.descriptor: test.verdict for test in windows(index, limit=1)[0].tests}
    assert tests["confidence:m"] == "no_drift", "the baseline has been answered by the new version, too"


def test_a_version_that_has_not_answered_the_baseline_yet_finds_no_drift_in_its_rate(world: World) -> None:
    ids = world.come(60)
    a_baseline(world)
    said(world)
    world.change_model("v2")
    world.come(60)
    assert "drift" not in said(world), "the baseline has no detections of it because it was not asked"
    tests = {test.descriptor: test for test in windows(world.author.index, limit=1)[0].tests}
    assert "detections_per_minute:m" not in tests
    world.answer(sorted(ids)[:3])
    world.come(20)
    assert said(world) == ["no_drift"]
    (rate,) = [test for test in windows(world.author.index)[0].tests if test.descriptor == "detections_per_minute:m"]
    assert rate.verdict == "insufficient"
    assert rate.reason == "the baseline has 3 rows, and 20 are needed"


def test_versions_that_cut_utterances_otherwise_are_compared_by_recording(world: World) -> None:
    ids = world.come(12)
    world.change_model("v2")
    coverage = [world.author.coverage_row(id_, "m", "v2", predictions=1) for id_ in ids]
    place = {"model": "m", "model_version": "v2", "channel": 0, "utterance": 0, "start_s": 0.0, "end_s": 0.9}
    rows = [place | {"file_id": id_, "label": "call", "confidence": 0.8} for id_ in ids[:6]]
    spans = [place | {"file_id": id_} for id_ in ids]
    world.author.commit("refresh", reference=uuid.uuid4(), coverage=coverage, predictions=rows, descriptors=spans)
    (change,) = changes(world.author.index)
    found = compare(world.lake, world.author.index, change)
    assert found is not None
    assert (found.change.utterances, found.change.total.vanished) == (12, 6)


def test_a_run_is_asked_for_where_there_is_work_and_for_the_same_work_once(lake: Lake, world: World) -> None:
    settings, index = Settings(_env_file=None, DRIFT_BASELINE_MIN=100, DRIFT_WINDOW_UTTERANCES=40), world.author.index
    now = datetime.now(UTC)

    def work(at: datetime = now) -> str:
        index.catch_up()
        return work_for_drift(index, settings, at)

    assert work() == ""
    world.come(49)
    assert work() == ""
    world.come(1)
    assert work() == work() != ""
    first_baseline(lake, index, 100, uuid.uuid4())
    assert work() == ""
    world.come(5)
    came = waiting(index)[0].at
    assert work(came + timedelta(hours=23)) == ""
    assert work(came + timedelta(hours=25)) != "", "a window closes by its age"
    world.come(20)
    assert work(came) != "", "a window closes by its size"


def test_a_held_reference_is_work_once_nothing_of_it_waits(world: World) -> None:
    settings, index = Settings(_env_file=None, DRIFT_BASELINE_MIN=100), world.author.index
    world.come(1, held=True)
    index.catch_up()
    assert work_for_drift(index, settings, datetime.now(UTC)), "there is no baseline that it could wait for"
    world.come(50)
    first_baseline(world.lake, index, 100, uuid.uuid4())
    world.come(1, held=True)
    index.catch_up()
    came: datetime = waiting(index)[0].at
    work = work_for_drift(index, settings, came)
    assert work.count(" ") == 0, "the one that is in the baseline is work, and the other waits"
    assert UUID(work)
