"""How likely a difference is where recordings could have changed sides."""

import numpy as np
import pytest
from numpy.typing import NDArray

from models.drift_null import fitted_tail, p_value, tail_probability


def means_apart(values: NDArray[np.float64], divisions: NDArray[np.bool_]) -> NDArray[np.float64]:
    counts = divisions.sum(axis=1)
    return np.asarray(((divisions @ values) / counts - (~divisions @ values) / (len(values) - counts)) ** 2)


def p_of(values: NDArray[np.float64], recordings: NDArray[np.str_], current: int) -> float:
    is_current = np.arange(len(values)) >= len(values) - current
    return p_value(lambda divisions: means_apart(values, divisions), recordings, is_current)


def each_its_own(count: int) -> NDArray[np.str_]:
    return np.array([f"r{number}" for number in range(count)])


def test_a_difference_that_is_there_has_a_p_value_far_in_the_tail() -> None:
    chance = np.random.default_rng(1)
    values = np.concatenate([chance.normal(size=300), chance.normal(1.5, size=100)])
    assert 1e-300 <= p_of(values, each_its_own(400), 100) < 1e-12


def test_p_values_of_no_difference_are_spread_evenly() -> None:
    found = [p_of(np.random.default_rng(seed).normal(size=80), each_its_own(80), 20) for seed in range(100)]
    assert 0.35 < np.mean(found) < 0.65
    assert np.mean(np.array(found) < 0.1) < 0.2


def test_a_few_long_recordings_are_no_drift_however_many_utterances_they_have() -> None:
    chance = np.random.default_rng(2)
    levels = np.repeat(chance.normal(size=42), 10)  # each recording has a level of its own
    levels[-120:] += 0.7  # and twelve of them happen to lie somewhat higher
    values = levels + 0.1 * chance.normal(size=420)
    assert p_of(values, np.repeat(each_its_own(42), 10), 120) > 1e-3
    assert p_of(values, each_its_own(420), 120) < 1e-9  # were they independent


def test_the_same_data_have_the_same_p_value() -> None:
    values = np.random.default_rng(3).normal(size=60)
    assert p_of(values, each_its_own(60), 20) == p_of(values, each_its_own(60), 20)


def test_no_p_value_is_smaller_than_that_of_one_division() -> None:
    values = np.concatenate([np.zeros(20), np.full(20, 9.0)])
    assert p_of(values, np.array(["a", "b"]).repeat(20), 20) == pytest.approx(1.0)
    assert p_of(np.zeros(40), each_its_own(40), 20) == 1.0


def test_the_fitted_tail_goes_on_where_counting_ends() -> None:
    found = np.random.default_rng(4).exponential(size=4_400)
    for observed in (9.0, 12.0):
        assert tail_probability(observed, found) == pytest.approx(np.exp(-observed), rel=3)
        assert tail_probability(observed, found) > np.exp(-observed) / 4
    assert tail_probability(1.0, found) == pytest.approx(np.exp(-1.0), rel=0.05)
    assert tail_probability(1e6, found) <= 1e-20


def test_a_tail_is_never_believed_to_end() -> None:
    shape, scale = fitted_tail(np.sort(np.random.default_rng(5).random(250)))
    assert (shape, scale) == (0.0, pytest.approx(0.5, abs=0.1))
    shape, _ = fitted_tail(np.sort(np.random.default_rng(6).pareto(4, size=250)))
    assert shape > 0
