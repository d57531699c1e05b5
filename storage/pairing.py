"""Pairs the detections of two answers, so that what moved or got surer is not one gone and one added.

Two detections of one recording, model, channel and label are a pair where their starts are at most NEAR_S apart; the
nearest ones are paired first, and of equally near ones those with the likest confidence. It does not matter which
answer is called the first.
"""

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

NEAR_S: Final = 0.5
"""About the length of a word, and less than the pause between two."""

SAME_S: Final = 0.001
SAME_CONFIDENCE: Final = 0.0001
"""What differs by no more is the same: what clients are shown is rounded to it, and processors differ by less."""


@dataclass(frozen=True, slots=True, order=True)
class Detection:
    """Where something was detected, in seconds from the start of the recording, and how sure that is, from 0 to 1."""

    start_s: float
    end_s: float
    confidence: float

    def is_same(self, other: "Detection") -> bool:
        """Say whether nobody would see a difference."""
        return (
            abs(self.start_s - other.start_s) <= SAME_S
            and abs(self.end_s - other.end_s) <= SAME_S
            and abs(self.confidence - other.confidence) <= SAME_CONFIDENCE
        )


def pairs(
    a: Sequence[Detection], b: Sequence[Detection]
) -> list[tuple[Detection, None] | tuple[None, Detection] | tuple[Detection, Detection]]:
    """Pair detections of one recording, model, channel and label; what has no partner comes with None."""
    a, b = sorted(a), sorted(b)
    free_a, free_b = set(range(len(a))), set(range(len(b)))
    paired: list[tuple[Detection, None] | tuple[None, Detection] | tuple[Detection, Detection]] = []
    for _, at_a, at_b in sorted(_candidates(a, b)):
        if at_a in free_a and at_b in free_b:
            free_a.remove(at_a)
            free_b.remove(at_b)
            paired.append((a[at_a], b[at_b]))
    paired += [(a[at], None) for at in sorted(free_a)]
    paired += [(None, b[at]) for at in sorted(free_b)]
    return paired


def _candidates(a: Sequence[Detection], b: Sequence[Detection]) -> Iterator[tuple[tuple[object, ...], int, int]]:
    """Yield what may be paired, in an order that does not tell the two sides apart until nothing else does."""
    starts = [detection.start_s for detection in b]
    for at_a, one in enumerate(a):
        first = bisect.bisect_left(starts, one.start_s - NEAR_S)
        for at_b in range(first, bisect.bisect_right(starts, one.start_s + NEAR_S)):
            other = b[at_b]
            distances = (
                abs(one.start_s - other.start_s),
                abs(one.confidence - other.confidence),
                abs(one.end_s - other.end_s),
            )
            yield (*distances, min(one, other), max(one, other)), at_a, at_b
