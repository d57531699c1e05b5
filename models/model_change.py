"""Two versions of a model on the same files: a change of the model, which is never data drift.

Source of kappa: Cohen 1960, A coefficient of agreement for nominal scales. It must not know where rows come from.
"""

from dataclasses import dataclass
from typing import Final

import polars as pl

from models.drift_samples import RECORDING, Frame, as_polars
from models.drift_verdicts import Verdict
from models.errors import DriftError

MOVED: Final = 0.1  # of confidence: from here on it has moved
PLACE: Final[tuple[str, ...]] = (RECORDING, "channel", "utterance")


@dataclass(frozen=True, slots=True)
class LabelChange:
    """What became of one label."""

    label: str
    both: int  # utterances in which both versions found it
    appeared: int  # the newer one alone
    vanished: int  # the older one alone
    agreement: float  # share of the utterances of which both say the same, 0 to 1
    kappa: float  # agreement beyond chance, -1 to 1
    moved: int  # of `both`, those whose confidence differs by MOVED or more
    confidence_median: float | None  # of the newer less the older one, where both found it
    confidence_p95: float | None  # of its absolute value


@dataclass(frozen=True, slots=True)
class ModelChange:
    """What became of a model's answers to the same utterances."""

    model: str
    before_version: str
    after_version: str
    utterances: int
    total: LabelChange  # over all labels
    labels: tuple[LabelChange, ...]

    def verdict(self) -> Verdict:
        """Return it as a row among the verdicts of drift, as none of them."""
        return Verdict("model_change", self.model, self.total.kappa, None, None, "model_change")


def model_change(
    model: str, before_version: str, after_version: str, *, before: Frame, after: Frame, asked: Frame
) -> ModelChange:
    """Compare what two versions found in the same utterances.

    Args:
        model: Its name.
        before_version: The older version.
        after_version: The newer version.
        before: Detections of the older one: `file_id`, `utterance`, `label`, `confidence` (0 to 1), and `channel`.
        after: Those of the newer one.
        asked: Every utterance that both were given, those without detections too: `file_id`, `utterance`, `channel`.

    Raises:
        DriftError: A column is missing, or there is no utterance.
    """
    asked, before, after = as_polars(asked), as_polars(before), as_polars(after)
    place = [name for name in PLACE if name in asked.columns]
    for frame, needed in ((asked, place), (before, [*place, "label", "confidence"]), (after, [*place, "label"])):
        if missing := {RECORDING, "utterance", *needed} - set(frame.columns):
            raise DriftError(f"a table of what two versions found lacks {', '.join(sorted(missing))}: add it")
    utterances = asked.select(place).unique()
    if not len(utterances):
        raise DriftError("there is no utterance that both versions were given: choose files that both have answered")
    of_both = _best(before, utterances, place, "before").join(
        _best(after, utterances, place, "after"), on=[*place, "label"], how="full", coalesce=True
    )
    labels = sorted(of_both["label"].unique().to_list())
    return ModelChange(
        model,
        before_version,
        after_version,
        len(utterances),
        _change("", of_both, len(utterances) * max(1, len(labels))),
        tuple(_change(label, of_both.filter(pl.col("label") == label), len(utterances)) for label in labels),
    )


def _best(found: pl.DataFrame, utterances: pl.DataFrame, place: list[str], name: str) -> pl.DataFrame:
    """Return the highest confidence of each label in each utterance."""
    of_these = found.join(utterances, on=place, how="semi")
    return of_these.group_by(*place, "label").agg(pl.col("confidence").max().alias(name))


def _change(label: str, found: pl.DataFrame, asked: int) -> LabelChange:
    was, is_now = found["before"].is_not_null(), found["after"].is_not_null()
    both, vanished, appeared = (int(each.sum()) for each in (was & is_now, was & ~is_now, ~was & is_now))
    agreement = 1 - (vanished + appeared) / asked
    share_before, share_after = (both + vanished) / asked, (both + appeared) / asked
    by_chance = share_before * share_after + (1 - share_before) * (1 - share_after)
    moves = (found["after"] - found["before"]).drop_nulls()
    return LabelChange(
        label,
        both,
        appeared,
        vanished,
        agreement,
        kappa=1.0 if by_chance == 1 else (agreement - by_chance) / (1 - by_chance),
        moved=int((moves.abs() >= MOVED).sum()),
        confidence_median=_quantile(moves, 0.5),
        confidence_p95=_quantile(moves.abs(), 0.95),
    )


def _quantile(values: pl.Series, share: float) -> float | None:
    found = values.quantile(share, "linear")
    return None if found is None else float(found)
