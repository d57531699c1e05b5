"""Pictures of drift as PNG: how two distributions differ, and how a test went over time. It must not know the lake."""

import warnings
from datetime import datetime
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flows.drift_examples import Measured, unit_of
from models.drift_samples import CONFIDENCE, RATE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH: Final = 6.9  # inches: as wide as Prefect's UI shows text
DPI: Final = 100
BASELINE: Final = "#0072B2"  # blue and vermilion of Okabe and Ito 2008, which the colour-blind can tell apart
WINDOW: Final = "#D55E00"
COLOURS: Final = 64  # of a PNG, which has half the size with them
LOWEST_P: Final = 1e-15  # that is drawn: smaller ones stand at the edge
SHOWN_CATEGORIES: Final = 8
SHOWN_WINDOWS: Final = 200
LONGEST: Final = 40  # characters of a name
STATISTICS: Final = {"ks": "KS distance (0 to 1)", "mmd": "MMD²", "chi_square": "chi-square"}
MARGIN: Final = 0.5  # percent of values at either end that stand in the last bar


def distributions(descriptor: str, before: Measured, now: Measured) -> bytes:
    """Return both sides of one descriptor, the baseline and the window, as PNG."""
    match now.kind:
        case "categories":
            return _shares(descriptor, before, now)
        case "vectors":
            return _map(descriptor, before, now)
        case "numbers":
            return _numbers(descriptor, before, now)


def courses(history: pl.DataFrame, descriptors: list[str]) -> bytes:
    """Return how the tests of some descriptors went, a row of two panels each, as PNG.

    Args:
        history: A row a test in order of time: `closed_at`, `baseline_id`, `descriptor`, `detector`,
            `statistic`, `p_value`, `threshold`, `verdict`.
        descriptors: Which of them, at least one.
    """
    figure = _figure(0.5 + 1.9 * len(descriptors))
    rows = figure.subplots(len(descriptors), 2, squeeze=False)
    for axes, descriptor in zip(rows, descriptors, strict=True):
        tests = history.filter(pl.col("descriptor") == descriptor).tail(SHOWN_WINDOWS)
        _p_values(axes[0], tests)
        _statistics(axes[1], tests)
        axes[0].set_title(_short(descriptor), fontsize=9, loc="left", parse_math=False)
    return _png(figure)


def _numbers(descriptor: str, before: Measured, now: Measured) -> bytes:
    figure = _figure(2.7)
    histogram, cumulative = figure.subplots(1, 2)
    sides = [(side.values[~side.none], side, name, colour) for side, name, colour in _sides(before, now)]
    known = np.concatenate([values for values, *_ in sides])
    low, high = np.percentile(known, [MARGIN, 100 - MARGIN]) if len(known) else (0.0, 1.0)
    edges = np.linspace(low, high if high > low else low + 1, 31)
    for values, side, name, colour in sides:
        label = f"{name}, {len(side.values)}" + (f" ({np.mean(side.none):.0%} none)" if side.none.any() else "")
        shares = np.full(len(values), 1 / max(1, len(side.values)))
        clipped = np.clip(values, edges[0], edges[-1])
        histogram.hist(clipped, edges, weights=shares, histtype="stepfilled", color=colour, alpha=0.25)
        histogram.hist(clipped, edges, weights=shares, histtype="step", color=colour, linewidth=1.2, label=label)
        if len(values):
            points = np.concatenate([edges[:1], np.sort(values), edges[-1:]])
            steps = np.append(np.searchsorted(np.sort(values), points[:-1], side="right") / len(values), 1.0)
            cumulative.step(points, steps, where="post", color=colour, linewidth=1.4)
    cumulative.set_xlim(edges[0], edges[-1])
    cumulative.set_ylim(0, 1)
    axis = _axis(descriptor)
    counted = {CONFIDENCE: "detections", RATE: "recordings"}.get(descriptor.partition(":")[0], "utterances")
    for axes, title in ((histogram, f"share of {counted}"), (cumulative, "share at or below")):
        axes.set_xlabel(axis, parse_math=False)
        axes.set_ylabel(title)
    _legend(figure, histogram)
    return _png(figure)


def _shares(descriptor: str, before: Measured, now: Measured) -> bytes:
    names = sorted(set(before.values.tolist()) | set(now.values.tolist()))
    shares = {name: [float(np.mean(side.values == name)) for side in (before, now)] for name in names}
    moved = sorted(names, key=lambda name: -abs(shares[name][1] - shares[name][0]))
    shown, others = moved[:SHOWN_CATEGORIES], moved[SHOWN_CATEGORIES:]
    bars = [(_short(name) or "(none)", shares[name]) for name in shown]
    if others:
        bars.append((f"{len(others)} others", np.sum([shares[name] for name in others], axis=0).tolist()))
    figure = _figure(1.3 + 0.35 * len(bars))
    axes = figure.subplots()
    places = np.arange(len(bars))
    for number, (side, name, colour) in enumerate(_sides(before, now)):
        lengths = [share[number] for _, share in bars]
        axes.barh(places + 0.4 * number, lengths, 0.38, color=colour, label=f"{name}, {len(side.values)}")
    axes.set_yticks(places + 0.2, [name for name, _ in bars], parse_math=False)
    axes.invert_yaxis()
    axes.set_xlabel(f"share of utterances by {_short(descriptor)}", parse_math=False)
    _legend(figure, axes)
    return _png(figure)


def _map(descriptor: str, before: Measured, now: Measured) -> bytes:
    both = np.concatenate([before.values, now.values]).astype(np.float64)
    both -= np.mean(both, axis=0)
    variances, components = np.linalg.eigh(both.T @ both / len(both))
    places, explained = both @ components[:, :-3:-1], variances[:-3:-1] / max(np.sum(variances), 1e-300)
    figure = _figure(4.2)
    axes = figure.subplots()
    divided = places[: len(before.values)], places[len(before.values) :]
    for points, (_, name, colour), marker in zip(divided, _sides(before, now), "o^", strict=True):
        label = f"{name}, {len(points)}"
        across, along = points[:, 0], points[:, 1]
        axes.scatter(across, along, s=14, color=colour, marker=marker, alpha=0.5, linewidths=0, label=label)
    axes.set_xlabel(f"first principal component of {_short(descriptor)} ({explained[0]:.0%})", parse_math=False)
    axes.set_ylabel(f"second ({explained[1]:.0%} of the variance)")
    _legend(figure, axes)
    return _png(figure)


def _p_values(axes: "Axes", tests: pl.DataFrame) -> None:
    drawn = np.maximum(_series(tests, "p_value"), LOWEST_P)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:.0e}")
    axes.yaxis.set_minor_formatter("")
    places = _course(axes, tests, drawn)
    thresholds = _series(tests, "threshold")
    known = thresholds[np.isfinite(thresholds)]
    if len(known):
        axes.hlines(thresholds, places - 0.5, places + 0.5, color="black", linewidth=1)
        said, at = f"threshold {known[-1]:.1e}", ("axes fraction", "data")
        axes.annotate(said, (1, known[-1]), xycoords=at, fontsize=7, ha="right", va="bottom")
    least = np.nanmin(np.concatenate([drawn, known, [1e-3]]))
    axes.set_ylim(least / 10, 2)
    axes.set_ylabel("p-value (log)")
    _over_time(axes, tests)


def _statistics(axes: "Axes", tests: pl.DataFrame) -> None:
    _course(axes, tests, _series(tests, "statistic"))
    detector = tests["detector"][-1] if len(tests) else ""
    axes.set_ylabel(STATISTICS.get(detector, "statistic"))
    if detector != "mmd":
        axes.set_ylim(bottom=0)
    _over_time(axes, tests)


def _course(axes: "Axes", tests: pl.DataFrame, values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Draw a point a window, a diamond where it drifted; return where they stand."""
    places = np.arange(len(tests))
    axes.plot(places, values, color=BASELINE, linewidth=0.8, marker="o", markersize=3)
    drifted = (tests["verdict"] == "drift").to_numpy()
    axes.plot(places[drifted], values[drifted], "D", color=WINDOW, markersize=6)
    return places


def _over_time(axes: "Axes", tests: pl.DataFrame) -> None:
    """Write when windows closed; they stand one beside the other, since many may close at once."""
    count = len(tests)
    axes.set_xlim(-0.5, max(count, 8) - 0.5)
    ticks = sorted({0, count // 2, count - 1}) if count else []
    times: list[datetime] = tests["closed_at"].to_list()
    axes.set_xticks(ticks, [f"{times[tick]:%d %b\n%H:%M}" for tick in ticks])
    baselines = tests["baseline_id"].to_list()
    for place in range(1, count):
        if baselines[place] != baselines[place - 1]:
            axes.axvline(place - 0.5, color="#666666", linestyle=":", linewidth=1)
            axes.annotate("new baseline", (place - 0.5, 1), xycoords=("data", "axes fraction"), fontsize=6, va="top")


def _series(tests: pl.DataFrame, name: str) -> NDArray[np.float64]:
    return np.asarray(tests[name].cast(pl.Float64).fill_null(float("nan")).to_numpy(), dtype=np.float64)


def _sides(before: Measured, now: Measured) -> tuple[tuple[Measured, str, str], tuple[Measured, str, str]]:
    return (before, "baseline", BASELINE), (now, "window", WINDOW)


def _axis(descriptor: str) -> str:
    unit = unit_of(descriptor)
    return _short(descriptor) + (f" ({unit})" if unit else "")


def _short(name: str) -> str:
    """Return a name that may be anybody's as one line of a picture."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in name)
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 1]}…"


def _figure(height: float) -> "Figure":
    from matplotlib.figure import Figure  # noqa: PLC0415  half a second, which runs without a window do not need

    return Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained", facecolor="white")


def _legend(figure: "Figure", axes: "Axes") -> None:
    handles, labels = axes.get_legend_handles_labels()
    found: Any = figure.legend(handles, labels, loc="outside upper center", ncols=2, fontsize=8, frameon=False)
    for text in found.get_texts():
        text.set_parse_math(False)


def _png(figure: "Figure") -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from PIL import Image  # noqa: PLC0415

    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
        axes.xaxis.label.set_fontsize(8)
        axes.yaxis.label.set_fontsize(8)
    canvas: Any = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # of a name in letters that the font has not
        canvas.draw()
    drawn = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    file = BytesIO()
    drawn.quantize(COLOURS).save(file, format="PNG", optimize=True)
    return file.getvalue()
