"""What clients get of drift: the names and types of these answers, and how rows become them."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from api.answers import utc
from api.reference_answers import ID_SHOWN, DriftVerdict, State
from storage.drift import BaselineRow, Outcome, TestRow, Window
from storage.history import Reference

WINDOW_ID_SHOWN: Final = "7c9e6679-7425-50de-944b-e07fc1f90ae7"
_URL: Final = "http://localhost:8000/api"


class BaselineAnswer(BaseModel):
    """What a window was compared with."""

    name: str = Field(description="Its name.", examples=["first"])
    version: int = Field(description="Of those with this name, from 1.", examples=[1])
    chosen: str = Field(description="How it was chosen, in words.", examples=["the first 300 utterances"])
    recordings: int = Field(description="How many it has.", examples=[52])
    utterances: int = Field(description="How many those have.", examples=[304])
    made_at: datetime = Field(description="When it was made.", examples=["2026-01-04T11:02:17.250000Z"])


class DriftTest(BaseModel):
    """What one test of a window said."""

    detector: Literal["ks", "mmd", "chi_square", "model_change"] = Field(
        description="`ks` of a descriptor, `mmd` of embeddings, `chi_square` of a category; `model_change`: a model of "
        "two versions on the same recordings.",
        examples=["ks"],
    )
    descriptor: str = Field(description="What was compared; of `model_change` the model.", examples=["bandwidth_hz"])
    statistic: float | None = Field(
        description="A KS distance, MMD², chi-square; of a changed model Cohen's kappa. Null: not tested.",
        examples=[0.62],
    )
    p_value: float | None = Field(description="Null: not tested.", examples=[2.1e-9])
    threshold: float | None = Field(
        description="The p-value below which it is drift: a share of the budget of false alarms.", examples=[1.1e-5]
    )
    effect: float | None = Field(
        description="The largest difference of probability, from 0 to 1. Null: this test has none.", examples=[0.62]
    )
    verdict: Outcome = Field(
        description="`insufficient`: too little data to say anything. `model_change` is never drift.",
        examples=["drift"],
    )
    reason: str | None = Field(description="Why it is insufficient.", examples=[None])
    details: dict[str, Any] | None = Field(
        description="More of it; of a changed model its two versions, and the numbers by label.", examples=[None]
    )


class WindowAnswer(BaseModel):
    """A closed window with what its tests said, or the comparison of two versions of a model."""

    id: UUID = Field(description="Its id.", examples=[WINDOW_ID_SHOWN])
    kind: Literal["window", "model_change"] = Field(
        description="`window`: new recordings were compared with a baseline. `model_change`: two versions of a model "
        "were compared on the same recordings.",
        examples=["window"],
    )
    verdict: Outcome = Field(
        description="Of a window `drift` where one of its tests says so, else `no_drift` where one does, else "
        "`insufficient`: too little data to say anything. Of a changed model always `model_change`.",
        examples=["drift"],
    )
    opened_at: datetime = Field(
        description="When its first recording was answered.", examples=["2026-01-05T08:11:03.500000Z"]
    )
    closed_at: datetime = Field(description="When it closed.", examples=["2026-01-05T09:30:41.375000Z"])
    closed_by: Literal["size", "age", "model_change"] = Field(
        description="`size`: it had DRIFT_WINDOW_UTTERANCES. `age`: it had been open for DRIFT_WINDOW_H.",
        examples=["size"],
    )
    recordings: int = Field(description="How many it has.", examples=[17])
    utterances: int = Field(description="How many those have.", examples=[102])
    reference: UUID = Field(description="The newest one that it has recordings of.", examples=[ID_SHOWN])
    reference_url: str = Field(description="That reference.", examples=[f"{_URL}/references/{ID_SHOWN}"])
    baseline: BaselineAnswer | None = Field(description="What it was compared with; null of a changed model.")
    tests: list[DriftTest] = Field(description="Each of its tests, what drifted and moved most first.")
    url: str = Field(
        description="All windows of its reference, this one among them.", examples=[f"{_URL}/drift/{ID_SHOWN}"]
    )


class ReferenceDriftAnswer(BaseModel):
    """What there is to say of drift in the recordings of one reference, and whether there is drift now."""

    reference: UUID = Field(description="Its id.", examples=[ID_SHOWN])
    state: State = Field(description="As in `/api/references`.", examples=["published"])
    verdict: DriftVerdict | None = Field(
        description="What its windows say together: `drift` where one does, else `no_drift` where one does, else "
        "`insufficient`. Null: none of its recordings is in a closed window. They wait for one, are in a baseline, "
        "came in an older reference, or are those of the demo.",
        examples=["drift"],
    )
    drifting: bool = Field(
        description="Whether there is drift now, whatever this reference says: the last window of all that said "
        "`drift` or `no_drift` said `drift`.",
        examples=[True],
    )
    waiting: int = Field(description="How many of its recordings wait for a window to close.", examples=[3])
    windows: list[WindowAnswer] = Field(description="The windows that its recordings came in, newest first.")
    model_changes: list[WindowAnswer] = Field(
        description="The models that had another version in it, compared on the same recordings, newest first."
    )
    url: str = Field(description="This answer.", examples=[f"{_URL}/drift/{ID_SHOWN}"])


def window_answer(found: Window, base_url: str) -> dict[str, Any]:
    """Return a window as clients get it."""
    return {
        "id": found.window_id,
        "kind": _kind(found),
        "verdict": found.verdict,
        "opened_at": utc(found.opened_at),
        "closed_at": utc(found.closed_at),
        "closed_by": found.closed_by,
        "recordings": found.recordings,
        "utterances": found.utterances,
        "reference": found.reference,
        "reference_url": f"{base_url}/api/references/{found.reference}",
        "baseline": None if found.baseline is None else _baseline(found.baseline),
        "tests": [_test(test) for test in found.tests],
        "url": f"{base_url}/api/drift/{found.reference}",
    }


def reference_drift_answer(
    reference: Reference,
    verdict: Outcome | None,
    windows: Iterable[Window],
    *,
    waiting: int,
    drifting: bool,
    base_url: str,
) -> dict[str, Any]:
    """Return what there is to say of one reference as clients get it."""
    windows = list(windows)
    return {
        "reference": reference.reference,
        "state": reference.state,
        "verdict": verdict,
        "drifting": drifting,
        "waiting": waiting,
        "windows": [window_answer(one, base_url) for one in windows if _kind(one) == "window"],
        "model_changes": [window_answer(one, base_url) for one in windows if _kind(one) == "model_change"],
        "url": f"{base_url}/api/drift/{reference.reference}",
    }


def _kind(found: Window) -> Literal["window", "model_change"]:
    return "model_change" if found.verdict == "model_change" else "window"


def _baseline(found: BaselineRow) -> dict[str, Any]:
    return {
        "name": found.name,
        "version": found.version,
        "chosen": found.chosen,
        "recordings": found.recordings,
        "utterances": found.utterances,
        "made_at": utc(found.made_at),
    }


def _test(found: TestRow) -> dict[str, Any]:
    return {
        "detector": found.detector,
        "descriptor": found.descriptor,
        "statistic": found.statistic,
        "p_value": found.p_value,
        "threshold": found.threshold,
        "effect": found.effect,
        "verdict": found.verdict,
        "reason": found.reason,
        "details": found.details,
    }
