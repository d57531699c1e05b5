"""What the figures mean: which detections are right, and what follows. It must not know how they came about.

A detection is right when it starts within TOLERANCE_S of an occurrence of its label that no other one has; where it is
not known when the occurrence was said, the label alone has to be right.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from models.numbers import DIGITS
from models.phrases import Word, find_phrase, words_of
from models.protocol import Detection
from tests.eval.samples import Spoken

TOLERANCE_S: Final = 0.5
FOUND: Final = 0.4
"""The confidence that counts as found: F1 is highest at half of itself, of calibrated ones (arXiv:1402.1892)."""
BINS: Final = 10
_WORD_OF_DIGIT: Final = {str(digit): word for digit, word in enumerate(DIGITS)}


@dataclass(frozen=True, slots=True)
class Found:
    """A detection, judged."""

    start_s: float
    end_s: float
    confidence: float
    right: bool
    error_s: float | None  # its start less the true one


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of one label in one sample. `found` falls in confidence: what a threshold shows is its beginning."""

    label: str
    spoken: int  # occurrences
    found: tuple[Found, ...]

    def shown(self, threshold: float) -> tuple[Found, ...]:
        """Return what has a confidence of `threshold` or more."""
        return tuple(each for each in self.found if each.confidence >= threshold)


@dataclass(frozen=True, slots=True)
class Counts:
    """How often it was right, wrong and missed."""

    right: int
    wrong: int
    missed: int

    @property
    def precision(self) -> float:
        return _ratio(self.right, self.right + self.wrong)

    @property
    def recall(self) -> float:
        return _ratio(self.right, self.right + self.missed)

    @property
    def f1(self) -> float:
        return _ratio(2 * self.right, 2 * self.right + self.wrong + self.missed)


@dataclass(frozen=True, slots=True)
class Point:
    """What a threshold costs: false alarms an hour against the share of occurrences that are missed."""

    threshold: float
    false_per_hour: float
    miss_rate: float


@dataclass(frozen=True, slots=True)
class Bin:
    """The detections of about one confidence."""

    count: int
    confidence: float  # mean
    right: float  # share


def judge(
    words: Sequence[Spoken], detections: Sequence[Detection], label: str, tolerance_s: float = TOLERANCE_S
) -> Judged:
    """Judge the detections of one label in one sample.

    As many are right as can be, and of those the more confident ones: a lower threshold never makes wrong what was
    right at a higher one.
    """
    truths = occurrences(words, label)
    found = sorted((d for d in detections if d.label == label), key=lambda d: (-d.confidence, d.start_s))
    owners: dict[int, int] = {}  # detection of each occurrence

    def places(detection: int, tried: set[int]) -> bool:
        for truth in _near(found[detection].start_s, truths, tolerance_s):
            if truth not in tried:
                tried.add(truth)
                if truth not in owners or places(owners[truth], tried):
                    owners[truth] = detection
                    return True
        return False

    right = {number for number in range(len(found)) if places(number, set())}
    # As words follow one another, so do detections: which of two near occurrences one took does not matter. But beside
    # an occurrence of unknown time it would.
    in_order = sorted(right if None not in truths else (), key=lambda number: found[number].start_s)
    known = sorted(start_s for truth in owners if (start_s := truths[truth]) is not None)
    error_of = {number: found[number].start_s - start_s for number, start_s in zip(in_order, known, strict=False)}
    return Judged(
        label,
        len(truths),
        tuple(
            Found(d.start_s, d.end_s, d.confidence, number in right, error_of.get(number))
            for number, d in enumerate(found)
        ),
    )


def occurrences(words: Sequence[Spoken], label: str) -> list[float | None]:
    """Return when `label` starts, each time that it is said; a digit is the same as its word."""
    spelled = [Word(canonical(word.text), 0, 0) for word in words]
    phrase = " ".join(canonical(word.text) for word in words_of(label))
    return [words[first].start_s for first, _ in find_phrase(phrase, spelled)]


def canonical(word: str) -> str:
    """Return the one way in which a word is counted: "5" is "five"."""
    return _WORD_OF_DIGIT.get(word, word)


def count(judged: Iterable[Judged], threshold: float) -> Counts:
    """Count occurrences."""
    counts = [_counted(each.spoken, each.shown(threshold)) for each in judged]
    return Counts(sum(c.right for c in counts), sum(c.wrong for c in counts), sum(c.missed for c in counts))


def count_samples(judged: Iterable[Judged], threshold: float) -> Counts:
    """Count samples: each once a label, whenever it is said and however often."""
    said_and_shown = [(each.spoken > 0, bool(each.shown(threshold))) for each in judged]
    return Counts(
        right=said_and_shown.count((True, True)),
        wrong=said_and_shown.count((False, True)),
        missed=said_and_shown.count((True, False)),
    )


def best_threshold(judged: Sequence[Judged], counted: Callable[[Iterable[Judged], float], Counts] = count) -> float:
    """Return the threshold with the highest F1, of 0.05, 0.10 … 0.95."""
    return max((step / 20 for step in range(1, 20)), key=lambda threshold: counted(judged, threshold).f1)


def trade_off(judged: Sequence[Judged], audio_s: float) -> list[Point]:
    """Return what each threshold costs, from the highest down: a detection error trade-off over `audio_s` of audio."""
    spoken = sum(each.spoken for each in judged)
    found = sorted((f for each in judged for f in each.found), key=lambda f: -f.confidence)
    points, right, wrong = [Point(1.0, 0.0, 1.0)], 0, 0
    for number, each in enumerate(found):
        right, wrong = right + each.right, wrong + (not each.right)
        if number + 1 == len(found) or found[number + 1].confidence < each.confidence:
            points.append(Point(each.confidence, wrong / audio_s * 3600, 1 - _ratio(right, spoken)))
    return points


def miss_rate_at(points: Iterable[Point], false_per_hour: float) -> float:
    """Return the lowest miss rate that costs no more than `false_per_hour`."""
    return min(point.miss_rate for point in points if point.false_per_hour <= false_per_hour)


def reliability(found: Iterable[Found], lowest: float = 0.0) -> list[Bin]:
    """Return the bins of a reliability diagram (Guo et al. 2017, arXiv:1706.04599), of equal width, less empty ones.

    Args:
        found: Detections, judged.
        lowest: Less confident ones are left out.
    """
    bins: list[list[Found]] = [[] for _ in range(BINS)]
    for each in found:
        if each.confidence >= lowest:
            bins[min(math.floor(each.confidence * BINS + 1e-9), BINS - 1)].append(each)
    return [
        Bin(len(of), sum(f.confidence for f in of) / len(of), sum(f.right for f in of) / len(of)) for of in bins if of
    ]


def calibration_error(bins: Sequence[Bin]) -> float:
    """Return the expected calibration error: the mean distance of confidence from the share that is right."""
    total = sum(each.count for each in bins)
    return _ratio(sum(each.count * abs(each.confidence - each.right) for each in bins), total)


def calibration_error_by_chance(bins: Sequence[Bin]) -> float:
    """Return the error that detections with a perfect confidence would show, there being so few of them.

    The mean distance of a binomial share from its mean, sqrt(2 / pi) of its standard deviation.
    """
    total = sum(each.count for each in bins)
    spread = sum(math.sqrt(2 / math.pi * each.count * each.confidence * (1 - each.confidence)) for each in bins)
    return _ratio(spread, total)


def start_errors_s(judged: Iterable[Judged], threshold: float) -> list[float]:
    """Return the errors of the starts, signed, of what is shown and right."""
    return [f.error_s for each in judged for f in each.shown(threshold) if f.error_s is not None]


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that `share` of all do not exceed; 0.5 is the median."""
    if not values:
        return math.nan
    return median(values) if share == 0.5 else sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def _near(start_s: float, truths: Sequence[float | None], tolerance_s: float) -> list[int]:
    distances = {number: abs(start_s - truth) if truth is not None else 0.0 for number, truth in enumerate(truths)}
    # Times are kept to a thousandth of a second.
    return sorted((n for n, d in distances.items() if d <= tolerance_s + 1e-6), key=lambda n: distances[n])


def _counted(spoken: int, shown: Sequence[Found]) -> Counts:
    right = sum(each.right for each in shown)
    return Counts(right, len(shown) - right, spoken - right)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
