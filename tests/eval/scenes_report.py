"""What build/eval.md says of callscene. It must not count anything: its figures are those of `scenes`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.eval import plots
from tests.eval.corpus_scenes import LABELS
from tests.eval.tables import Row, table

PICTURE: Final = "scenes.png"
CONDITIONS: Final = {"8 kHz": "", "GSM 06.10": "_gsm"}
SECONDS: Final = {"without border seconds": "", "all seconds": "_with_borders"}
EXPLAINED: Final = """\
## Scenes

What callscene says of each second of calls that were put together from known stretches, of speakers and sources that
it was not trained on. The true class of a second is what most of it is, or DTMF where a key is pressed in it.

A *border second* is one that a border between two stretches runs through, so that a quarter of it or more is of another
class than the rest (of DTMF: one with less than 80 ms of a key). It has one true class only by that rule, and an answer
for whole seconds cannot be right about both sides. So the headline leaves these seconds out, as the scoring of
segmentations usually leaves out a collar around each border (NIST's md-eval: 0.25 s on both sides). What comes of all
seconds stands beside it. F1 is the mean of the classes' F1, each counting alike.

By default a span is shown from a confidence of 0.9 on. Of all seconds: how many of those shown are right, how many of
the right ones are shown, and the expected calibration error.
"""
CONFIDENCES: Final = ("precision_at_090", "right_shown_at_090", "ece")


def section(figures: Mapping[str, Any], folder: Path) -> list[str]:
    """Return the parts of eval.md; the plot is drawn into `folder`/eval."""
    matrices = {title: figures[f"callscene_confusion{ending}"] for title, ending in CONDITIONS.items()}
    plots.draw_confusion(matrices, LABELS, folder / "eval" / PICTURE)
    parts = [EXPLAINED, table(summary(figures))]
    for title, ending in CONDITIONS.items():
        for seconds, borders in SECONDS.items():
            parts += [f"### {title}, {seconds}\n", table(class_rows(figures[f"callscene_classes{ending}{borders}"]))]
    return [*parts, f"![Seconds of each class, by what they were found to be; no border seconds](eval/{PICTURE})\n"]


def summary(figures: Mapping[str, Any]) -> list[Row]:
    """Return macro F1 for each condition, without border seconds and with them."""
    return [
        {
            "condition": title,
            "counted": seconds,
            "seconds": figures[f"callscene_seconds{ending}{borders}"],
            "f1": figures[f"callscene_f1{ending}{borders}"],
            **{name: figures[f"callscene_{name}{ending}"] if borders else None for name in CONFIDENCES},
        }
        for title, ending in CONDITIONS.items()
        for seconds, borders in SECONDS.items()
    ]


def class_rows(classes: Mapping[str, Mapping[str, float]]) -> list[Row]:
    return [{"class": label, **classes[label]} for label in LABELS]
