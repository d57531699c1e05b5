"""What clients may ask of files in a query: names, limits and descriptions of every parameter."""

import re
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import Query
from pydantic import AwareDatetime, BaseModel, BeforeValidator, Field

MAX_LIMIT: Final = 1000

_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+ -]\d\d:\d\d)", re.ASCII)


def _time(value: Any) -> Any:
    """Return a time as RFC 3339 writes it; a `+` that was not encoded has come as a space."""
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        raise ValueError("should be a time of RFC 3339 with its offset, for example 2026-01-31T12:00:00Z")
    return value[:19] + value[19:].replace(" ", "+")


MinConfidence = Annotated[
    float | None,
    Field(
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Show detections from this confidence on. Default: MODEL_CONFIDENCE_THRESHOLD.",
    ),
]
Confidences = Annotated[bool, Field(description="`false` leaves the detections out; the field is absent then.")]
WithTranscript = Annotated[bool, Field(description="Add the text of each utterance.")]
Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT, description="How many at most, from 1 to 1000.")]


class ShownQuery(BaseModel):
    """What is shown of a file."""

    min_confidence: MinConfidence = None
    transcript: WithTranscript = False
    confidences: Confidences = True


class FileQuery(ShownQuery):
    """What is shown of one file."""

    reference: UUID | None = Field(
        None, description="Show what this reference said. Default: the latest. 410: it is not kept any more."
    )


class FilesQuery(ShownQuery):
    """Which files, and what is shown of them. Filters may be combined: a file is there if all of them let it."""

    limit: Limit | None = Field(
        None,
        ge=1,
        le=MAX_LIMIT,
        description="A page of this many at most, from 1 to 1000; fewer where they have very much to show. "
        "Default: all, in one array.",
        examples=[100],
    )
    after: UUID | None = Field(None, description="Only files with a higher id: of the last file of the page before.")
    name: str | None = Field(
        None, min_length=1, max_length=255, description="A part of the name that is shown, whatever its case."
    )
    status: Literal["pending", "accepted", "held", "rejected"] | None = Field(
        None, description="Only files in this state."
    )
    model: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="Only files of which the reference that is shown has an answer of this model, and only its "
        "detections and texts. 404: there is no such model.",
    )
    utterance: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="Only files in which exactly this phrase or label was detected, by `model` where that is given, "
        "with `min_confidence` at least; and only those detections.",
    )
    since: Annotated[AwareDatetime, BeforeValidator(_time)] | None = Field(
        None,
        description="Only files that were ingested or predicted since this time (RFC 3339, with its offset).",
        examples=["2026-01-31T12:00:00Z"],
    )
    reference: UUID | None = Field(
        None,
        description="Only the files of this reference, with what it said. 404: there is none; 410: it is not kept "
        "any more.",
    )


FileOf = Annotated[FileQuery, Query()]
FilesOf = Annotated[FilesQuery, Query()]
