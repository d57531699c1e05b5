"""Drift detectors of alibi-detect behind a small interface of our own: no other file may import it.

Its own KSDrift, ChiSquareDrift and MMDDrift (torch) hold the baseline, compute the statistic, and are saved and loaded
by its own means. Its p-values take utterances for independent, or come of permuting them one by one, so the p-values
that count come of permuting recordings (models/drift_null.py), which it does not offer; for that each detector says
here what its statistic is when rows change sides. It must not know budgets or thresholds.
"""

import json
import logging
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from models.drift_null import Scores
from models.drift_samples import Kind
from models.errors import DriftError

DIMENSIONS: Final = 256  # that an embedding is reduced to
RIDGE: Final = 0.01  # of the mean variance: components that vary less are scaled up less, since they are mostly noise
CATEGORIES_FILE: Final = "categories.json"
ANY_P: Final = 0.05  # alibi-detect wants a threshold of its own; nobody asks for its decision


@dataclass(frozen=True, slots=True)
class Difference:
    """Between a window and its baseline."""

    statistic: float  # as alibi-detect has it: a KS distance, chi-square, or MMD²
    effect: float | None  # the largest difference of probability, 0 to 1, where there is such a number
    scores: Scores  # how much the sides of other divisions of the same rows differ, as a square
    plain_p_value: float | None = None  # alibi-detect's own, where it has one: right only of independent rows


class Detector(Protocol):
    """A baseline's values of one sample, to which a window's are compared."""

    name: str

    def compare(self, current: NDArray[Any]) -> Difference:
        """Compare a window's values; in the divisions of `scores` the baseline's rows come first, then the window's."""

    def save(self, folder: Path) -> None:
        """Write it into a folder that is not there yet."""


def fit(kind: Kind, baseline: NDArray[Any]) -> Detector:
    """Return the detector for values of a kind: see `models.drift_samples.Sample`."""
    match kind:
        case "numbers":
            return KS(_alibi_cd().KSDrift(baseline[:, None], p_val=ANY_P))
        case "categories":
            categories = sorted(set(baseline.tolist()))
            codes = _codes(baseline, categories)
            return ChiSquare(_alibi_cd().ChiSquareDrift(codes[:, None], p_val=ANY_P), categories)
        case "vectors":
            return MMD(_mmd_drift(baseline))


def load(kind: Kind, folder: Path) -> Detector:
    """Return a detector that was saved; the folder must be one's own, since alibi-detect may run what lies in it.

    Raises:
        DriftError: It cannot be read.
    """
    try:
        inner = _alibi_saving().load_detector(folder)
        match kind:
            case "numbers":
                return KS(inner)
            case "categories":
                return ChiSquare(inner, json.loads((folder / CATEGORIES_FILE).read_text(encoding="utf-8")))
            case "vectors":
                return MMD(inner)
    except Exception as error:  # it raises what comes, of TOML, pydantic, numpy or torch
        raise DriftError(f"the detector in {folder} cannot be read: {error}. Fit the baseline anew") from error


class KS:
    """Kolmogorov-Smirnov: the largest distance between two distribution functions (Kolmogorov 1933, Smirnov 1939)."""

    name = "ks"

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def compare(self, current: NDArray[np.float64]) -> Difference:
        """See `Detector`."""
        p_values, distances = self._inner.score(current[:, None])
        return Difference(float(distances[0]), float(distances[0]), self._scores(current), float(p_values[0]))

    def _scores(self, current: NDArray[np.float64]) -> Scores:
        values = np.concatenate([self._inner.x_ref[:, 0], current])
        order = np.argsort(values, kind="stable")
        last_of_ties = np.append(np.diff(values[order]) > 0, True)
        rows = np.arange(1, len(values) + 1, dtype=np.float32)[last_of_ties]

        def squared_distances(divisions: NDArray[np.bool_]) -> NDArray[np.float64]:
            currents = np.cumsum(divisions[:, order], axis=1, dtype=np.float32)[:, last_of_ties]
            of_current = currents[:, -1:]
            gaps = currents / of_current - (rows - currents) / (len(values) - of_current)
            return np.asarray(np.max(np.abs(gaps), axis=1).astype(np.float64) ** 2)

        return squared_distances

    def save(self, folder: Path) -> None:
        """See `Detector`."""
        _save(self._inner, folder)


class ChiSquare:
    """Pearson's chi-square of a table of two rows, as scipy has it: with Yates' correction where it has two columns."""

    name = "chi_square"

    def __init__(self, inner: Any, categories: list[str]) -> None:
        self._inner, self._categories = inner, categories

    def compare(self, current: NDArray[np.str_]) -> Difference:
        """See `Detector`; the effect is the total variation."""
        p_values, chi_squares = self._inner.score(self._coded(current)[:, None])
        before, now = (np.bincount(codes, minlength=1) for codes in (self._baseline(), self._coded(current)))
        size = max(len(before), len(now))
        shares = [np.pad(counts, (0, size - len(counts))) / np.sum(counts) for counts in (before, now)]
        effect = float(np.sum(np.abs(shares[0] - shares[1])) / 2)
        return Difference(float(chi_squares[0]), effect, self._scores(current), float(p_values[0]))

    def _scores(self, current: NDArray[np.str_]) -> Scores:
        codes = np.concatenate([self._baseline(), self._coded(current)])
        is_of = np.equal.outer(codes, np.unique(codes)).astype(np.float32)
        totals = np.sum(is_of, axis=0)
        correction = 0.5 if len(totals) == 2 else 0.0

        def chi_squares(divisions: NDArray[np.bool_]) -> NDArray[np.float64]:
            currents = (divisions.astype(np.float32) @ is_of).astype(np.float64)
            share = np.sum(currents, axis=1, keepdims=True) / len(codes)
            off = np.abs(currents - share * totals)
            off = (off - np.minimum(correction, off)) ** 2
            return np.asarray(np.sum(off / (share * totals) + off / ((1 - share) * totals), axis=1))

        return chi_squares

    def save(self, folder: Path) -> None:
        """See `Detector`."""
        _save(self._inner, folder)
        (folder / CATEGORIES_FILE).write_text(json.dumps(self._categories), encoding="utf-8")

    def _baseline(self) -> NDArray[np.int64]:
        return np.asarray(self._inner.x_ref[:, 0], dtype=np.int64)

    def _coded(self, current: NDArray[np.str_]) -> NDArray[np.int64]:
        new = sorted(set(current.tolist()) - set(self._categories))
        return _codes(current, [*self._categories, *new])


class MMD:
    """Maximum mean discrepancy with a Gaussian kernel of median bandwidth (Gretton et al. 2012), in fewer dimensions.

    These are the principal components of baseline and window together, at about unit variance: what a codec does to
    an embedding lies along directions in which speech hardly varies. Components of the baseline alone would make it
    wider along them than anything new, and that is a difference to be found where there is none; of both together
    they are the same however recordings are divided.
    """

    name = "mmd"

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def compare(self, current: NDArray[np.float32]) -> Difference:
        """See `Detector`; MMD² depends on the kernel, and is no probability."""
        baseline, reduced = _reduced(_backend(self._inner).x_ref, current)
        inner = _mmd_drift(baseline)
        return Difference(float(inner.score(reduced)[1]), None, self._scores(_backend(inner), reduced))

    def save(self, folder: Path) -> None:
        """See `Detector`."""
        _save(self._inner, folder)

    @staticmethod
    def _scores(inner: Any, current: NDArray[np.float32]) -> Scores:
        import torch  # noqa: PLC0415

        with torch.no_grad():
            kernel = inner.kernel_matrix(torch.from_numpy(inner.x_ref), torch.from_numpy(current)).numpy()
        np.fill_diagonal(kernel, 0.0)
        of_row = np.sum(kernel, axis=1, dtype=np.float64)
        total = np.sum(of_row)

        def squared_discrepancies(divisions: NDArray[np.bool_]) -> NDArray[np.float64]:
            currents = divisions.astype(np.float32)
            within = np.sum((currents @ kernel) * currents, axis=1, dtype=np.float64)
            touching = divisions @ of_row
            count = np.sum(divisions, axis=1, dtype=np.float64)
            others = len(kernel) - count
            outside, between = total - 2 * touching + within, touching - within
            return np.asarray(
                outside / (others * (others - 1)) + within / (count * (count - 1)) - 2 * between / (count * others)
            )

        return squared_discrepancies


def _mmd_drift(baseline: NDArray[np.float32]) -> Any:
    return _alibi_cd().MMDDrift(baseline, backend="pytorch", p_val=ANY_P, n_permutations=1, device="cpu")


def _backend(outer: Any) -> Any:
    """Return what MMDDrift hides: its x_ref and kernel_matrix are public there."""
    return outer._detector


def _codes(values: NDArray[np.str_], categories: list[str]) -> NDArray[np.int64]:
    places = {category: place for place, category in enumerate(categories)}
    return np.array([places[value] for value in values.tolist()], dtype=np.int64)


def _reduced(
    baseline: NDArray[np.float32], current: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return both sides in their common principal components, at about unit variance. Shapes (row, dimension)."""
    both = np.concatenate([baseline, current]).astype(np.float64)
    both -= np.mean(both, axis=0)
    variances, components = np.linalg.eigh(both.T @ both / len(both))
    count = min(DIMENSIONS, len(both) - 1, len(variances))
    scales = np.sqrt(np.maximum(variances[-count:], 0) + RIDGE * np.mean(variances) + np.finfo(np.float64).tiny)
    reduced = (both @ components[:, -count:] / scales).astype(np.float32)
    return reduced[: len(baseline)], reduced[len(baseline) :]


def _save(inner: Any, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    _alibi_saving().save_detector(inner, folder)


def _alibi_cd() -> ModuleType:
    return _imported()[0]


def _alibi_saving() -> ModuleType:
    return _imported()[1]


@lru_cache(maxsize=1)
def _imported() -> tuple[ModuleType, ModuleType]:
    """Import alibi-detect late: it takes five seconds, and torch."""
    logging.getLogger("alibi_detect").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls what torch and others have deprecated
        from alibi_detect import cd, saving  # noqa: PLC0415
    return cd, saving
