"""GET /api/history: what references said of one recording, newest first."""

from fastapi import APIRouter

from api.answers import JSON
from api.dependencies import ServiceDep
from api.known import FileId, known
from api.problems import GoneProblem, NotFoundProblem, problems
from api.reference_answers import HistoryEntry, history_answer
from api.routing import reads
from storage.history import as_it_is_now, file_history

router = APIRouter(prefix="/api/history", tags=["references"])


@reads(
    router,
    "/{file_id}",
    tagged=False,
    response_model=list[HistoryEntry],
    summary="What references said of one recording",
    responses=problems(NotFoundProblem, GoneProblem),
)
def get_history(service: ServiceDep, file_id: FileId) -> JSON:
    """Every reference that is kept and answered for the recording, newest first, with each model's answer.

    Empty before the first one, and for rejected recordings.
    """
    recording = known(service, file_id)
    found = as_it_is_now(service.index, lambda: file_history(service.index, recording.file_id))
    return JSON([history_answer(recording.file_id, one, service.settings.public_url) for one in found])
