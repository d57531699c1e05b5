"""GET /api/drift: the windows of new recordings that were tested, newest first, and what each test said."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request

from api.answers import JSON
from api.dependencies import Service, ServiceDep
from api.drift_answers import ReferenceDriftAnswer, WindowAnswer, reference_drift_answer, window_answer
from api.paging import next_link
from api.problems import GoneProblem, NotFoundProblem, problems
from api.references import ReferenceInPath, asked_for
from api.routing import reads
from storage.drift import Outcome, Window, count_waiting, is_drifting, verdicts, window, windows, windows_of_reference
from storage.history import as_it_is_now

router = APIRouter(prefix="/api/drift", tags=["drift"])


@reads(
    router,
    "",
    tagged=False,
    paged=True,
    response_model=list[WindowAnswer],
    summary="List windows and changes of models",
    responses=problems(NotFoundProblem),
)
def list_windows(
    service: ServiceDep,
    request: Request,
    limit: Annotated[int, Query(ge=1, le=1000, description="How many at most.")] = 100,
    after: Annotated[
        UUID | None, Query(description="Only older ones than this: the last one of the page before.")
    ] = None,
    verdict: Annotated[Outcome | None, Query(description="Only those that say this.")] = None,
) -> JSON:
    """Windows that are closed, and comparisons of two versions of a model, newest first; `Link` leads to the next page.

    A window is tested once, when it closes. Whether there is drift now, `/api/drift/latest` says.
    """
    service.index.catch_up()

    def read() -> list[Window]:
        with service.index.at_once():
            before = None if after is None else _seq_of(service, after)
            return windows(service.index, limit=limit + 1, before_seq=before, verdict=verdict)

    found = as_it_is_now(service.index, read)
    shown, base_url = found[:limit], service.settings.public_url
    more = next_link(request, base_url, after=shown[-1].window_id) if len(found) > limit else None
    return JSON([window_answer(one, base_url) for one in shown], headers=more)


@reads(
    router,
    "/{reference}",
    tagged=False,
    response_model=ReferenceDriftAnswer,
    summary="Drift in the recordings of one reference",
    responses=problems(NotFoundProblem, GoneProblem),
)
def get_drift(service: ServiceDep, reference: ReferenceInPath) -> JSON:
    """The windows that a reference's recordings came in, what became of its models, and whether there is drift now.

    A recording comes in the first reference that answers for it, held ones too.
    """
    found = asked_for(service, reference)
    index, base_url = service.index, service.settings.public_url

    def read() -> JSON:
        with index.at_once():
            answer = reference_drift_answer(
                found,
                verdicts(index, {found.reference: found.seq}).get(found.reference),
                windows_of_reference(index, found.reference, found.seq),
                waiting=count_waiting(index, seq=found.seq),
                drifting=is_drifting(index),
                base_url=base_url,
            )
        return JSON(answer)

    return as_it_is_now(index, read)


def _seq_of(service: Service, window_id: UUID) -> int:
    found = window(service.index, window_id)
    if found is None:
        raise NotFoundProblem(
            f"No window has the id {window_id}: {service.settings.public_url}/api/drift lists all that there are"
        )
    return found.seq
