"""How likely a difference is where nothing drifted: whole recordings change sides, again and again.

Utterances of one recording resemble each other, so a test that takes them for independent sees drift in a window of a
few long recordings. Here recordings change sides, with all their utterances: under no drift each division of the
recordings into baseline and window is as likely as the one that came, whatever is alike within a recording, and the
share of the divisions that differ as much is a p-value (a permutation test over clusters; Romano and Lehmann 2005,
Testing Statistical Hypotheses, 15.2).

A budget of one alarm a month asks for p-values near 1e-5, and counting would need a million divisions. So the first few
are counted; only where they look suspicious come more, and their tail is fitted by a generalised Pareto distribution
(Knijnenburg et al. 2009, Fewer permutations, more accurate P-values) by probability-weighted moments (Hosking and
Wallis 1987). What is compared are squares (of a Kolmogorov-Smirnov distance; MMD² and chi-square are squares as they
are), whose tails fall exponentially in theory: shape 0. So a tail that is shorter than that is never believed, and one
that is longer as far as it is by more than the standard error of its shape.

It must not know what is compared.
"""

from collections.abc import Callable
from functools import lru_cache
from math import lgamma
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Scores: TypeAlias = Callable[[NDArray[np.bool_]], NDArray[np.float64]]
"""From divisions, shape (division, row), true where a row is of the window, to how much the sides differ."""

FIRST: Final = 200  # divisions; where many of them differ as much, no more are needed
MORE: Final = 4_000
SUSPICIOUS: Final = 0.02
COUNTED: Final = 10  # divisions that differ as much: from here on counting is as good as a fit (Knijnenburg)
TAIL: Final = 500  # divisions that a tail is fitted to: Knijnenburg has 250 of any statistic, these fall as in theory
SHAPE_ERROR: Final = 1 / TAIL**0.5  # standard error of a shape near 0 (Hosking and Wallis)
AT_ONCE: Final = 2_000_000  # rows of divisions in memory
LONGEST: Final = 0.9  # shape: at 1 there is no mean
LEAST_P: Final = 1e-300
TIED: Final = 1e-6


def p_value(scores: Scores, recordings: NDArray[np.str_], is_current: NDArray[np.bool_]) -> float:
    """Return how likely a difference like that between window and baseline is if recordings changed sides.

    Chance is the same every time, so the same data have the same p-value.

    Args:
        scores: How much the two sides of a division differ.
        recordings: Of each row. Shape (row,).
        is_current: Whether it is of the window; one recording's rows are all on one side. Shape (row,).
    """
    _, first, of_row = np.unique(recordings, return_index=True, return_inverse=True)
    sides = is_current[first]
    observed = float(scores(is_current[None])[0])
    observed -= TIED * abs(observed) + TIED**2  # what is as much is no less for its rounding
    found = _divided(scores, _divisions(sides.tobytes(), FIRST), of_row)
    if np.mean(found >= observed) <= SUSPICIOUS:
        found = np.concatenate([found, _divided(scores, _divisions(sides.tobytes(), MORE), of_row)])
    return max(tail_probability(observed, found), _least(len(sides), int(np.sum(sides))))


def tail_probability(observed: float, found: NDArray[np.float64]) -> float:
    """Return the probability of `observed` or more, counted where that is common enough, else from the fitted tail.

    Args:
        observed: What came.
        found: What comes where nothing drifted. Shape (division,).
    """
    as_much = int(np.sum(found >= observed))
    counted = (as_much + 1) / (len(found) + 1)
    if as_much >= COUNTED or len(found) <= TAIL:
        return counted
    top = np.sort(found)[-TAIL - 1 :]
    threshold = (top[0] + top[1]) / 2
    shape, scale = fitted_tail(top[1:] - threshold)
    if scale <= 0 or observed <= threshold:
        return counted
    beyond = (observed - threshold) / scale
    log_p = -beyond if shape == 0 else -np.log1p(shape * beyond) / shape
    return max(LEAST_P, float(TAIL / len(found) * np.exp(log_p)))


def fitted_tail(exceedances: NDArray[np.float64]) -> tuple[float, float]:
    """Return shape, never negative, and scale of the generalised Pareto distribution that fits exceedances in order.

    Whatever the shape, the distribution has the mean of the exceedances.
    """
    count = len(exceedances)
    mean = float(np.mean(exceedances))
    weighted = float(np.mean(exceedances * np.arange(count - 1, -1, -1) / (count - 1)))
    apart = mean - 2 * weighted  # 0 or below: no tail is as long
    shape = min(LONGEST, 2 - mean / apart) if apart > 0 else LONGEST if mean > 0 else 0.0
    shape = max(0.0, shape - SHAPE_ERROR)
    return shape, mean * (1 - shape)


def _divided(scores: Scores, divisions: NDArray[np.bool_], of_row: NDArray[np.intp]) -> NDArray[np.float64]:
    at_once = max(1, AT_ONCE // len(of_row))
    parts = range(0, len(divisions), at_once)
    return np.concatenate([scores(divisions[start : start + at_once][:, of_row]) for start in parts])


@lru_cache(maxsize=4)
def _divisions(sides: bytes, count: int) -> NDArray[np.bool_]:
    """Return recordings divided anew, as many to each side as before. Shape (division, recording).

    Every sample of a window that has the same recordings has the same divisions: they are made once.
    """
    as_they_came = np.frombuffer(sides, np.bool_)
    return np.random.default_rng(count).permuted(np.tile(as_they_came, (count, 1)), axis=1)


def _least(recordings: int, current: int) -> float:
    """Return the probability of one division: no p-value is smaller."""
    log_divisions = lgamma(recordings + 1) - lgamma(current + 1) - lgamma(recordings - current + 1)
    return max(LEAST_P, float(np.exp(-log_divisions)))
