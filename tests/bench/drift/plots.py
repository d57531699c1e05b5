"""The pictures of build/drift.md. It must not count anything."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from models.drift_verdicts import Budget
from tests.bench.drift.power import WINDOWS, Trial
from tests.bench.drift.silence import Replay


def draw(null: Replay, trials: dict[str, list[Trial]], folder: Path) -> dict[str, str]:
    """Draw the plots into `folder`/drift, and return their names by their titles."""
    pictures = {
        "p-values where nothing drifted, against what they should be": ("null.png", _null(null)),
        "Alarms a month at other thresholds": ("thresholds.png", _thresholds(null)),
        "Windows until a change was found": ("delay.png", _delay(trials)),
        "What moved under each change: the median effect of the first window": ("effects.png", _effects(trials)),
    }
    (folder / "drift").mkdir(parents=True, exist_ok=True)
    for name, picture in pictures.values():
        FigureCanvasAgg(picture).print_png(folder / "drift" / name)
    return {title: name for title, (name, _) in pictures.items()}


def _null(null: Replay) -> Figure:
    picture = Figure(figsize=(8, 6), layout="constrained")
    axes = picture.add_subplot()
    for name, values in null.p_values.items():
        found = np.sort(values[np.isfinite(values)])
        if len(found) >= 0.5 * values.size and found[0] < 0.5:
            axes.step(found, np.arange(1, len(found) + 1) / len(found), where="post", label=name, linewidth=1)
    least = 1 / null.alarms.size
    axes.plot([least, 1], [least, 1], color="black", linewidth=0.7)
    axes.set(xscale="log", yscale="log", xlabel="p-value", ylabel="share of the windows at or below it")
    axes.legend(fontsize=7)
    return picture


def _thresholds(null: Replay) -> Figure:
    picture = Figure(figsize=(8, 4), layout="constrained")
    axes = picture.add_subplot()
    ratios = np.sort(null.least_ratio.ravel())
    months = null.alarms.size / Budget().windows_per_month
    axes.step(ratios, np.arange(1, len(ratios) + 1) / months, where="post")
    axes.axvline(1.0, color="grey", linewidth=0.7)
    axes.axhline(1.0, color="grey", linewidth=0.7)
    axes.set(xscale="log", yscale="log", xlabel="threshold, in times of the one in use", ylabel="alarms a month")
    return picture


def _delay(trials: dict[str, list[Trial]]) -> Figure:
    picture = Figure(figsize=(8, 4), layout="constrained")
    axes = picture.add_subplot()
    bottom = np.zeros(len(trials))
    for window in (*range(1, WINDOWS + 1), None):
        shares = np.array([np.mean([each.found_in == window for each in of]) for of in trials.values()])
        label = f"window {window}" if window else "not found"
        axes.bar(list(trials), shares, bottom=bottom, label=label, color=None if window else "lightgrey")
        bottom += shares
    axes.set(ylabel="share of the trials")
    axes.legend()
    return picture


def _effects(trials: dict[str, list[Trial]]) -> Figure:
    names = sorted({name for of in trials.values() for each in of for name in each.effects})
    medians = np.array(
        [[np.median([each.effects.get(name, 0.0) for each in of]) for name in names] for of in trials.values()]
    )
    picture = Figure(figsize=(10, 5), layout="constrained")
    axes = picture.add_subplot()
    axes.imshow(medians, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(medians):
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color="white" if value > 0.5 else "black")
    axes.set(xticks=range(len(names)), yticks=range(len(trials)))
    axes.set_xticklabels(names, rotation=45, ha="right")
    axes.set_yticklabels(list(trials))
    return picture
