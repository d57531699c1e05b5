"""The pictures of build/eval.md. It must not count anything: what it draws was judged before."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tests.eval import metrics

if TYPE_CHECKING:
    from tests.eval.report import Condition


def draw(conditions: Sequence["Condition"], figures: dict[str, Any], folder: Path, threshold: float) -> dict[str, str]:
    """Draw the plots into `folder`/eval, and return their names by their titles."""
    (folder / "eval").mkdir(exist_ok=True)
    pictures = {
        "Reliability: confidence against the share that is right": ("reliability.png", _reliability(figures)),
        "Miss rate against false alarms per hour": ("trade_off.png", _trade_off(conditions)),
        "Errors of start times": ("start_errors.png", _start_errors(conditions, threshold)),
    }
    for name, picture in pictures.values():
        FigureCanvasAgg(picture).print_png(folder / "eval" / name)
    return {title: name for title, (name, _) in pictures.items()}


def _reliability(figures: dict[str, Any]) -> Figure:
    picture = Figure(figsize=(12, 6), layout="constrained")
    rows = figures["conditions"]
    columns = max(1, -(-len(rows) // 2))
    for number, row in enumerate(rows):
        axes = picture.add_subplot(2, columns, number + 1)
        axes.plot([0, 1], [0, 1], color="grey", linewidth=0.5)
        sizes = [10 + 200 * each["count"] / row["detections_from_010"] for each in row["reliability"]]
        axes.plot([b["confidence"] for b in row["reliability"]], [b["right"] for b in row["reliability"]])
        axes.scatter([b["confidence"] for b in row["reliability"]], [b["right"] for b in row["reliability"]], s=sizes)
        axes.set(xlim=(0, 1.02), ylim=(0, 1.02), title=f"{row['corpus']} {row['condition']}: {row['ece']}")
    picture.supxlabel("confidence (the areas tell how many; behind the name the expected calibration error)")
    picture.supylabel("share that is right")
    return picture


def _trade_off(conditions: Sequence["Condition"]) -> Figure:
    picture = Figure(figsize=(8, 6), layout="constrained")
    axes = picture.add_subplot()
    for condition in conditions:
        if condition.corpus != "nonspeech":
            points = metrics.trade_off(condition.all_judged, condition.audio_s)
            alarms, missed = [point.false_per_hour for point in points], [point.miss_rate for point in points]
            axes.step(alarms, missed, where="post", label=condition.name)
    axes.axvline(1.0, color="grey", linewidth=0.5)
    axes.set_xscale("symlog", linthresh=1.0)
    axes.set_yscale("symlog", linthresh=0.01)
    axes.set(xlabel="false alarms per hour", ylabel="share of occurrences missed", xlim=(0, None), ylim=(0, 1.05))
    axes.legend()
    return picture


def _start_errors(conditions: Sequence["Condition"], threshold: float) -> Figure:
    picture = Figure(figsize=(8, 4), layout="constrained")
    axes = picture.add_subplot()
    for condition in conditions:
        errors_ms = [error * 1000 for error in metrics.start_errors_s(condition.timed, threshold)]
        if errors_ms and condition.corpus in ("splices", "voices"):
            bounded = [min(max(error, -500), 500) for error in errors_ms]
            axes.hist(bounded, bins=50, range=(-500, 500), density=True, histtype="step", label=condition.name)
    axes.set(xlabel="start of the detection less that of the word, ms; the outermost hold what is beyond", yticks=[])
    if axes.patches:
        axes.legend()
    return picture


def draw_confusion(matrices: dict[str, Sequence[Sequence[int]]], labels: Sequence[str], path: Path) -> None:
    """Draw counts by true class (row) and found class (column) side by side, shaded by their share of the row."""
    picture = Figure(figsize=(6 * len(matrices), 5.5), layout="constrained")
    for number, (title, counts) in enumerate(matrices.items()):
        matrix = np.array(counts)
        shares = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
        axes = picture.add_subplot(1, len(matrices), number + 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(matrix):
            if count:
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=colour)
        ticks = range(len(labels))
        axes.set(title=title, xticks=ticks, yticks=ticks, xlabel="found", ylabel="true")
        axes.set_xticklabels(labels, rotation=45, ha="right")
        axes.set_yticklabels(labels)
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(picture).print_png(path)
