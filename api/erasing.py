"""DELETE /api/files/{file_id}: a recording goes, with everything that was made of it."""

import uuid
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path

from api.answers import JSON, Erasure
from api.dependencies import ServiceDep
from api.problems import GoneProblem, NotFoundProblem, problems, shown
from api.trigger import ERASE
from storage.erasure import erase
from storage.recordings import recordings

router = APIRouter(prefix="/api/files", tags=["files"])

ErasedId = Annotated[str, Path(description="The recording.", examples=["e5a26b3d-29e5-b0bc-8dbd-72c11d16a380"])]


@router.delete("/{file_id}", status_code=202, response_model=Erasure, responses=problems(NotFoundProblem, GoneProblem))
@router.delete("/{file_id}/", include_in_schema=False)
def erase_file(service: ServiceDep, file_id: ErasedId) -> JSON:
    """Erase a recording for good, pending or not.

    From then on no route shows it, its bytes are not taken in again, and every request for it is answered with 410,
    another DELETE as well: so a client that never got the first answer learns what it wants to know.
    """
    unknown = NotFoundProblem(f"No file {shown(file_id)}: there is nothing to erase")
    try:
        id_ = UUID(file_id)
    except ValueError:
        raise unknown from None
    gone = GoneProblem(f"The file {id_} was erased before")
    receipts = service.lake.inbox.receipts(id_)
    service.index.catch_up()
    if service.index.erased([id_]):
        raise gone
    if not receipts and not recordings(service.index, id_):
        raise unknown
    # A key from chance: what makes a repeated call harmless is that nothing is planned for what is erased, and a key
    # from the id would keep a recording that was lifted from ever being erased again.
    if erase(service.lake, service.index, [id_], uuid.uuid4()) is None:
        raise gone
    service.trigger.pull(ERASE)
    answer = {
        "message": "Erased: nothing shows it any more, and its bytes are not taken in again. What is stored of it is "
        "removed by a run of `maintain` that was asked for, or else by the daily one, which also goes on with what a "
        "run under way may need.",
        "id": id_,
        "status": "erased",
    }
    return JSON(answer, status_code=202)
