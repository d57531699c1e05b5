"""What clients get: the names and types of every answer, and how rows become them."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

import orjson
from fastapi import Response
from pydantic import BaseModel, Field

from storage.inbox import Receipt
from storage.recordings import Prediction, Recording, Utterance


class JSON(Response):
    """JSON by orjson, which writes UUIDs and times as they are."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return `content` as JSON."""
        return orjson.dumps(content, default=_plain)


class Confidence(BaseModel):
    """A phrase or label that a model detected."""

    utterance: str = Field(description="The phrase or label.", examples=["call"])
    time: float = Field(description="Its start, in seconds from the start of the recording.", examples=[1.42])
    end: float = Field(description="Its end, likewise.", examples=[1.71])
    channel: int = Field(description="From 0.")
    confidence: float = Field(description="From 0 to 1.", examples=[0.97])
    model: str
    model_version: str


class Transcript(BaseModel):
    """An utterance and the text that a model read in it."""

    time: float
    end: float
    channel: int
    text: str | None
    model: str
    model_version: str


class File(BaseModel):
    """A recording with the predictions of its latest reference, and no others."""

    id: UUID
    file: str = Field(description="The earliest name that it arrived under.", examples=["call-17.wav"])
    status: Literal["pending", "accepted", "rejected"]
    reason: str | None = Field(None, description="Why it was rejected.")
    duration: float | None = Field(description="In seconds.", examples=[12.5])
    sample_rate: int | None = Field(description="In Hz.")
    channels: int | None
    format: str | None = Field(examples=["WAV/PCM_16"])
    size: int = Field(description="In bytes.")
    demo: bool
    ingested_at: datetime | None
    reference: UUID | None = Field(description="Its latest refresh; null until the first.")
    predicted_at: datetime | None
    url: str
    confidences: list[Confidence]
    transcript: list[Transcript] | None = Field(None, description="Only where `transcript=true` asked for it.")


class Model(BaseModel):
    """A model of the group."""

    name: str
    version: str
    task: str = Field(examples=["phrases"])
    enabled: bool
    available: bool | None = Field(description="Whether it could be loaded; null while it has not been tried.")
    reason: str | None = Field(description="Why it could not be loaded; it is tried again every 15 minutes.")
    since: datetime | None = Field(description="Since when that is so.")


class Upload(BaseModel):
    """An acknowledged upload: its bytes are stored durably."""

    message: str
    id: UUID
    file: str
    status: Literal["pending", "accepted", "rejected"]
    url: str


class UploadToS3(Upload):
    """An acknowledged upload that lies in the bucket as well."""

    s3_url: str = Field(description="Its object: below `S3_BUCKET_URL` where that is set, else `s3://...`.")


def file_answer(
    recording: Recording, base_url: str, found: Iterable[Prediction], said: Iterable[Utterance] | None
) -> dict[str, Any]:
    """Return a recording as clients get it."""
    answer: dict[str, Any] = {
        "id": recording.file_id,
        "file": recording.name,
        "status": recording.status,
        "duration": _seconds(recording.duration_s),
        "sample_rate": recording.sample_rate,
        "channels": recording.channels,
        "format": recording.format,
        "size": recording.size_bytes,
        "demo": recording.demo,
        "ingested_at": utc(recording.ingested_at),
        "reference": recording.reference,
        "predicted_at": utc(recording.predicted_at),
        "url": f"{base_url}/api/files/{recording.file_id}",
        "confidences": [confidence_answer(prediction) for prediction in found],
    }
    if recording.reason is not None:
        answer["reason"] = recording.reason
    if said is not None:
        answer["transcript"] = [transcript_answer(utterance) for utterance in said]
    return answer


def pending_answer(receipt: Receipt, base_url: str, *, transcript: bool) -> dict[str, Any]:
    """Return an upload that is not ingested yet, as clients get it."""
    answer: dict[str, Any] = {
        "id": receipt.file_id,
        "file": receipt.name,
        "status": "pending",
        "duration": None,
        "sample_rate": None,
        "channels": None,
        "format": None,
        "size": receipt.size_bytes,
        "demo": False,
        "ingested_at": None,
        "reference": None,
        "predicted_at": None,
        "url": f"{base_url}/api/files/{receipt.file_id}",
        "confidences": [],
    }
    return answer | {"transcript": []} if transcript else answer


def confidence_answer(prediction: Prediction) -> dict[str, Any]:
    """Return a detection as clients get it."""
    return {
        "utterance": prediction.label,
        "time": prediction.start_s,
        "end": prediction.end_s,
        "channel": prediction.channel,
        "confidence": prediction.confidence,
        "model": prediction.model,
        "model_version": prediction.model_version,
    }


def transcript_answer(utterance: Utterance) -> dict[str, Any]:
    """Return an utterance as clients get it."""
    return {
        "time": _seconds(utterance.start_s),
        "end": _seconds(utterance.end_s),
        "channel": utterance.channel,
        "text": utterance.text,
        "model": utterance.model,
        "model_version": utterance.model_version,
    }


def _seconds(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def utc(value: datetime | None) -> datetime | None:
    """Return a time with UTC's offset."""
    return None if value is None else value.astimezone(UTC)


def _plain(value: object) -> object:
    if isinstance(value, str):  # a subclass of str
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON")
