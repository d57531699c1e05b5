"""Confidence: a logistic regression over evidence, as the group file has it, with nothing missing or besides."""

import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.confidence import Calibration, Search, logit
from models.moonshine import EVIDENCE, MAX_LETTERS, evidence_of
from models.phrases import MAX_CHARACTERS
from models.spotting import Spot

CALIBRATION = Calibration(0.5, {"log_odds": 0.5, "quality": 2.0})
RAW: Mapping[str, Any] = {
    "phrases": ["call"],
    "least_confidence": 0.1,
    "calibration": {"offset": 0.5, "log_odds": 0.5, "quality": 2},
}

values = st.floats(-1e6, 1e6)


@given(values, values, values)
def test_more_of_what_speaks_for_it_never_gives_a_lower_confidence(one: float, other: float, quality: float) -> None:
    low, high = sorted((one, other))
    found = [CALIBRATION.of({"log_odds": value, "quality": quality}) for value in (low, high)]
    assert 0 <= found[0] <= found[1] <= 1


@pytest.mark.parametrize("probability", [0.01, 0.3, 0.5, 0.9])
def test_log_odds_alone_give_the_probability_back(probability: float) -> None:
    found = Calibration(0, {"log_odds": 1}).of({"log_odds": logit(probability)})
    assert found == pytest.approx(probability, abs=1e-4)


def test_it_is_the_logistic_of_the_weighted_sum() -> None:
    found = CALIBRATION.of({"log_odds": 3.0, "quality": -0.4, "unused": 100.0})
    assert found == pytest.approx(1 / (1 + math.exp(-(0.5 + 0.5 * 3.0 + 2.0 * -0.4))), abs=1e-4)


def test_log_odds_of_certainties_are_finite() -> None:
    assert logit(0) == pytest.approx(-logit(1))
    assert 10 < logit(1) < 20


def test_a_search_is_read_from_the_group_file() -> None:
    assert Search.of(RAW, ("log_odds", "quality")) == Search(("call",), 0.1, CALIBRATION)


@pytest.mark.parametrize("name", ["log_odds", "quality", "offset", "phrases", "least_confidence", "calibration"])
def test_what_is_missing_is_named(name: str) -> None:
    rest = {key: value for key, value in RAW.items() if key != name}
    if "calibration" in rest:
        rest["calibration"] = {key: value for key, value in RAW["calibration"].items() if key != name}
    with pytest.raises(KeyError, match=name):
        Search.of(rest, ("log_odds", "quality"))


@pytest.mark.parametrize("table", [{"temperature": 0.7}, {"calibration": {**RAW["calibration"], "temperature": 0.7}}])
def test_what_nobody_knows_is_named(table: Mapping[str, Any]) -> None:
    with pytest.raises(TypeError, match="temperature"):
        Search.of({**RAW, **table}, ("log_odds", "quality"))


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.1, 5, "0.5", True, None])
def test_a_least_confidence_that_is_no_probability_is_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError), match=f"`least_confidence`.*{value!r}"):
        Search.of({**RAW, "least_confidence": value}, ("log_odds", "quality"))


@pytest.mark.parametrize("name", ["offset", "log_odds"])
@pytest.mark.parametrize("value", [math.nan, -math.inf, 1e300, 10**400, "3", False])
def test_a_weight_that_is_no_finite_number_is_refused(name: str, value: object) -> None:
    with pytest.raises((TypeError, ValueError), match=f"`calibration.{name}`"):
        Search.of({**RAW, "calibration": {**RAW["calibration"], name: value}}, ("log_odds", "quality"))


@pytest.mark.parametrize(
    ("name", "value"), [("calibration", 3), ("calibration", "abc"), ("phrases", "call"), ("phrases", [1])]
)
def test_a_value_of_another_kind_is_refused_by_its_name(name: str, value: object) -> None:
    with pytest.raises(TypeError, match=f"`{name}`"):
        Search.of({**RAW, name: value}, ("log_odds", "quality"))


def test_a_phrase_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="shorten it"):
        Search.of({**RAW, "phrases": ["call", "y" * (MAX_CHARACTERS + 1)]}, ("log_odds", "quality"))


@given(
    phrase=st.text(st.characters(codec="ascii"), min_size=1),
    log_probability=st.floats(-1e4, 0),
    heard=st.booleans(),
    quality=st.floats(-20, 0),
    range_db=st.floats(0, 120),
)
def test_evidence_has_every_name_and_is_bounded(
    phrase: str, log_probability: float, heard: bool, quality: float, range_db: float
) -> None:
    found = evidence_of(Spot(phrase, 0, 1, log_probability, heard), quality, range_db)
    assert set(found) == set(EVIDENCE)
    assert all(math.isfinite(value) for value in found.values())
    assert 0 <= found["letters"] <= MAX_LETTERS
    assert found["heard_quality"] == (quality if heard else 0)
