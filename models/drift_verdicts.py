"""Verdicts, and the budget of false alarms that their thresholds follow from. It must not know what is compared.

The budget. A window of new utterances is compared with the baseline by one test for each descriptor, embedding,
category, and each model's confidences and detections. Where nothing drifted, a test alarms by chance with the
probability of its threshold, whatever the others do, and chances add up at most (Bonferroni 1936). So with W windows
a month, those with a false alarm are at most W times the sum of all thresholds. Tests have parts of the budget that are
chosen beforehand (weighted Bonferroni: Rosenthal and Rubin 1983), by SHARES of their families and equal within one:

    threshold = SPENT * budget * share of the family / (W * tests of the family)

where the shares of the families that a baseline has are made to add up to 1. The one embedding has half, because it
alone hears what no descriptor says; and the phrases that somebody looks for may be many, and must not take from the
others.

Windows never overlap and each is tested once, so nothing else is tested. W is the number of windows of the last thirty
days, and WINDOWS_PER_MONTH where there were fewer (`expected_windows`): with more traffic thresholds are stricter.
A quarter of the budget is SPENT: p-values come of a fitted tail, which may be wrong by a factor of two or three, and a
budget is kept where even the upper limit of what a replay shows lies within it. By default, with one alarm a month
and 720 windows, an embedding has a threshold of 1.7e-4, each of eight descriptors one of 1.1e-5, and each of twenty
phrases one of 2.2e-6; models/drift_null.py says how p-values as small as that are had.

Recordings are what is sampled independently, not utterances: windows are made of whole recordings
(models/drift_windows.py), p-values come of dividing recordings anew, and a few recordings are no window.

A model's own answers (its embeddings, confidences, detections, what its texts give) are compared between answers of
one version only; across versions there is models/model_change.py.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal, TypeAlias

from models.drift_samples import CONFIDENCE, RATE, Family
from models.errors import DriftError

Outcome: TypeAlias = Literal["drift", "no_drift", "insufficient"]

SPENT: Final = 0.25  # of the budget
SHARES: Final[dict[Family, float]] = {"embeddings": 0.5, "descriptors": 0.25, "categories": 0.125, "answers": 0.125}
WINDOWS_PER_MONTH: Final = 720.0  # one an hour
MONTH: Final = timedelta(days=30)
ORDER: Final = ("drift", "model_change", "no_drift", "insufficient")


@dataclass(frozen=True, slots=True)
class Budget:
    """How many false alarms a month are allowed, over all tests of all windows."""

    alarms_per_month: float = 1.0
    windows_per_month: float = WINDOWS_PER_MONTH

    def __post_init__(self) -> None:
        if self.alarms_per_month <= 0 or self.windows_per_month <= 0:
            raise DriftError(f"{self}: both must be above 0")

    def thresholds(self, tests: Mapping[Family, int]) -> dict[Family, float]:
        """Return the p-value below which a test of each family says drift.

        Args:
            tests: How many a window has, of the families that it has.
        """
        whole = sum(SHARES[family] for family in tests)
        of_window = SPENT * self.alarms_per_month / self.windows_per_month
        return {family: min(1.0, of_window * SHARES[family] / whole / count) for family, count in tests.items()}


def expected_windows(closed_at: Iterable[datetime], now: datetime, least: float = WINDOWS_PER_MONTH) -> float:
    """Return how many windows to expect in a month: as many as in the last one, at least `least`."""
    return max(least, sum(now - MONTH < at <= now for at in closed_at))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one test says of a window."""

    detector: str  # ks | mmd | chi_square | model_change
    descriptor: str  # the name of its sample
    statistic: float | None  # a KS distance (0 to 1), MMD², chi-square; of a model change Cohen's kappa
    p_value: float | None  # None: not tested
    threshold: float | None  # of the p-value
    verdict: Outcome | Literal["model_change"]
    effect: float | None = None  # largest difference of probability, 0 to 1; MMD has none
    reason: str = ""  # why insufficient

    @property
    def is_drift(self) -> bool:
        """Whether the test says drift."""
        return self.verdict == "drift"


def in_order(verdicts: Iterable[Verdict]) -> tuple[Verdict, ...]:
    """Return verdicts in the order in which they are named: drift first, then causes before what follows from them.

    What came in, by descriptors and categories, comes before what models say of it; among each, what moved most, by its
    effect, is first. The embedding, which has no effect and cannot be understood by itself, stands in between: it is
    named first where nothing that came in is known to have drifted.
    """

    def key(each: Verdict) -> tuple[int, int, float, float]:
        return ORDER.index(each.verdict), _remoteness(each), -(each.effect or 0.0), each.p_value or 0.0

    return tuple(sorted(verdicts, key=key))


def _remoteness(verdict: Verdict) -> int:
    """Return how far from the audio it is what a verdict is about."""
    if verdict.detector == "mmd":
        return 1
    return 2 if verdict.descriptor.startswith((CONFIDENCE, RATE)) else 0


def verdict_of(verdicts: Iterable[Verdict]) -> Outcome:
    """Return what the tests of a window say together: drift where one does, insufficient where all are."""
    found = {each.verdict for each in verdicts}
    if "drift" in found:
        return "drift"
    return "no_drift" if "no_drift" in found else "insufficient"
