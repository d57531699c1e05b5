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
        return encoded(content)


def encoded(content: Any) -> bytes:
    """Return `content` as JSON."""
    return orjson.dumps(content, default=_plain, option=orjson.OPT_UTC_Z)


class Confidence(BaseModel):
    """A phrase or label that a model detected."""

    utterance: str = Field(description="The phrase or label.", examples=["call"])
    time: float = Field(description="Its start, in seconds from the start of the recording.", examples=[1.42])
    end: float = Field(description="Its end, likewise.", examples=[1.71])
    channel: int = Field(description="From 0.", examples=[0])
    confidence: float = Field(description="From 0 to 1.", examples=[0.97])
    model: str = Field(description="The model that detected it.", examples=["moonshine-tiny-en"])
    model_version: str = Field(description="Its version.", examples=["3bc1971806bf"])


class Transcript(BaseModel):
    """An utterance and the text that a model read in it."""

    time: float = Field(description="Its start, in seconds from the start of the recording.", examples=[0.152])
    end: float = Field(description="Its end, likewise.", examples=[5.8])
    channel: int = Field(description="From 0.", examples=[0])
    text: str | None = Field(description="What was read.", examples=["Ever tried, ever failed."])
    model: str = Field(description="The model that read it.", examples=["moonshine-tiny-en"])
    model_version: str = Field(description="Its version.", examples=["3bc1971806bf"])


class File(BaseModel):
    """A recording with the predictions of its latest reference, and no others."""

    id: UUID = Field(description="Its id, made from its content.", examples=["e5a26b3d-29e5-b0bc-8dbd-72c11d16a380"])
    file: str = Field(description="The earliest name that it arrived under.", examples=["call-17.wav"])
    status: Literal["pending", "accepted", "held", "rejected"] = Field(
        description="`pending`: acknowledged, and not ingested yet. `held`: only references that are held back "
        "have answered for it so far, and somebody has to decide.",
        examples=["accepted"],
    )
    reason: str | None = Field(None, description="Why it was rejected.")
    duration: float | None = Field(description="In seconds.", examples=[12.5])
    sample_rate: int | None = Field(description="In Hz.")
    channels: int | None = Field(description="How many.", examples=[2])
    format: str | None = Field(description="Container and codec.", examples=["WAV/PCM_16"])
    size: int = Field(description="In bytes.")
    demo: bool = Field(description="Whether it came with Audiophile.", examples=[False])
    ingested_at: datetime | None = Field(description="When it was accepted or rejected.")
    reference: UUID | None = Field(
        description="Its latest refresh, or the one that was asked for; null until the first."
    )
    predicted_at: datetime | None = Field(description="When that was committed.")
    url: str = Field(description="This answer.")
    confidences: list[Confidence] | None = Field(
        None,
        description="What was detected, by channel and time. Absent only where `confidences=false` asked for that.",
    )
    transcript: list[Transcript] | None = Field(None, description="Only where `transcript=true` asked for it.")


class Hit(BaseModel):
    """An utterance whose text has the words that were asked for."""

    id: UUID = Field(description="The recording's.", examples=["e5a26b3d-29e5-b0bc-8dbd-72c11d16a380"])
    file: str = Field(description="The recording's name.", examples=["beckett.wav"])
    url: str = Field(
        description="The recording.",
        examples=["http://localhost:8000/api/files/e5a26b3d-29e5-b0bc-8dbd-72c11d16a380"],
    )
    channel: int = Field(description="From 0.", examples=[0])
    time: float = Field(description="The utterance's start, in seconds.", examples=[0.152])
    end: float = Field(description="Its end, likewise.", examples=[5.8])
    text: str = Field(description="What was read.", examples=["Ever tried, ever failed, no matter, try again."])
    model: str = Field(description="The model that read it.", examples=["moonshine-tiny-en"])
    model_version: str = Field(description="Its version.", examples=["3bc1971806bf"])
    reference: UUID = Field(
        description="The recording's latest refresh.", examples=["30fcad1d-e0db-56eb-bddf-1151ff4512e4"]
    )


class Model(BaseModel):
    """A model of the group."""

    name: str = Field(description="Its name in the group.", examples=["moonshine-tiny-en"])
    version: str = Field(
        description="A hash of its weights and of every setting that changes what it finds.", examples=["3bc1971806bf"]
    )
    task: str = Field(description="What it does.", examples=["phrases"])
    enabled: bool = Field(description="Whether it is asked.", examples=[True])
    available: bool | None = Field(description="Whether it could be loaded; null while it has not been tried.")
    reason: str | None = Field(description="Why it could not be loaded; it is tried again every 15 minutes.")
    since: datetime | None = Field(description="Since when that is so.")


class Upload(BaseModel):
    """An acknowledged upload: its bytes are stored durably."""

    message: str = Field(description="What happens next.", examples=["Known already."])
    id: UUID = Field(description="Its id, made from its content.", examples=["e5a26b3d-29e5-b0bc-8dbd-72c11d16a380"])
    file: str = Field(description="The name that it came with.", examples=["call-17.wav"])
    status: Literal["pending", "accepted", "held", "rejected"] = Field(
        description="`pending`: not ingested yet.", examples=["pending"]
    )
    url: str = Field(description="Where its predictions will be.")


class Erasure(BaseModel):
    """An erased recording: nothing shows it any more."""

    message: str = Field(description="What happens next.")
    id: UUID = Field(description="The id that it had.", examples=["e5a26b3d-29e5-b0bc-8dbd-72c11d16a380"])
    status: Literal["erased"] = Field(description="From now on every request for it is answered with 410.")


class UploadToS3(Upload):
    """An acknowledged upload that lies in the bucket as well."""

    s3_url: str = Field(description="Its object: below `S3_BUCKET_URL` where that is set, else `s3://...`.")


class Alive(BaseModel):
    """The process answers."""

    status: Literal["alive"] = Field(description="Nothing else is ever said.")


class Ready(BaseModel):
    """The index follows the log."""

    status: Literal["ready"] = Field(description="Nothing else: 503 otherwise.")
    applied_seq: int = Field(description="The last log entry whose rows the index has.", examples=[12])
    entries_behind: int = Field(description="Log entries that it lacks.", examples=[0])
    seconds_behind: float = Field(description="Since it was last seen to have the whole log.", examples=[0.118])


class Meaning(BaseModel):
    """A kind of problem."""

    type: str = Field(description="As errors have it.", examples=["/problems/gone"])
    title: str = Field(description="The kind in words.", examples=["Not kept any more"])
    status: int = Field(description="The HTTP status.", examples=[410])
    meaning: str = Field(
        description="What happened, and what can be done.", examples=["There was one, and it is not kept any more."]
    )


def file_answer(
    recording: Recording, base_url: str, found: Iterable[Prediction] | None, said: Iterable[Utterance] | None
) -> dict[str, Any]:
    """Return a recording as clients get it; without what is None."""
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
    }
    if found is not None:
        answer["confidences"] = [confidence_answer(prediction) for prediction in found]
    if recording.reason is not None:
        answer["reason"] = recording.reason
    if said is not None:
        answer["transcript"] = [transcript_answer(utterance) for utterance in said]
    return answer


def pending_answer(receipt: Receipt, base_url: str, *, confidences: bool, transcript: bool) -> dict[str, Any]:
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
    }
    return answer | ({"confidences": []} if confidences else {}) | ({"transcript": []} if transcript else {})


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
