"""The metrics of `make eval`, on cases whose figures can be counted by hand."""

import math
import random

import pytest

from models.phrases import words_of
from models.protocol import Detection
from tests import asterisk
from tests.eval import metrics
from tests.eval.metrics import Bin, Counts, Found, Judged, judge
from tests.eval.samples import Spoken


def spoken(*starts_s: float | None, text: str = "call") -> list[Spoken]:
    return [Spoken(text, start, None if start is None else start + 0.3) for start in starts_s]


def found(*starts_and_confidences: tuple[float, float], label: str = "call") -> list[Detection]:
    return [Detection(label, start, start + 0.3, confidence) for start, confidence in starts_and_confidences]


def right_ones(judged: Judged) -> list[float]:
    return sorted(each.start_s for each in judged.found if each.right)


def test_a_detection_within_half_a_second_is_right() -> None:
    judged = judge(spoken(1.0, 5.0), found((1.5, 0.9), (5.501, 0.9)), "call")
    assert right_ones(judged) == [1.5]
    assert metrics.count([judged], 0.5) == Counts(right=1, wrong=1, missed=1)


def test_an_occurrence_is_found_once() -> None:
    judged = judge(spoken(1.0), found((0.9, 0.6), (1.1, 0.8)), "call")
    assert right_ones(judged) == [1.1], "the more confident one takes it"


def test_as_many_are_right_as_can_be() -> None:
    # The confident one is nearer to the occurrence that the other one needs.
    judged = judge(spoken(0.0, 0.4), found((0.25, 0.9), (0.7, 0.5)), "call")
    assert right_ones(judged) == [0.25, 0.7]
    assert [each.error_s for each in judged.found] == [pytest.approx(0.25), pytest.approx(0.3)]


def test_a_lower_threshold_never_makes_wrong_what_was_right() -> None:
    chance = random.Random(4)
    for _ in range(200):
        words = spoken(*sorted(chance.uniform(0, 3) for _ in range(5)))
        detections = found(*((chance.uniform(0, 3), chance.random()) for _ in range(6)))
        all_of_them = judge(words, detections, "call")
        for threshold in (0.3, 0.6, 0.9):
            shown = judge(words, [d for d in detections if d.confidence >= threshold], "call")
            assert [f.right for f in shown.found] == [f.right for f in all_of_them.shown(threshold)]


def test_without_times_the_label_alone_counts() -> None:
    judged = judge(spoken(None, None), found((7.0, 0.9), (8.0, 0.8), (9.0, 0.7)), "call")
    assert metrics.count([judged], 0.0) == Counts(right=2, wrong=1, missed=0)
    assert metrics.start_errors_s([judged], 0.0) == []


def test_beside_a_word_of_unknown_time_no_error_is_told() -> None:
    judged = judge(spoken(1.0, None), found((2.2, 0.9)), "call", tolerance_s=2.0)
    assert metrics.count([judged], 0.0) == Counts(right=1, wrong=0, missed=1)
    assert metrics.start_errors_s([judged], 0.0) == []


def test_other_labels_are_left_alone() -> None:
    assert judge(spoken(1.0), found((1.0, 0.9), label="press"), "call") == Judged("call", 1, ())


def test_phrases_of_several_words_and_digits_are_found_in_what_is_said() -> None:
    words = [Spoken("press", 1.0, 1.2), Spoken("5", 1.3, 1.5), Spoken("press", 2.0, 2.2)]
    assert metrics.occurrences(words, "press five") == [1.0]
    assert metrics.occurrences(words, "5") == metrics.occurrences(words, "five") == [1.3]
    assert metrics.occurrences(words, "press") == [1.0, 2.0]


def test_counts_give_precision_recall_and_f1() -> None:
    counts = Counts(right=6, wrong=2, missed=4)
    assert (counts.precision, counts.recall) == (0.75, 0.6)
    assert counts.f1 == pytest.approx(2 * 0.75 * 0.6 / (0.75 + 0.6))
    assert math.isnan(Counts(0, 0, 0).precision)


def test_a_sample_counts_once_a_label_whenever_it_is_said() -> None:
    judged = [
        judge(spoken(1.0, 2.0), found((9.0, 0.9)), "call"),
        judge(spoken(), found((1.0, 0.9), (2.0, 0.9)), "call"),
        judge(spoken(1.0), found((1.0, 0.4)), "call"),
    ]
    assert metrics.count_samples(judged, 0.5) == Counts(right=1, wrong=1, missed=1)
    assert metrics.count(judged, 0.5) == Counts(right=0, wrong=3, missed=3)


def test_the_f1_of_samples_is_that_of_the_first_issue() -> None:
    texts = asterisk.prompts()
    said = {name: asterisk.words(text) & set(asterisk.PHRASES) for name, text in texts.items()}
    heard = {name: phrases - {"call"} | {"pound"} for name, phrases in said.items()}
    judged = [
        judge(
            [Spoken(word.text, None, None) for word in words_of(text)],
            [Detection(phrase, 0.0, 0.1, 0.95) for phrase in heard[name]],
            label,
        )
        for name, text in texts.items()
        for label in asterisk.PHRASES
    ]
    assert metrics.count_samples(judged, 0.9).f1 == pytest.approx(asterisk.micro_f1(heard))


def test_the_miss_rate_is_the_lowest_within_the_false_alarms() -> None:
    # Two occurrences in half an hour: a false alarm is two an hour.
    judged = [judge(spoken(1.0, 5.0), found((1.0, 0.9), (9.0, 0.7), (5.0, 0.5)), "call")]
    points = metrics.trade_off(judged, audio_s=1800)
    assert [(p.threshold, p.false_per_hour, p.miss_rate) for p in points] == [
        (1.0, 0.0, 1.0),
        (0.9, 0.0, 0.5),
        (0.7, 2.0, 0.5),
        (0.5, 2.0, 0.0),
    ]
    assert metrics.miss_rate_at(points, 1.0) == 0.5
    assert metrics.miss_rate_at(points, 2.0) == 0.0


def test_equal_confidences_are_shown_together() -> None:
    judged = [judge(spoken(1.0), found((1.0, 0.9), (9.0, 0.9)), "call")]
    assert metrics.miss_rate_at(metrics.trade_off(judged, audio_s=3600), 0.5) == 1.0


def test_the_calibration_error_weighs_bins_by_what_is_in_them() -> None:
    def some(confidence: float, right: int, wrong: int) -> list[Found]:
        return [Found(0, 0, confidence, number < right, None) for number in range(right + wrong)]

    detections = some(0.95, right=8, wrong=2) + some(0.25, right=1, wrong=3) + some(0.05, right=6, wrong=0)
    bins = metrics.reliability(detections)
    assert [(b.count, round(b.confidence, 6), b.right) for b in bins] == [
        (6, 0.05, 1.0),
        (4, 0.25, 0.25),
        (10, 0.95, 0.8),
    ]
    assert metrics.calibration_error(bins) == pytest.approx((6 * 0.95 + 10 * 0.15) / 20)
    assert metrics.calibration_error(metrics.reliability(detections, lowest=0.1)) == pytest.approx(1.5 / 14)


def test_confidences_on_the_edge_of_a_bin_belong_above_it() -> None:
    bins = metrics.reliability([Found(0, 0, confidence, True, None) for confidence in (0.3, 0.39, 1.0, 0.7)])
    assert [b.count for b in bins] == [2, 1, 1]


def test_a_perfect_confidence_shows_the_error_of_chance() -> None:
    chance = random.Random(4)
    errors = []
    for _ in range(300):
        right = sum(chance.random() < 0.8 for _ in range(50))
        errors.append(metrics.calibration_error([Bin(50, 0.8, right / 50)]))
    assert metrics.calibration_error_by_chance([Bin(50, 0.8, 1.0)]) == pytest.approx(sum(errors) / 300, rel=0.15)


def test_percentiles() -> None:
    assert metrics.percentile([4, 1, 3, 2], 0.5) == 2.5
    assert metrics.percentile(list(range(1, 101)), 0.95) == 95
    assert math.isnan(metrics.percentile([], 0.5))
