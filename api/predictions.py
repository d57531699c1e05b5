"""GET /api/references/{reference}/predictions: all that one reference found, as JSON, Parquet or Arrow.

However many there are, a block of them at a time is in memory.
"""

import itertools
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from api import etags
from api.dependencies import ServiceDep
from api.formats import FORMATS, Format, FormatName, chosen
from api.known import require_not_erased
from api.problems import GoneProblem, NotAcceptableProblem, NotFoundProblem, problems
from api.reference_answers import PREDICTION_ROWS, ReferencePrediction, prediction_rows
from api.references import ReferenceInPath, asked_for
from api.routing import reads
from storage.blocks import ReferenceState, Wanted, prediction_blocks, reference_state

router = APIRouter(prefix="/api/references", tags=["references"])

_BINARY: Final = {"schema": {"type": "string", "format": "binary"}}
_HEADERS: Final = {
    "ETag": "Stays until a recording is erased: a reference never says anything else.",
    "Content-Disposition": "A name for the file.",
    "Vary": "The answer depends on `Accept`.",
}
_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The predictions, in the order in which they are stored: not that of time.",
        "content": {each.media_type: _BINARY for name, each in FORMATS.items() if name != "json"},
        "headers": {name: {"description": said, "schema": {"type": "string"}} for name, said in _HEADERS.items()},
    },
}


@reads(
    router,
    "/{reference}/predictions",
    response_model=list[ReferencePrediction],
    summary="All predictions of one reference",
    responses=_RESPONSES | problems(NotFoundProblem, NotAcceptableProblem, GoneProblem),
)
def get_reference_predictions(
    service: ServiceDep,
    request: Request,
    reference: ReferenceInPath,
    *,
    model: Annotated[str | None, Query(description="Only of this model.", examples=["callscene"])] = None,
    utterance: Annotated[str | None, Query(description="Only this phrase or label.", examples=["call"])] = None,
    min_confidence: Annotated[
        float,
        Query(ge=0, le=1, description="Only from this confidence on. Default: every one that is stored."),
    ] = 0,
    file_id: Annotated[UUID | None, Query(description="Only of this recording.")] = None,
    as_format: Annotated[
        FormatName | None,
        Query(alias="format", description="For links, which cannot set `Accept`: this format, whatever it says."),
    ] = None,
) -> Response:
    """Everything that a reference found, published or not, but for recordings that were erased since.

    JSON, or by `Accept` Parquet (`application/vnd.apache.parquet`) or an Arrow IPC stream
    (`application/vnd.apache.arrow.stream`).
    """
    format_ = chosen(as_format, ", ".join(request.headers.getlist("accept")))
    found = asked_for(service, reference).reference
    require_not_erased(service, file_id)
    wanted = Wanted(model, utterance, min_confidence, file_id)
    state = reference_state(service.index, found)
    # Weak: maintenance may change the order.
    etag = etags.weak(etags.VERSION, state.reference.reference, state.erased_seq, wanted, format_.media_type)
    headers = etags.tagged(etag) | _headers(state, format_)
    if (unchanged := etags.not_modified(request, etag)) is not None:
        unchanged.headers["Vary"] = "Accept"
        return unchanged
    rows = (prediction_rows(block) for block in prediction_blocks(service.lake, service.index, found, wanted))
    schema = PREDICTION_ROWS.with_metadata({"reference": str(found)})
    chunks = format_.write(rows, schema)
    first = next(chunks)  # what is wrong with the reference shows before the answer begins
    return StreamingResponse(itertools.chain([first], chunks), media_type=format_.media_type, headers=headers)


def _headers(state: ReferenceState, format_: Format) -> dict[str, str]:
    name = f"reference-{state.reference.reference}{format_.suffix}"
    return {
        "Vary": "Accept",
        "Content-Disposition": f'{"inline" if format_.inline else "attachment"}; filename="{name}"',
    }
