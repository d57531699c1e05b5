"""What clients get of references: the names and types of these answers, and how rows become them."""

from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

import pyarrow as pa
from pydantic import BaseModel, Field

from api.answers import utc
from storage.drift import Outcome
from storage.history import FileAnswer, Reference

State = Literal["published", "held", "rejected", "expired"]
DriftVerdict = Literal["drift", "no_drift", "insufficient"]
ID_SHOWN: Final = "30fcad1d-e0db-56eb-bddf-1151ff4512e4"
FILE_ID_SHOWN: Final = "e5a26b3d-29e5-b0bc-8dbd-72c11d16a380"
_URL: Final = "http://localhost:8000/api"


class ReferenceModel(BaseModel):
    """A model of the group that a reference was made with."""

    name: str = Field(description="Its name in the group.", examples=["moonshine-tiny-en"])
    version: str = Field(
        description="A hash of its weights and of every setting that changes what it finds.", examples=["3bc1971806bf"]
    )
    task: str = Field(description="What it does.", examples=["phrases"])
    enabled: bool = Field(description="Whether it was asked.", examples=[True])
    settings: dict[str, Any] = Field(description="Its settings then.", examples=[{"phrases": ["call", "is"]}])


class ReferenceAnswer(BaseModel):
    """A reference: what one refresh said of its recordings."""

    id: UUID = Field(description="Its id.", examples=[ID_SHOWN])
    state: State = Field(
        description="`published`: what it says is shown, until a newer one says something of the same recording. "
        "`held`: it waits for a decision, and can be read by its id. `rejected`: it never will be shown. "
        "`expired`: it is not kept any more, and only listed where `state=expired` asks.",
        examples=["published"],
    )
    started_at: datetime = Field(description="When the refresh began.", examples=["2026-01-05T09:30:00.125000Z"])
    finished_at: datetime = Field(description="When it was committed.", examples=["2026-01-05T09:30:41.375000Z"])
    seconds: float = Field(description="How long that took.", examples=[41.25])
    models: list[ReferenceModel] = Field(description="The model group that it was made with, by name.")
    counts: dict[str, float] = Field(
        description="What the refresh counted: recordings (`files`), rows by table, `failures`, and the seconds of "
        "audio that were scored (`audio_s`).",
        examples=[{"files": 6, "predictions": 41, "audio_s": 63.125}],
    )
    drift: DriftVerdict | None = Field(
        description="What the windows of its recordings say; null while none of them is closed. `/api/drift` has them.",
        examples=["no_drift"],
    )
    url: str = Field(description="This answer.", examples=[f"{_URL}/references/{ID_SHOWN}"])
    predictions_url: str = Field(
        description="All its predictions.", examples=[f"{_URL}/references/{ID_SHOWN}/predictions"]
    )


class ReferencePrediction(BaseModel):
    """A detection in one recording of a reference. As Parquet and Arrow, columns have the same names."""

    file_id: UUID = Field(description="The recording; a string in Parquet and Arrow, too.", examples=[FILE_ID_SHOWN])
    utterance: str = Field(description="The phrase or label.", examples=["ever failed"])
    time: float = Field(description="Its start, in seconds from the start of the recording.", examples=[1.84])
    end: float = Field(description="Its end, likewise.", examples=[2.78])
    channel: int = Field(description="From 0.", examples=[0])
    confidence: float = Field(description="From 0 to 1.", examples=[0.9992])
    model: str = Field(description="The model that detected it.", examples=["moonshine-tiny-en"])
    model_version: str = Field(description="Its version.", examples=["3bc1971806bf"])


class ModelAnswerInReference(BaseModel):
    """How one model answered for a recording."""

    model: str = Field(description="Its name.", examples=["moonshine-tiny-en"])
    model_version: str = Field(description="Its version.", examples=["3bc1971806bf"])
    state: Literal["computed", "carried", "failed"] = Field(
        description="`carried`: taken over from an older reference.", examples=["computed"]
    )
    reason: str | None = Field(description="Why it failed.", examples=[None])
    tries: int = Field(description="How often it was tried and failed.", examples=[0])
    predictions: int = Field(description="How many detections it found, whatever their confidence.", examples=[4])
    first_reference: UUID | None = Field(description="The reference that it was computed in.", examples=[ID_SHOWN])


class HistoryEntry(BaseModel):
    """A reference that answered for a recording."""

    reference: UUID = Field(description="Its id.", examples=[ID_SHOWN])
    state: State = Field(
        description="As in `/api/references`; `expired` only while it is the recording's latest.",
        examples=["published"],
    )
    latest: bool = Field(description="What the recording shows.", examples=[True])
    finished_at: datetime = Field(description="When it was committed.", examples=["2026-01-05T09:30:41.375000Z"])
    url: str = Field(
        description="The recording with what this reference said.",
        examples=[f"{_URL}/files/{FILE_ID_SHOWN}?reference={ID_SHOWN}"],
    )
    models: list[ModelAnswerInReference] = Field(description="Each model's answer, by name.")


PREDICTION_ROWS: Final = pa.schema(
    [
        ("file_id", pa.string()),
        ("utterance", pa.string()),
        ("time", pa.float64()),
        ("end", pa.float64()),
        ("channel", pa.int16()),
        ("confidence", pa.float64()),
        ("model", pa.string()),
        ("model_version", pa.string()),
    ]
)
"""The columns of `ReferencePrediction`, in the order that clients get them in."""


def reference_answer(found: Reference, drift: Outcome | None, base_url: str) -> dict[str, Any]:
    """Return a reference as clients get it; `drift` is what its windows say."""
    url = f"{base_url}/api/references/{found.reference}"
    return {
        "id": found.reference,
        "state": found.state,
        "started_at": utc(found.started_at),
        "finished_at": utc(found.committed_at),
        "seconds": round((found.committed_at - found.started_at).total_seconds(), 3),
        "models": [
            {
                "name": model.name,
                "version": model.version,
                "task": model.task,
                "enabled": model.enabled,
                "settings": dict(model.settings),
            }
            for model in found.models
        ],
        "counts": dict(found.counts),
        "drift": drift,
        "url": url,
        "predictions_url": f"{url}/predictions",
    }


def prediction_rows(block: pa.Table) -> pa.Table:
    """Return rows of the table `predictions` in the columns of PREDICTION_ROWS."""
    columns = [
        _texts(block["file_id"]),
        *(block[name] for name in ("label", "start_s", "end_s", "channel", "confidence", "model", "model_version")),
    ]
    return pa.Table.from_arrays(columns, schema=PREDICTION_ROWS)


def _texts(ids: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return UUIDs as text, each of them made once."""
    chunks = []
    for chunk in ids.chunks:
        encoded = chunk.storage.cast(pa.binary()).dictionary_encode()
        texts = pa.array([str(UUID(bytes=one)) for one in encoded.dictionary.to_pylist()], pa.string())
        chunks.append(texts.take(encoded.indices))
    return pa.chunked_array(chunks, pa.string())


def history_answer(file_id: UUID, found: FileAnswer, base_url: str) -> dict[str, Any]:
    """Return what one reference said of a recording, as clients get it."""
    url = f"{base_url}/api/files/{file_id}"
    return {
        "reference": found.reference,
        "state": found.state,
        "latest": found.is_latest,
        "finished_at": utc(found.committed_at),
        "url": url if found.is_expired else f"{url}?reference={found.reference}",
        "models": [
            {
                "model": answer.model,
                "model_version": answer.version,
                "state": answer.state,
                "reason": answer.reason,
                "tries": answer.tries,
                "predictions": answer.predictions or 0,
                "first_reference": answer.first_reference,
            }
            for answer in found.models
        ],
    }
