"""What clients get of a diff: the names and types of this answer, and how changes become it."""

from collections.abc import Mapping
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from api.reference_answers import FILE_ID_SHOWN, ID_SHOWN
from storage.diff import Change, Diff, VersionChange
from storage.pairing import Detection

Why = Literal[
    "first_seen",
    "expired",
    "new_model",
    "removed_model",
    "failure",
    "carried",
    "changed_phrases",
    "changed_settings",
    "new_version",
    "computed_again",
]


class DetectionAnswer(BaseModel):
    """Where something was detected in one of the two references."""

    time: float = Field(description="Its start, in seconds from the start of the recording.", examples=[1.84])
    end: float = Field(description="Its end, likewise.", examples=[2.78])
    confidence: float = Field(description="From 0 to 1.", examples=[0.9992])


class ChangeAnswer(BaseModel):
    """A detection that is in one of two references only, or in both and not the same."""

    file_id: UUID = Field(description="The recording.", examples=[FILE_ID_SHOWN])
    model: str = Field(description="The model that detected it.", examples=["moonshine-tiny-en"])
    channel: int = Field(description="From 0.", examples=[0])
    utterance: str = Field(description="The phrase or label.", examples=["ever failed"])
    change: Literal["added", "gone", "changed"] = Field(description="What it is.", examples=["added"])
    why: Why = Field(description="Why; as in `reasons`.", examples=["changed_phrases"])
    a: DetectionAnswer | None = Field(description="As of `a`; null where it is `added`.")
    b: DetectionAnswer | None = Field(description="As of `b`; null where it is `gone`.")


class BothValues(BaseModel):
    """A setting in both versions; null where it has none."""

    a: Any = Field(description="Its value in `a`.", examples=[["call"]])
    b: Any = Field(description="Its value in `b`.", examples=[["call", "ever failed"]])


class VersionChangeAnswer(BaseModel):
    """A model that answers with another version."""

    model: str = Field(description="Its name.", examples=["moonshine-tiny-en"])
    version_a: str = Field(description="Its version as of `a`.", examples=["3bc1971806bf"])
    version_b: str = Field(description="Its version as of `b`.", examples=["9e107d9d372b"])
    why: Why = Field(description="What differs.", examples=["changed_phrases"])
    settings: dict[str, BothValues] = Field(description="The settings that differ, by name.")


class ChangeCounts(BaseModel):
    """How many predictions there are of each kind."""

    added: int = Field(description="In `b` only.", examples=[1])
    gone: int = Field(description="In `a` only.", examples=[0])
    changed: int = Field(description="In both, at another time or with another confidence.", examples=[2])
    unchanged: int = Field(description="The same in both.", examples=[38])


class DiffAnswer(BaseModel):
    """What has to happen to the predictions as of `a` for them to be those as of `b`."""

    a: UUID = Field(description="The one reference.", examples=[ID_SHOWN])
    b: UUID = Field(description="The other one.", examples=["8c0f5a3e-6f0e-5d6c-9d0b-3f4b8f2f7a11"])
    files: int = Field(description="How many recordings were compared.", examples=[6])
    counts: ChangeCounts = Field(description="Of all changes, whichever page this is.")
    reasons: dict[Why, int] = Field(
        description="How many changes have which reason, of all: `first_seen`: the recording had no answer yet; "
        "`expired`: what it had is not kept; `new_model`, `removed_model`: the model answers in one only; `failure`: "
        "it failed in one; `carried`: the newer one carries an older answer of another version; `changed_phrases`, "
        "`changed_settings`: of the model; `new_version`: of its weights or code; `computed_again`: by the same one.",
        examples=[{"changed_phrases": 3}],
    )
    versions: list[VersionChangeAnswer] = Field(description="Models that answer with another version.")
    changes: list[ChangeAnswer] = Field(description="A page of the changes, by recording, model, channel and label.")


def diff_answer(found: Diff, changes: list[Change]) -> dict[str, Any]:
    """Return a diff as clients get it, with a page of its changes."""
    return {
        "a": found.a.reference,
        "b": found.b.reference,
        "files": found.files,
        "counts": found.counts,
        "reasons": found.reasons,
        "versions": [_version(change) for change in found.versions],
        "changes": [_change(change) for change in changes],
    }


def _change(change: Change) -> dict[str, Any]:
    return {
        "file_id": change.file_id,
        "model": change.model,
        "channel": change.channel,
        "utterance": change.label,
        "change": change.change,
        "why": change.why,
        "a": _detection(change.a),
        "b": _detection(change.b),
    }


def _detection(found: Detection | None) -> Mapping[str, float] | None:
    return None if found is None else {"time": found.start_s, "end": found.end_s, "confidence": found.confidence}


def _version(change: VersionChange) -> dict[str, Any]:
    return {
        "model": change.model,
        "version_a": change.version_a,
        "version_b": change.version_b,
        "why": change.why,
        "settings": {name: {"a": a, "b": b} for name, (a, b) in change.settings.items()},
    }
