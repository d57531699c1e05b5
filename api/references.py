"""GET /api/references: the refreshes that were committed, newest first, and what each of them was."""

from typing import Annotated, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request

from api.answers import JSON
from api.dependencies import Service, ServiceDep
from api.paging import next_link
from api.problems import GoneProblem, NotFoundProblem, problems
from api.reference_answers import ID_SHOWN, ReferenceAnswer, State, reference_answer
from api.routing import reads
from storage.drift import Outcome, verdicts
from storage.history import EXPIRED, STATES, Reference, as_it_is_now, newest, reference, references, seq_of

KEPT: Final = tuple(state for state in STATES if state != EXPIRED)

ReferenceName = UUID | Literal["latest"]
ReferenceInPath = Annotated[
    ReferenceName,
    Path(description="The id of a reference, or `latest`: the newest published one.", examples=[ID_SHOWN]),
]

router = APIRouter(prefix="/api/references", tags=["references"])


@reads(
    router,
    "",
    tagged=False,
    paged=True,
    response_model=list[ReferenceAnswer],
    summary="List references",
    responses=problems(NotFoundProblem),
)
def list_references(
    service: ServiceDep,
    request: Request,
    limit: Annotated[int, Query(ge=1, le=1000, description="How many at most.")] = 100,
    after: Annotated[
        UUID | None, Query(description="Only older ones than this: the last one of the page before.")
    ] = None,
    state: Annotated[
        State | None, Query(description="Only those in this state. Default: all that are kept, so not `expired`.")
    ] = None,
) -> JSON:
    """The refreshes that were committed, newest first; `Link` leads to the next page."""
    service.index.catch_up()

    def read() -> tuple[list[Reference], dict[UUID, Outcome]]:
        with service.index.at_once():
            before = None if after is None else seq_of(service.index, after)
            found = references(
                service.index, limit=limit + 1, before_seq=before, states=KEPT if state is None else (state,)
            )
            return found, verdicts(service.index, {one.reference: one.seq for one in found})

    found, drift = as_it_is_now(service.index, read)
    shown, base_url = found[:limit], service.settings.public_url
    more = next_link(request, base_url, after=shown[-1].reference) if len(found) > limit else None
    return JSON([reference_answer(one, drift.get(one.reference), base_url) for one in shown], headers=more)


@reads(
    router,
    "/{reference}",
    tagged=False,
    response_model=ReferenceAnswer,
    summary="One reference",
    responses=problems(NotFoundProblem, GoneProblem),
)
def get_reference(service: ServiceDep, reference: ReferenceInPath) -> JSON:
    """When a reference was made, with which models and settings, what it counted, and whether it is shown."""
    found = asked_for(service, reference)
    drift = as_it_is_now(service.index, lambda: verdicts(service.index, {found.reference: found.seq}))
    return JSON(reference_answer(found, drift.get(found.reference), service.settings.public_url))


def asked_for(service: Service, name: ReferenceName) -> Reference:
    """Return a reference that is kept, of an index that is caught up.

    Raises:
        UnknownReferenceError: There never was one.
        ExpiredReferenceError: It is not kept any more.
    """
    service.index.catch_up()

    def read() -> Reference:
        with service.index.at_once():
            return newest(service.index) if isinstance(name, str) else reference(service.index, name)

    return as_it_is_now(service.index, read)
