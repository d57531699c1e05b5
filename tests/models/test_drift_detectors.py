"""alibi-detect's detectors: what they find, and that they are saved and loaded as they are."""

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models import drift_detectors, drift_null
from models.drift_samples import Kind
from models.errors import DriftError

CHANCE = np.random.default_rng(7)
VECTORS = CHANCE.normal(size=(220, 64)).astype(np.float32)
CASES: dict[str, tuple[Kind, NDArray[Any], NDArray[Any], NDArray[Any]]] = {  # baseline, the same, drifted
    "numbers": ("numbers", CHANCE.normal(size=120), CHANCE.normal(size=60), CHANCE.normal(2.0, size=60)),
    "ties": ("numbers", CHANCE.integers(0, 3, 120) * 1.0, CHANCE.integers(0, 3, 60) * 1.0, np.full(60, 2.0)),
    "two": ("categories", CHANCE.choice(["pcm", "gsm"], 120), CHANCE.choice(["pcm", "gsm"], 60), np.full(60, "gsm")),
    "new": ("categories", CHANCE.choice(list("abc"), 120), CHANCE.choice(list("abc"), 60), np.full(60, "mp3")),
    "vectors": ("vectors", VECTORS[:120], VECTORS[120:180], VECTORS[180:] + np.float32(0.7)),
}


@pytest.mark.parametrize("case", CASES)
def test_drift_is_seen_and_no_drift_is_not(case: str) -> None:
    kind, baseline, same, drifted = CASES[case]
    detector = drift_detectors.fit(kind, baseline)
    assert p_value(detector, baseline, same) > 0.01
    assert p_value(detector, baseline, drifted) < 1e-6


@pytest.mark.parametrize("case", CASES)
def test_what_changes_sides_is_alibi_detects_own_statistic(case: str) -> None:
    kind, baseline, _, drifted = CASES[case]
    detector = drift_detectors.fit(kind, baseline)
    found = detector.compare(drifted)
    square = found.statistic**2 if kind == "numbers" else found.statistic
    (score,) = found.scores(is_current(baseline, drifted)[None])
    assert score == pytest.approx(square, rel=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_a_detector_that_was_saved_says_the_same(case: str, tmp_path: Path) -> None:
    kind, baseline, same, drifted = CASES[case]
    detector = drift_detectors.fit(kind, baseline)
    detector.save(tmp_path / "detector")
    loaded = drift_detectors.load(kind, tmp_path / "detector")
    for current in (same, drifted):
        before, after = detector.compare(current), loaded.compare(current)
        assert (after.statistic, after.effect) == (before.statistic, before.effect)
        assert p_value(loaded, baseline, current) == p_value(detector, baseline, current)


def test_an_effect_is_the_largest_difference_of_probability() -> None:
    numbers = drift_detectors.fit("numbers", np.arange(100.0))
    assert numbers.compare(np.arange(100.0) + 1_000).effect == 1.0
    categories = drift_detectors.fit("categories", np.array(["a"] * 50 + ["b"] * 50))
    assert categories.compare(np.array(["a"] * 75 + ["b"] * 25)).effect == pytest.approx(0.25)


def test_one_category_alone_is_no_difference() -> None:
    detector = drift_detectors.fit("categories", np.full(50, "pcm"))
    assert p_value(detector, np.full(50, "pcm"), np.full(20, "pcm")) == 1.0


def test_a_detector_that_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DriftError, match="Fit the baseline anew"):
        drift_detectors.load("numbers", tmp_path / "nothing")


def test_alibi_detect_is_imported_in_one_file_alone() -> None:
    importing = {
        path.name
        for package in ("api", "features", "flows", "models", "storage")
        for path in (Path(__file__).parents[2] / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        and any(name.startswith("alibi_detect") for name in [getattr(node, "module", None) or "", *names(node)])
    }
    assert importing == {"drift_detectors.py"}


def names(node: ast.Import | ast.ImportFrom) -> list[str]:
    return [alias.name for alias in node.names]


def is_current(baseline: NDArray[Any], current: NDArray[Any]) -> NDArray[np.bool_]:
    return np.arange(len(baseline) + len(current)) >= len(baseline)


def p_value(detector: drift_detectors.Detector, baseline: NDArray[Any], current: NDArray[Any]) -> float:
    sides = is_current(baseline, current)
    recordings = np.array([f"r{number}" for number in range(len(sides))])
    return drift_null.p_value(detector.compare(current).scores, recordings, sides)
