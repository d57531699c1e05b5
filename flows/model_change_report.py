"""The report of a model change: what became of its answers, label by label. It must not know how it was found."""

from typing import Final

from flows.drift_markdown import code, number, table
from models.model_change import LabelChange, ModelChange

LISTED: Final = 50  # labels


def change_report(change: ModelChange) -> list[str]:
    """Return what became of a model's answers to the same utterances, as paragraphs of Markdown."""
    shown = sorted(change.labels, key=lambda each: each.kappa)[:LISTED]
    left = len(change.labels) - len(shown)
    head = ("label", "both", "appeared", "vanished", "agreement", "kappa", "moved", "median move", "95 % move")
    return [
        f"## Model change: {code(change.model)}",
        f"From version {code(change.before_version)} to {code(change.after_version)}, compared on the same "
        f"{change.utterances} utterances. This is no drift of data.",
        table(head, [_label(change.total, "**all labels**"), *(_label(each, code(each.label)) for each in shown)]),
        "Both: found by both versions; appeared: by the newer alone; vanished: by the older alone. Moved: confidences "
        "of both that differ by 0.1 or more; moves are of the newer less the older, those of 95 % without their sign."
        + (f" {left} more labels, which agree better, are left out." if left > 0 else ""),
    ]


def _label(change: LabelChange, name: str) -> tuple[object, ...]:
    return (
        name,
        change.both,
        change.appeared,
        change.vanished,
        f"{change.agreement:.4f}",
        f"{change.kappa:.3f}",
        change.moved,
        number(change.confidence_median),
        number(change.confidence_p95),
    )
