"""Baselines, what is compared with them, and what is said of it."""

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from models.drift import Baseline, does_data_drift_exist
from models.drift_samples import Sample, at_most, rates_of, samples_of
from models.drift_verdicts import Budget, Verdict, expected_windows, in_order, verdict_of
from models.errors import DriftError

BUDGET = Budget()
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def utterances(seed: int, count: int, *, snr_db: float = 40.0, each: int = 1, version: str = "v1") -> pl.DataFrame:
    """Return descriptors of `count` utterances, `each` of them in a recording, which has a level of its own."""
    chance = np.random.default_rng(seed)
    recordings = np.arange(count) // each
    own = chance.normal(size=recordings[-1] + 1)[recordings]
    return pl.DataFrame(
        {
            "file_id": [f"{seed}-{number}" for number in recordings],
            "model": "moonshine",
            "model_version": version,
            "channel": 0,
            "utterance": np.arange(count) % each,
            "level_dbfs": -20 + 3 * own + (0.1 if each > 1 else 1) * chance.normal(size=count),
            "snr_db": snr_db + 10 * chance.normal(size=count),
            "speaking_rate": [None if number % 7 == 0 else 2.0 + number % 5 for number in range(count)],
            "embedding": [row.astype("<f2").tobytes() for row in chance.normal(size=(count, 8))],
            "format": ["WAV/PCM_16" if number % 3 else "FLAC/PCM_16" for number in recordings],
        }
    )


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    return Baseline.fit("telephone", 3, samples_of(utterances(1, 300)))


def by_descriptor(verdicts: tuple[Verdict, ...]) -> dict[str, Verdict]:
    return {each.descriptor: each for each in verdicts}


def test_a_window_like_the_baseline_is_no_drift(baseline: Baseline) -> None:
    verdicts = baseline.verdicts(samples_of(utterances(2, 100)), BUDGET)
    assert {each.verdict for each in verdicts} == {"no_drift"}
    assert {each.detector for each in verdicts} == {"ks", "mmd", "chi_square"}
    assert baseline.tests == {"descriptors": 3, "embeddings": 1, "categories": 1}


def test_detections_are_not_counted_as_utterances_of_a_baseline() -> None:
    detections = pl.DataFrame({"file_id": ["a"] * 900, "label": "call", "confidence": 0.5})
    samples = [*samples_of(utterances(1, 250)), *samples_of(detections)]
    small = Baseline.fit("telephone", 1, samples)
    assert small.utterances == 250
    assert {each.verdict for each in small.verdicts(samples, BUDGET)} == {"insufficient"}


def test_what_drifted_is_named_first(baseline: Baseline) -> None:
    verdicts = baseline.verdicts(samples_of(utterances(3, 100, snr_db=10)), BUDGET)
    assert (verdicts[0].descriptor, verdicts[0].verdict) == ("snr_db", "drift")
    assert verdicts[0].effect == verdicts[0].statistic
    assert (verdicts[0].p_value or 1) < (verdicts[0].threshold or 0)
    assert verdict_of(verdicts) == "drift"
    assert [each.is_drift for each in verdicts[1:]] == [False] * 4


def test_a_window_that_is_too_small_is_insufficient_and_not_no_drift(baseline: Baseline) -> None:
    verdicts = baseline.verdicts(samples_of(utterances(4, 15, snr_db=-10)), BUDGET)
    assert {each.verdict for each in verdicts} == {"insufficient"}
    assert verdicts[0].reason == "the window has 15 rows, and 20 are needed"
    assert verdict_of(verdicts) == "insufficient"


def test_a_baseline_that_is_too_small_is_insufficient() -> None:
    small = Baseline.fit("small", 1, samples_of(utterances(5, 120)))
    verdicts = small.verdicts(samples_of(utterances(6, 100)), BUDGET)
    assert {each.reason for each in verdicts} == {"the baseline has 120 of 300 utterances"}


def test_a_few_recordings_are_insufficient_however_many_utterances_they_have(baseline: Baseline) -> None:
    verdicts = baseline.verdicts(samples_of(utterances(7, 100, each=25)), BUDGET)
    assert {each.reason for each in verdicts} == {"the window has 4 recordings, and 10 are needed"}


def test_long_recordings_do_not_alarm_by_being_alike_within() -> None:
    whole = Baseline.fit("long", 1, samples_of(utterances(8, 600, each=20).select("file_id", "level_dbfs")))
    for seed in range(9, 14):
        window = utterances(seed, 240, each=20).select("file_id", "level_dbfs")
        assert verdict_of(whole.verdicts(samples_of(window), BUDGET)) == "no_drift"


def test_recordings_of_the_baseline_are_in_no_window(baseline: Baseline) -> None:
    again = utterances(1, 300)
    assert "1-0" in baseline.recordings
    assert {each.verdict for each in baseline.verdicts(samples_of(again), BUDGET)} == {"insufficient"}


def test_answers_of_another_version_are_no_data_drift(baseline: Baseline) -> None:
    window = utterances(14, 100, version="v2").with_columns(pl.col("speaking_rate") * 100)
    verdicts = by_descriptor(baseline.verdicts(samples_of(window), BUDGET))
    assert verdicts["speaking_rate:moonshine"].verdict == "insufficient"
    assert "compared on the same files" in verdicts["embedding:moonshine"].reason
    assert verdicts["snr_db"].verdict == "no_drift"


def test_what_cannot_be_said_any_more_is_drift(baseline: Baseline) -> None:
    window = utterances(15, 100).with_columns(pl.lit(None, pl.Float64).alias("snr_db"))
    assert baseline.verdicts(samples_of(window), BUDGET)[0].descriptor == "snr_db"


def test_embeddings_that_are_all_alike_are_no_drift_until_others_come() -> None:
    def alike(seed: int, count: int, value: float) -> list[Sample]:
        same = pl.lit(np.full(8, value, "<f2").tobytes()).alias("embedding")
        return samples_of(utterances(seed, count).select("file_id", same))

    baseline = Baseline.fit("alike", 1, alike(30, 300, 0))
    assert verdict_of(baseline.verdicts(alike(31, 100, 0), BUDGET)) == "no_drift"
    assert verdict_of(baseline.verdicts(alike(31, 100, 1), BUDGET)) == "drift"


def test_an_embedding_that_is_no_number_is_left_out() -> None:
    frame = utterances(32, 40)
    broken = pl.Series("embedding", [np.full(8, np.nan, "<f2").tobytes(), *frame["embedding"][1:]])
    (embedding,) = samples_of(frame.with_columns(broken).select("file_id", "embedding"))
    assert (len(embedding), embedding.values.shape) == (39, (39, 8))


def test_a_baseline_that_was_saved_says_the_same(baseline: Baseline, tmp_path: Path) -> None:
    baseline.save(tmp_path / "baselines" / "telephone")
    loaded = Baseline.load(tmp_path / "baselines" / "telephone")
    assert (loaded.name, loaded.version, loaded.utterances, loaded.tests) == ("telephone", 3, 300, baseline.tests)
    for window in (utterances(16, 100), utterances(17, 100, snr_db=20)):
        assert loaded.verdicts(samples_of(window), BUDGET) == baseline.verdicts(samples_of(window), BUDGET)
    assert [path.name for path in (tmp_path / "baselines").iterdir()] == ["telephone"]


def test_a_baseline_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    (tmp_path / "baseline.json").write_text('{"format": 1}', encoding="utf-8")
    with pytest.raises(DriftError, match="Choose it anew"):
        Baseline.load(tmp_path)
    (tmp_path / "baseline.json").write_text('{"format": 2}', encoding="utf-8")
    with pytest.raises(DriftError, match="format 2"):
        Baseline.load(tmp_path)


def test_thresholds_spend_a_quarter_of_the_budget_over_all_tests_and_windows() -> None:
    assert Budget(alarms_per_month=2, windows_per_month=100).thresholds({"answers": 10}) == {"answers": 5e-4}
    whole = Budget().thresholds({"descriptors": 8, "embeddings": 1, "categories": 3, "answers": 20})
    assert whole["embeddings"] == pytest.approx(0.125 / 720)
    assert whole["answers"] == pytest.approx(0.25 / 8 / 720 / 20)
    with pytest.raises(DriftError):
        Budget(alarms_per_month=0)


def test_all_thresholds_of_a_window_add_up_to_what_is_spent(baseline: Baseline) -> None:
    verdicts = baseline.verdicts(samples_of(utterances(2, 100)), Budget(windows_per_month=50))
    assert sum(each.threshold or 0.0 for each in verdicts) == pytest.approx(0.25 / 50)


def test_windows_to_expect_are_those_of_the_last_month() -> None:
    closed_at = [NOW - timedelta(hours=0.5 * number) for number in range(3_000)]
    assert expected_windows(closed_at, NOW) == 1_440
    assert expected_windows(closed_at[:10], NOW) == 720


def test_drift_comes_first_and_within_it_causes_before_what_follows_from_them_and_what_moved_most() -> None:
    one = Verdict("ks", "a", 0.5, 1e-9, 1e-5, "drift", 0.5)
    more, vectors = replace(one, descriptor="b", effect=0.9), replace(one, detector="mmd", effect=None)
    answers = replace(one, descriptor="confidence:m", effect=1.0)
    none, unknown = replace(one, verdict="no_drift", effect=1.0), replace(one, verdict="insufficient")
    assert in_order([unknown, none, answers, vectors, one, more]) == (more, one, vectors, answers, none, unknown)


def test_does_data_drift_exist_is_yes_or_no_with_details() -> None:
    existing, new = utterances(18, 300), utterances(19, 100, snr_db=10)
    answer = does_data_drift_exist(existing, new)
    assert answer
    assert answer.rows()[0]["descriptor"] == "snr_db"
    same = does_data_drift_exist(existing, utterances(20, 100))
    assert not same
    assert same.verdict == "no_drift"
    assert does_data_drift_exist(existing[:50], new).verdict == "insufficient"


def test_predictions_are_watched_by_model_and_label() -> None:
    def detections(seed: int, confidence: float) -> pl.DataFrame:
        chance = np.random.default_rng(seed)
        names = [f"{seed}-{number}" for number in range(300)]
        values = np.clip(chance.normal(confidence, 0.05, 300), 0, 1)
        labels = ["call", "is", "recorded"] * 100
        return pl.DataFrame({"file_id": names, "model": "m", "label": labels, "confidence": values})

    answer = does_data_drift_exist(detections(1, 0.9), detections(2, 0.7))
    assert {each.descriptor for each in answer.verdicts} == {
        "confidence:m", "confidence:m:call", "confidence:m:is", "confidence:m:recorded",
    }  # fmt: skip
    assert {each.verdict for each in answer.verdicts} == {"drift"}
    assert not does_data_drift_exist(detections(1, 0.9), detections(3, 0.9))


def test_the_store_s_own_tables_are_understood() -> None:
    frame = utterances(21, 40).drop("file_id").to_arrow()
    ids = [uuid.UUID(int=number << 8).bytes for number in range(40)]  # the last byte is 0
    column = pa.ExtensionArray.from_storage(pa.uuid(), pa.array(ids, pa.binary(16)))
    samples = {each.name: each for each in samples_of(frame.append_column("file_id", column))}
    assert samples["level_dbfs"].recordings[3] == ids[3].hex()
    assert samples["embedding:moonshine"].values.shape == (40, 8)
    assert samples["speaking_rate:moonshine"].model_version == "v1"


def test_an_utterance_that_several_models_were_given_counts_once() -> None:
    frame = utterances(22, 40)
    other = frame.with_columns(model=pl.lit("whisper"), embedding=pl.lit(None, pl.Binary))
    samples = {each.name: len(each) for each in samples_of(pl.concat([frame, other]))}
    assert samples == {
        "level_dbfs": 40, "snr_db": 40, "format": 40, "embedding:moonshine": 40,
        "speaking_rate:moonshine": 40, "speaking_rate:whisper": 40,
    }  # fmt: skip


def test_detections_a_minute_count_recordings_without_any() -> None:
    predictions = pl.DataFrame({"file_id": ["a", "a", "a"], "model": ["m", "m", "other"]})
    (rates,) = rates_of(predictions, pl.DataFrame({"file_id": ["a", "b"], "duration_s": [30.0, 60.0]}), {"m": "v1"})
    assert (rates.name, rates.values.tolist()) == ("detections_per_minute:m", [4.0, 0.0])


def test_vectors_are_thinned_by_whole_recordings() -> None:
    sample = Sample("embedding", "vectors", np.repeat([f"r{n}" for n in range(50)], 7), np.zeros((350, 2), np.float32))
    thinned = at_most(sample, 100)
    assert 90 < len(thinned) <= 100
    assert set(np.unique(thinned.recordings, return_counts=True)[1]) == {7}


def test_a_table_without_recordings_is_refused() -> None:
    with pytest.raises(DriftError, match="add file_id"):
        samples_of(pl.DataFrame({"snr_db": [1.0]}))
    with pytest.raises(DriftError, match="drift is looked for in"):
        samples_of(pl.DataFrame({"file_id": ["a"], "colour": [1.0]}))
