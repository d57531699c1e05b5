"""CPU seconds of one test of a window, by its size, on one thread. It must not know what is right."""

import time
from typing import Final

import numpy as np
import polars as pl

from models.drift import Baseline
from models.drift_samples import samples_of
from models.drift_verdicts import Budget
from tests.bench.drift.heard import Heard
from tests.bench.measures import Figures

SIZES: Final = (100, 1_000, 10_000)
BASELINE: Final = 300
TURNS: Final = 3


def measure(clean: Heard, changed: Heard) -> Figures:
    """Return the cost of windows without drift and with it, which costs more divisions; the least of some turns."""
    baseline = Baseline.fit("cost", 1, samples_of(_repeated(clean.utterances, BASELINE, "baseline")))
    measured: Figures = {}
    for size in SIZES:
        for kind, heard in (("null", clean), ("drift", changed)):
            window = samples_of(_repeated(heard.utterances, size, "window"))
            measured[f"cost_{BASELINE}_{size}_{kind}_cpu_s"] = round(_least(baseline, window), 3)
    measured["cost_300_1000_cpu_s"] = max(measured[f"cost_300_1000_{kind}_cpu_s"] for kind in ("null", "drift"))
    return measured


def _least(baseline: Baseline, window: list) -> float:
    least = np.inf
    for _ in range(TURNS):
        began = time.process_time()
        baseline.verdicts(window, Budget())
        least = min(least, time.process_time() - began)
    return float(least)


def _repeated(utterances: pl.DataFrame, rows: int, side: str) -> pl.DataFrame:
    """Return so many utterances, some more than once, each in a recording of its own, as costs most."""
    chosen = np.random.default_rng(len(side)).integers(len(utterances), size=rows)
    names = pl.Series("file_id", [f"{side} {number}" for number in range(rows)])
    return utterances[chosen].with_columns(names, pl.lit(0).alias("utterance"))
