"""Baselines and windows drawn from recordings, by whole recordings; it must not know what comes of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.drift_samples import Sample, rates_of, samples_of
from tests.bench.drift.heard import Heard

BASELINE: Final = 300  # utterances, at least
WINDOW: Final = 100  # likewise


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """Everything that was heard of some recordings, from which windows are drawn."""

    samples: tuple[Sample, ...]
    counts: dict[str, int]  # utterances of each recording

    @classmethod
    def of(cls, heard: Heard) -> "Pool":
        utterances = heard.utterances
        (model, version), *_ = utterances.select("model", "model_version").unique().iter_rows()
        durations = utterances.select("file_id", "duration_s").unique("file_id", maintain_order=True)
        samples = samples_of(utterances) + samples_of(heard.predictions)
        samples += rates_of(heard.predictions, durations, {model: version})
        return cls(tuple(samples), dict(utterances.group_by("file_id").len().iter_rows()))

    @property
    def names(self) -> NDArray[np.str_]:
        return np.array(sorted(self.counts))

    def of_recordings(self, names: Sequence[Any] | NDArray[np.str_]) -> list[Sample]:
        """Return the samples of these recordings."""
        chosen = np.asarray(names)
        parts = ((sample, np.isin(sample.recordings, chosen)) for sample in self.samples)
        return [
            replace(sample, recordings=sample.recordings[rows], values=sample.values[rows]) for sample, rows in parts
        ]

    def drawn(self, chance: np.random.Generator, names: NDArray[np.str_], utterances: int) -> NDArray[np.str_]:
        """Return whole recordings, drawn by chance without putting back, until there are so many utterances."""
        order = chance.permutation(names)
        reached = np.cumsum([self.counts[name] for name in order])
        return order[: int(np.searchsorted(reached, utterances)) + 1]


def utterances_of(pool: Pool, names: NDArray[np.str_]) -> int:
    return sum(pool.counts[name] for name in names)


def rest(pool: Pool, names: NDArray[np.str_]) -> NDArray[np.str_]:
    """Return the recordings of a pool that are not among these."""
    return np.setdiff1d(pool.names, names)


def windows(pool: Pool, names: NDArray[np.str_], chance: np.random.Generator, count: int) -> Iterator[NDArray[np.str_]]:
    """Yield windows of WINDOW utterances, of whole recordings; none comes again before all others have come."""
    waiting: list[Any] = []
    for _ in range(count):
        window: list[Any] = []
        while sum(pool.counts[name] for name in window) < WINDOW:
            if not waiting:
                waiting = list(chance.permutation(np.setdiff1d(names, window)))
            window.append(waiting.pop())
        yield np.array(window)
