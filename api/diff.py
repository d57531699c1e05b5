"""GET /api/diff: what changed from one reference to another, and why."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request

from api.answers import JSON
from api.dependencies import ServiceDep
from api.diff_answers import DiffAnswer, diff_answer
from api.known import require_not_erased
from api.paging import next_link
from api.problems import GoneProblem, NotFoundProblem, problems
from api.reference_answers import FILE_ID_SHOWN, ID_SHOWN
from api.references import ReferenceName, asked_for
from api.routing import reads
from storage.diff import Change, diff

router = APIRouter(prefix="/api/diff", tags=["references"])

_A_PLACE = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.[1-9][0-9]{0,8}$"


@dataclass(frozen=True, slots=True, order=True)
class _Place:
    """Where a change is: the recording, and the change's number among its changes, from 1.

    So it stays what it is when other recordings are erased.
    """

    file_id: UUID
    number: int

    def __str__(self) -> str:
        return f"{self.file_id}.{self.number}"

    @classmethod
    def of(cls, text: str) -> "_Place":
        file_id, _, number = text.partition(".")
        return cls(UUID(file_id), int(number))


@reads(
    router,
    "/{a}/{b}",
    tagged=False,
    paged=True,
    response_model=DiffAnswer,
    summary="What changed between two references, and why",
    responses=problems(NotFoundProblem, GoneProblem),
)
def get_diff(
    service: ServiceDep,
    request: Request,
    a: Annotated[ReferenceName, Path(description="A reference, or `latest`.", examples=[ID_SHOWN])],
    b: Annotated[ReferenceName, Path(description="Another one, newer or older.", examples=["latest"])],
    file_id: Annotated[UUID | None, Query(description="Only of this recording, which need be in neither.")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000, description="How many changes at most; totals are whole.")] = 1000,
    after: Annotated[
        str | None,
        Query(
            pattern=_A_PLACE,
            description="Only what follows this place, a recording and a number, as `Link` has it.",
            examples=[f"{FILE_ID_SHOWN}.1"],
        ),
    ] = None,
) -> JSON:
    """Compares, of each recording in either one, its newest published answer as of `a` with the one as of `b`.

    A reference that is held, or was rejected, is compared with what it says itself. Every page compares anew.
    """
    one, another = (asked_for(service, name).reference for name in (a, b))
    require_not_erased(service, file_id)
    found = diff(service.lake, service.index, one, another, file_id)
    start = None if after is None else _Place.of(after)
    left = ((place, change) for place, change in _placed(found.changes) if start is None or place > start)
    page = list(itertools.islice(left, limit + 1))
    shown = page[:limit]
    more = next_link(request, service.settings.public_url, after=shown[-1][0]) if len(page) > limit else None
    return JSON(diff_answer(found, [change for _, change in shown]), headers=more)


def _placed(changes: Iterable[Change]) -> Iterable[tuple[_Place, Change]]:
    for file_id, of_one in itertools.groupby(changes, lambda change: change.file_id):
        for number, change in enumerate(of_one, 1):
            yield _Place(file_id, number), change
