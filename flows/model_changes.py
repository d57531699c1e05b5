"""Compares what two versions of a model say of the same recordings, once for each change.

It must not know data drift, of which this is none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import orjson
import polars as pl

from flows.drift_evidence import PLACE, SPAN, rows_of
from models.drift_samples import RECORDING
from models.model_change import ModelChange, model_change
from storage.answers import AnswerOf, Change
from storage.commit import Draft
from storage.history import as_it_is_now, reference_at
from storage.index import Index
from storage.lake import Lake
from storage.tables import table_from_rows


@dataclass(frozen=True, slots=True)
class ComparedModel:
    """What a change came to."""

    reference: UUID
    change: ModelChange
    recordings: int


def compare(lake: Lake, index: Index, change: Change) -> ComparedModel | None:
    """Compare two versions and commit what comes of it; None where another run has been faster."""
    started_at = datetime.now(UTC)
    found = as_it_is_now(index, lambda: _compared(lake, index, change))
    reference = reference_at(index, max(one.seq for one in change.after))
    row = {
        "window_id": change.comparison_id,
        "reference": reference,
        "opened_at": change.changed_at,
        "closed_at": started_at,
        "closed_by": "model_change",
        "recordings": len(change.after),
        "utterances": found.utterances,
        "detector": "model_change",
        "descriptor": change.model,
        "statistic": found.total.kappa,
        "verdict": "model_change",
        "details": orjson.dumps(found).decode(),
        "place": 0,
    }
    draft = Draft({"drift": table_from_rows("drift", [row])}, counts={"recordings": len(change.after)})
    entry = lake.commit(index, op="drift", key=change.comparison_id, plan=lambda: draft, started_at=started_at)
    return None if entry is None else ComparedModel(reference, found, len(change.after))


def _compared(lake: Lake, index: Index, change: Change) -> ModelChange:
    before, after = (rows_of(lake, index, "predictions", answers) for answers in (change.before, change.after))
    given = [rows_of(lake, index, "descriptors", answers).select(SPAN) for answers in (change.before, change.after)]
    if given[0].height and given[0].equals(given[1]):
        asked = given[1].select(PLACE)
    else:  # it is not given utterances, or cuts them otherwise by now: recordings are compared as a whole
        before, after, asked = _whole(before), _whole(after), _recordings(change.after)
    return model_change(
        change.model, change.before_version, change.after_version, before=before, after=after, asked=asked
    )


def _whole(found: pl.DataFrame) -> pl.DataFrame:
    return found.with_columns(channel=pl.lit(0, pl.Int16), utterance=pl.lit(0, pl.Int32))


def _recordings(answers: Sequence[AnswerOf]) -> pl.DataFrame:
    return _whole(pl.DataFrame({RECORDING: [one.file_id.bytes for one in answers]}, {RECORDING: pl.Binary}))
