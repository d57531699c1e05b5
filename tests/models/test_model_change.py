"""Two versions of a model on the same utterances."""

import polars as pl
import pytest

from models.errors import DriftError
from models.model_change import ModelChange, model_change


def found(*rows: tuple[str, int, str, float]) -> pl.DataFrame:
    return pl.DataFrame(
        list(rows),
        schema={"file_id": pl.String, "utterance": pl.Int32, "label": pl.String, "confidence": pl.Float64},
        orient="row",
    )


ASKED = pl.DataFrame(
    {"file_id": ["a", "a", "b", "c"], "utterance": [0, 1, 0, 0]}, schema_overrides={"utterance": pl.Int32}
)
BEFORE = found(("a", 0, "call", 0.9), ("a", 0, "call", 0.5), ("b", 0, "call", 0.8), ("a", 1, "is", 0.7))


def compared(before: pl.DataFrame, after: pl.DataFrame) -> ModelChange:
    return model_change("moonshine", "v1", "v2", before=before, after=after, asked=ASKED)


def test_the_same_answers_agree_wholly() -> None:
    change = compared(BEFORE, BEFORE)
    assert (change.total.agreement, change.total.kappa, change.total.moved) == (1.0, 1.0, 0)
    assert change.utterances == 4


def test_what_appeared_vanished_and_moved_is_counted() -> None:
    after = found(("a", 0, "call", 0.6), ("c", 0, "call", 0.8), ("a", 1, "is", 0.72))
    change = compared(BEFORE, after)
    call, was = change.labels
    assert (call.label, call.both, call.appeared, call.vanished, call.moved) == ("call", 1, 1, 1, 1)
    assert call.confidence_median == pytest.approx(-0.3)
    assert (was.both, was.moved, was.agreement) == (1, 0, 1.0)
    # Of 8 answers 6 agree; by chance 3/8 * 3/8 + 5/8 * 5/8 would.
    assert change.total.kappa == pytest.approx((0.75 - 0.53125) / (1 - 0.53125))


def test_answers_to_what_the_other_was_not_asked_do_not_count() -> None:
    after = pl.concat([BEFORE, found(("d", 0, "call", 0.9))])
    assert compared(BEFORE, after).total.kappa == 1.0


def test_a_change_of_the_model_is_never_a_verdict_of_drift() -> None:
    verdict = compared(BEFORE, found()).verdict()
    assert (verdict.detector, verdict.verdict, verdict.is_drift) == ("model_change", "model_change", False)
    assert verdict.statistic == 0.0


def test_versions_without_a_common_utterance_cannot_be_compared() -> None:
    with pytest.raises(DriftError, match="no utterance"):
        model_change("m", "v1", "v2", before=BEFORE, after=BEFORE, asked=ASKED.clear())
    with pytest.raises(DriftError, match="confidence"):
        model_change("m", "v1", "v2", before=BEFORE.drop("confidence"), after=BEFORE, asked=ASKED)
