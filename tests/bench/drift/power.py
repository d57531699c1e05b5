"""Changes that are there: whether they are found, when, and by which name; and a changed model, which is none."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import polars as pl

from models.drift import Baseline
from models.drift_verdicts import Budget, Verdict, verdict_of
from models.model_change import model_change
from tests.bench.drift.expected import EXPECTED
from tests.bench.drift.heard import Heard
from tests.bench.drift.trials import BASELINE, Pool, rest, windows
from tests.bench.measures import Figures, say

WINDOWS: Final = 3  # within which drift is to be found
SEED: Final = 1_000  # beyond those of the replays
CHANGE_TRIALS: Final = 50


@dataclass(frozen=True, slots=True)
class Trial:
    """One baseline, and the windows under one condition until drift was found."""

    found_in: int | None  # which window, from 1
    named: str  # first in the window that found it, without its model; empty where none did
    effects: dict[str, float]  # of the first window, by descriptor


def power(clean: Pool, changed: dict[str, Pool], trials: int) -> dict[str, list[Trial]]:
    """Return the trials of each condition; all have the same baselines."""
    found: dict[str, list[Trial]] = {name: [] for name in changed}
    for number in range(trials):
        chance = np.random.default_rng(SEED + number)
        chosen = clean.drawn(chance, clean.names, BASELINE)
        baseline = Baseline.fit("power", number, clean.of_recordings(chosen))
        for name, pool in changed.items():
            new = pool.names if name == "spanish" else rest(pool, chosen)
            found[name].append(_trial(baseline, pool, new, np.random.default_rng([SEED, number])))
        if (number + 1) % max(1, trials // 10) == 0:
            hits = {name: sum(each.found_in is not None for each in of) for name, of in found.items()}
            say(f"  power: {number + 1} trials, found {hits}")
    return found


def figures(trials: dict[str, list[Trial]]) -> Figures:
    """Return the share of the trials in which each change was found, and how it was named."""
    measured: Figures = {}
    for name, of in trials.items():
        hits = [each for each in of if each.found_in is not None]
        measured[f"power_{name}"] = round(len(hits) / len(of), 4)
        measured[f"power_{name}_first_window"] = round(sum(each.found_in == 1 for each in hits) / len(of), 4)
        measured[f"delay_{name}_windows"] = round(float(np.mean([each.found_in for each in hits])), 2) if hits else None
        if name in EXPECTED:
            right = sum(each.named in EXPECTED[name] for each in hits)
            measured[f"named_{name}"] = round(right / len(hits), 4) if hits else None
        measured[f"names_{name}"] = dict(Counter(each.named for each in hits).most_common())
    return measured


def changed_model(before: Heard, after: Heard, trials: int = CHANGE_TRIALS) -> Figures:
    """Return what a change of the model comes to on audio that is as it was.

    Each trial tests a window that the new version answered: against the baseline of the old one, and against the same
    recordings as the new one answers them. `unversioned` is what would come of comparing across versions.
    """
    old, new = Pool.of(before), Pool.of(after)
    alarms = unversioned = 0
    for number in range(trials):
        chance = np.random.default_rng([SEED, SEED, number])
        chosen = old.drawn(chance, old.names, BASELINE)
        window = new.of_recordings(next(iter(windows(new, rest(new, chosen), chance, 1))))
        baseline = Baseline.fit("before", number, old.of_recordings(chosen))
        anew = Baseline.fit("after", number, new.of_recordings(chosen))
        alarms += any(verdict_of(each.verdicts(window, Budget())) == "drift" for each in (baseline, anew))
        versions = {reference.name: reference.model_version for reference in baseline.references}
        as_one = [replace(sample, model_version=versions.get(sample.name, "")) for sample in window]
        unversioned += verdict_of(baseline.verdicts(as_one, Budget())) == "drift"
    change = model_change(
        before.utterances["model"][0],
        before.utterances["model_version"][0],
        after.utterances["model_version"][0],
        before=before.predictions,
        after=after.predictions,
        asked=before.utterances.select(pl.col("file_id"), pl.col("utterance")),
    )
    return {
        "model_change_trials": trials,
        "model_change_alarms": alarms,
        "model_change_alarms_unversioned": unversioned,
        "model_change_agreement": round(change.total.agreement, 4),
        "model_change_kappa": round(change.total.kappa, 4),
        "model_change_confidences_moved": change.total.moved,
        "model_change_appeared": change.total.appeared,
        "model_change_vanished": change.total.vanished,
    }


def _trial(baseline: Baseline, pool: Pool, names: np.ndarray, chance: np.random.Generator) -> Trial:
    effects: dict[str, float] = {}
    for number, drawn in enumerate(windows(pool, names, chance, WINDOWS), start=1):
        verdicts = baseline.verdicts(pool.of_recordings(drawn), Budget())
        effects = effects or {_short(each): each.effect for each in verdicts if each.effect is not None}
        if verdicts[0].is_drift:
            return Trial(number, _short(verdicts[0]), effects)
    return Trial(None, "", effects)


def _short(verdict: Verdict) -> str:
    return verdict.descriptor.split(":")[0]
