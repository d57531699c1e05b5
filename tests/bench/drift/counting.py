"""Rates of rare alarms, and how sure they are. It must not know what alarmed.

Sources: Garwood 1936 for the limits of a Poisson count; Kish 1965 for the design effect, by which windows that share a
baseline count for less than as many that do not.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

CONFIDENCE: Final = 0.95


def poisson_limits(count: float) -> tuple[float, float]:
    """Return the two-sided limits of the expected count."""
    tail = (1 - CONFIDENCE) / 2
    low = float(chi2.ppf(tail, 2 * count) / 2) if count else 0.0
    return low, float(chi2.ppf(1 - tail, 2 * (count + 1)) / 2)


def design_effect(events: NDArray[np.bool_]) -> float:
    """Return how much more the counts of groups vary than if events were independent, at least 1. Shape (group, event).

    Of events that are rare it cannot be told; give those of a milder threshold, which go together more, not less.
    """
    share = float(np.mean(events))
    expected = events.shape[1] * share * (1 - share)
    return max(1.0, float(np.var(np.sum(events, axis=1), ddof=1)) / expected) if expected else 1.0


def monthly(alarms: int, windows: int, windows_per_month: float, effect: float) -> tuple[float, float, float]:
    """Return alarms a month with their limits.

    Args:
        alarms: That came.
        windows: In which they came.
        windows_per_month: How many there are in a month.
        effect: Of the design, by which both are divided for the limits.
    """
    months = windows / windows_per_month
    low, high = (limit * effect / months for limit in poisson_limits(alarms / effect))
    return alarms / months, low, high
