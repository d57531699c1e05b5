"""GET /api/peaks/{file_id}: a recording's waveform for players. It must not know how it was made."""

import re
from typing import Annotated, Any, Final, Literal

import orjson
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from api import etags
from api.audio import ANY
from api.dependencies import ServiceDep
from api.known import FileId, Known, known
from api.problems import GoneProblem, NotFoundProblem, problems
from api.routing import reads
from storage.errors import StoreError
from storage.media import peaks_path
from storage.peaks import BITS, VERSION, Waveform, decode

MAX_POINTS: Final = 100_000

_ZERO: Final = re.compile(r"q=0(\.0{0,3})?")

router = APIRouter(prefix="/api/peaks", tags=["audio"])


class Peaks(BaseModel):
    """A waveform in audiowaveform's JSON, as players take it."""

    version: Literal[2] = Field(description="Of the format.")
    channels: int = Field(description="Of the recording.", examples=[1])
    sample_rate: int = Field(description="Of the recording, in Hz.", examples=[16_000])
    samples_per_pixel: int = Field(description="How many samples of a channel one pixel is of.", examples=[32_000])
    bits: Literal[8] = Field(description="Of a value.")
    length: int = Field(description="How many pixels there are.", examples=[5])
    data: list[Annotated[int, Field(ge=-128, le=127)]] = Field(
        description="Of each pixel and, in it, of each channel the least and the greatest sample, times 128.",
        examples=[[-20, 28, -20, 36, -17, 21, -18, 26, -24, 38]],
    )


@reads(
    router,
    "/{file_id}",
    response_model=Peaks,
    responses=problems(NotFoundProblem, GoneProblem)
    | {
        200: {
            "description": "The waveform: JSON, or audiowaveform's binary form (.dat) where `Accept` prefers it.",
            "content": {ANY: {"schema": {"type": "string", "format": "binary"}}},
            "headers": {"ETag": {"schema": {"type": "string"}}, "Vary": {"schema": {"type": "string"}}},
        }
    },
)
def get_peaks(
    service: ServiceDep,
    request: Request,
    file_id: FileId,
    points: Annotated[
        int | None,
        Query(ge=1, le=MAX_POINTS, description="The most pixels that are of use. Default: all that are kept."),
    ] = None,
) -> Response:
    """The least and greatest samples of a recording, pixel by pixel, as players draw them; made when it is taken in.

    With `points` it has that many pixels or a few less, each of a whole number of those that are kept.
    """
    found = known(service, file_id)
    content = service.lake.media.peaks(found.sha256)
    if content is None:
        raise NotFoundProblem(_why_not(found))
    try:
        waveform = decode(content)
    except ValueError as error:
        raise StoreError(
            f"{service.lake.store}: {peaks_path(found.sha256)} is damaged: {error}. Remove it; upload the recording "
            "again under another name to have it made anew"
        ) from error
    waveform = waveform.in_points(points or len(waveform.values))
    is_binary = _wants_binary(request)
    body = waveform.encode() if is_binary else _as_json(waveform)
    etag, vary = etags.strong(body), {"Vary": "Accept"}
    if (unchanged := etags.not_modified(request, etag)) is not None:
        unchanged.headers.update(vary)
        return unchanged
    return Response(body, media_type=ANY if is_binary else "application/json", headers=etags.tagged(etag) | vary)


def _as_json(waveform: Waveform) -> bytes:
    pixels, channels, _ = waveform.values.shape
    answer: dict[str, Any] = {
        "version": VERSION,
        "channels": channels,
        "sample_rate": waveform.sample_rate,
        "samples_per_pixel": waveform.samples_per_pixel,
        "bits": BITS,
        "length": pixels,
        "data": waveform.values.ravel(),
    }
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def _wants_binary(request: Request) -> bool:
    """Say whether `Accept` names the binary form; of a client that takes either, JSON is right."""
    accepted = {
        name.strip().lower()
        for each in ",".join(request.headers.getlist("accept")).split(",")
        for name, _, parameters in [each.partition(";")]
        if not _ZERO.fullmatch(parameters.strip())
    }
    return ANY in accepted and "application/json" not in accepted


def _why_not(found: Known) -> str:
    if found.status == "pending":
        return f"The file {found.file_id} is not taken in yet: its peaks come with the next run of ingest"
    if found.status == "rejected":
        return f"The file {found.file_id} was rejected and has no peaks: it {found.reason}"
    return (
        f"The file {found.file_id} was taken in before peaks were kept, or they were lost: upload it once more under "
        "another name, or copy it into the watched folder, and ingest makes them"
    )
