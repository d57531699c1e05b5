"""DELETE /api/files/{file_id}: a recording goes, with everything that was made of it."""

import uuid

from fastapi import APIRouter

from api.answers import JSON, Erasure
from api.dependencies import ServiceDep
from api.known import FileId, known
from api.problems import GoneProblem, NotFoundProblem, problems
from api.trigger import ERASE
from storage.erasure import erase

router = APIRouter(prefix="/api/files", tags=["files"])


@router.delete("/{file_id}", status_code=202, response_model=Erasure, responses=problems(NotFoundProblem, GoneProblem))
@router.delete("/{file_id}/", include_in_schema=False)
def erase_file(service: ServiceDep, file_id: FileId) -> JSON:
    """Erase a recording for good, pending or not.

    From then on no route shows it, its bytes are not taken in again, and every request for it is answered with 410,
    another DELETE as well: so a client that never got the first answer learns what it wants to know.
    """
    id_ = known(service, file_id).file_id
    # A key from chance: what makes a repeated call harmless is that nothing is planned for what is erased, and a key
    # from the id would keep a recording that was lifted from ever being erased again.
    if erase(service.lake, service.index, [id_], uuid.uuid4()) is None:
        raise GoneProblem(f"The file {id_} was erased before")
    service.trigger.pull(ERASE)
    answer = {
        "message": "Erased: nothing shows it any more, and its bytes are not taken in again. What is stored of it is "
        "removed by a run of `maintain` that was asked for, or else by the daily one, which also goes on with what a "
        "run under way may need.",
        "id": id_,
        "status": "erased",
    }
    return JSON(answer, status_code=202)
