"""Replays without drift: how often there is an alarm all the same. It must not know how alarms are made."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.drift import Baseline
from models.drift_detectors import Detector, Difference
from models.drift_verdicts import SPENT, Budget, Verdict, verdict_of
from tests.bench.drift import counting
from tests.bench.drift.trials import BASELINE, Pool, rest, windows
from tests.bench.measures import Figures, say
from tests.eval.samples import random_of

PLAIN_P: Final = 0.05
MILD: Final = 100.0  # times the threshold: often enough passed for a design effect


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """What each window came to. Shapes (baseline, window); `p_values` by descriptor, NaN where it was not tested."""

    alarms: NDArray[np.bool_]
    insufficient: NDArray[np.bool_]
    plain: NDArray[np.bool_]  # KSDrift over all descriptors at PLAIN_P, with its own correction
    uncorrected: NDArray[np.bool_]  # any of its p-values below PLAIN_P
    least_ratio: NDArray[np.float64]  # the smallest p-value over its threshold
    p_values: dict[str, NDArray[np.float64]]
    named: tuple[str, ...]  # what was named first, of each alarm


def replay(pool: Pool, baselines: int, each: int, label: str) -> Replay:
    """Test windows of recordings that a baseline does not have, all drawn from one pool."""
    found: list[list[tuple[Verdict, ...]]] = []
    plain: list[list[list[float | None]]] = []
    for seed in range(baselines):
        chance = random_of(f"drift {label} {seed}")
        chosen = pool.drawn(chance, pool.names, BASELINE)
        baseline = _noting(Baseline.fit("null", seed, pool.of_recordings(chosen)))
        found.append([])
        plain.append([])
        for names in windows(pool, rest(pool, chosen), chance, each):
            found[-1].append(baseline.verdicts(pool.of_recordings(names), Budget()))
            plain[-1].append(_plain(baseline))
        if (seed + 1) % max(1, baselines // 10) == 0:
            alarms = sum(verdict_of(one) == "drift" for row in found for one in row)
            say(f"  {label}: {(seed + 1) * each} windows, {alarms} alarms")
    return _replay(found, np.array(plain, dtype=np.float64))


def figures(null: Replay, prefix: str = "null") -> Figures:
    """Return the figures of the replay."""
    windows_per_month = Budget().windows_per_month
    effect = counting.design_effect(null.least_ratio < MILD)
    rate, low, high = counting.monthly(int(null.alarms.sum()), null.alarms.size, windows_per_month, effect)
    return {
        f"{prefix}_windows": int(null.alarms.size - null.insufficient.sum()),
        f"{prefix}_baselines": len(null.alarms),
        f"{prefix}_insufficient": int(null.insufficient.sum()),
        f"{prefix}_untested": {  # of all windows, those that had too little for one test
            name: int(np.isnan(of).sum()) for name, of in null.p_values.items() if np.isnan(of).any()
        },
        f"{prefix}_alarms": int(null.alarms.sum()),
        f"{prefix}_alarms_per_month": round(rate, 4),
        f"{prefix}_alarms_per_month_low": round(low, 4),
        f"{prefix}_alarms_per_month_high": round(high, 4),
        f"{prefix}_windows_per_month": windows_per_month,
        f"{prefix}_design_effect": round(effect, 3),
        f"{prefix}_alarms_at_10_times_the_threshold": int(np.sum(null.least_ratio < 10)),
        f"{prefix}_expected_at_10_times_the_threshold": round(10 * SPENT * null.alarms.size / windows_per_month, 1),
        f"{prefix}_named": list(null.named),
    }


class Noting:
    """A detector, and what alibi-detect's own p-value was when it was asked last."""

    def __init__(self, inner: Detector) -> None:
        self.name, self._inner = inner.name, inner
        self.plain_p_value: float | None = None

    def compare(self, current: NDArray[Any]) -> Difference:
        found = self._inner.compare(current)
        self.plain_p_value = found.plain_p_value
        return found

    def save(self, folder: Path) -> None:
        self._inner.save(folder)


def _noting(baseline: Baseline) -> Baseline:
    return replace(
        baseline, references=tuple(replace(each, detector=Noting(each.detector)) for each in baseline.references)
    )


def _plain(baseline: Baseline) -> list[float | None]:
    """Return alibi-detect's own p-values of the descriptors in the last window."""
    return [
        each.detector.plain_p_value
        for each in baseline.references
        if isinstance(each.detector, Noting) and each.detector.name == "ks" and each.family == "descriptors"
    ]


def _replay(found: list[list[tuple[Verdict, ...]]], plain: NDArray[np.float64]) -> Replay:
    names = {each.descriptor for row in found for one in row for each in one}
    p_values = {name: np.full(plain.shape[:2], np.nan) for name in sorted(names)}
    ratios = np.full(plain.shape[:2], np.inf)
    for at in np.ndindex(*plain.shape[:2]):
        for each in found[at[0]][at[1]]:
            if each.p_value is not None and each.threshold is not None:
                p_values[each.descriptor][at] = each.p_value
                ratios[at] = min(ratios[at], each.p_value / each.threshold)
    outcomes = np.array([[verdict_of(one) for one in row] for row in found])
    return Replay(
        outcomes == "drift",
        outcomes == "insufficient",
        np.any(plain < PLAIN_P / plain.shape[2], axis=2),
        np.any(plain < PLAIN_P, axis=2),
        ratios,
        p_values,
        tuple(one[0].descriptor for row in found for one in row if one[0].is_drift),
    )
