"""GET /api/history: what references said of one recording, newest first."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path

from api.answers import JSON
from api.dependencies import ServiceDep
from api.problems import GoneProblem, NotFoundProblem, problems
from api.reference_answers import FILE_ID_SHOWN, HistoryEntry, history_answer
from storage.history import FileAnswer, as_it_is_now, file_history
from storage.recordings import recordings

router = APIRouter(prefix="/api/history", tags=["references"])


@router.get(
    "/{file_id}",
    response_model=list[HistoryEntry],
    summary="What references said of one recording",
    responses=problems(NotFoundProblem, GoneProblem),
)
@router.get("/{file_id}/", include_in_schema=False)
def get_history(
    service: ServiceDep,
    file_id: Annotated[UUID, Path(description="The recording.", examples=[FILE_ID_SHOWN])],
) -> JSON:
    """Every reference that is kept and answered for the recording, newest first, with each model's answer.

    Empty before the first one, and for rejected recordings.
    """
    is_waiting = bool(service.lake.inbox.receipts(file_id))  # before the index: what leaves the inbox is in it then
    service.index.catch_up()

    def read() -> list[FileAnswer]:
        with service.index.reading():
            if service.index.erased([file_id]):
                raise GoneProblem(f"The file {file_id} was erased")
            if not is_waiting and not recordings(service.index, file_id):
                listed = f"{service.settings.public_url}/api/files"
                raise NotFoundProblem(f"No file {str(file_id)!r}: those that are known are listed at {listed}")
            return file_history(service.index, file_id)

    found = as_it_is_now(service.index, read)
    return JSON([history_answer(file_id, one, service.settings.public_url) for one in found])
