"""Confidence: higher for what the decoder gives more, for what it wrote, and for texts that it is sure of."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.confidence import Calibration, logit
from models.spotting import Spot

PLAIN = Calibration(offset=0, log_odds=1, quality=0, level_range=0, heard=0, heard_level_range=0)
FITTED = Calibration(offset=0.5, log_odds=0.5, quality=0.7, level_range=0.02, heard=-1.0, heard_level_range=0.1)
CLEAN_DB = 30.0

log_probabilities = st.floats(-30, 0)


def spot(log_probability: float, *, heard: bool = True) -> Spot:
    return Spot("call", 0, 1, log_probability, heard)


@given(log_probabilities, log_probabilities, st.booleans(), st.floats(-10, 0))
def test_a_higher_probability_never_gives_a_lower_confidence(
    one: float, other: float, heard: bool, quality: float
) -> None:
    low, high = sorted((one, other))
    found = FITTED.of(spot(low, heard=heard), quality, CLEAN_DB), FITTED.of(spot(high, heard=heard), quality, CLEAN_DB)
    assert 0 <= found[0] <= found[1] <= 1


@given(log_probabilities, st.floats(-10, 0))
def test_what_the_text_has_is_surer_than_what_is_beside_it(log_probability: float, quality: float) -> None:
    heard, beside = spot(log_probability), spot(log_probability, heard=False)
    assert FITTED.of(heard, quality, CLEAN_DB) >= FITTED.of(beside, quality, CLEAN_DB)


@given(log_probabilities, st.floats(-10, 0), st.floats(-10, 0))
def test_a_text_that_the_decoder_is_surer_of_never_gives_a_lower_confidence(
    log_probability: float, one: float, other: float
) -> None:
    low, high = sorted((one, other))
    assert FITTED.of(spot(log_probability), low, CLEAN_DB) <= FITTED.of(spot(log_probability), high, CLEAN_DB)


@pytest.mark.parametrize("probability", [0.01, 0.3, 0.5, 0.9])
def test_without_weights_it_is_the_probability(probability: float) -> None:
    assert PLAIN.of(spot(math.log(probability)), -1.0, CLEAN_DB) == pytest.approx(probability, abs=1e-4)


@given(log_probabilities, st.floats(0, 60), st.floats(0, 60))
def test_less_noise_never_gives_a_lower_confidence(log_probability: float, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert FITTED.of(spot(log_probability), -1.0, low) <= FITTED.of(spot(log_probability), -1.0, high)


def test_log_odds_of_certainties_are_finite() -> None:
    assert logit(0) == pytest.approx(-logit(1))
    assert 10 < logit(1) < 20
