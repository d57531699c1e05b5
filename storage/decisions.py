"""What becomes of references that are held: each is released, or rejected, by a log entry of its own.

It must not know why. A rejected one may be released later; what is published stays so.
"""

import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

from storage.commit import Draft
from storage.errors import PublishedReferenceError
from storage.history import EXPIRED, HELD, PUBLISHED, REJECTED, state_of
from storage.index import Index
from storage.lake import Lake

Decision = Literal["release", "reject"]


def release(lake: Lake, index: Index, references: Iterable[UUID]) -> list[UUID]:
    """Publish references that are held, or were rejected.

    Args:
        lake: Where to.
        index: Any.
        references: Which, in the order of the entries to be. Those that are published already are left alone.

    Returns:
        Those that were not published before.

    Raises:
        UnknownReferenceError: There never was one of them; then none is released.
    """
    return _decide(lake, index, "release", references)


def reject(lake: Lake, index: Index, references: Iterable[UUID]) -> list[UUID]:
    """Reject references that are held: nobody ever sees them, and what they answered is missing again.

    Args:
        lake: Where to.
        index: Any.
        references: Which, in the order of the entries to be. Those that are rejected already are left alone.

    Returns:
        Those that were not rejected before.

    Raises:
        UnknownReferenceError: There never was one of them; then none is rejected.
        PublishedReferenceError: One of them is published; then none is rejected. Where it is published by others at
            this moment, those before it are.
    """
    return _decide(lake, index, "reject", references)


def _decide(lake: Lake, index: Index, decision: Decision, references: Iterable[UUID]) -> list[UUID]:
    started_at = datetime.now(UTC)
    index.catch_up()
    open_ones = [id_ for id_ in dict.fromkeys(references) if _is_open(index, decision, id_)]
    for id_ in open_ones:
        _commit(lake, index, decision, id_, started_at)
    return open_ones


def _commit(lake: Lake, index: Index, decision: Decision, id_: UUID, started_at: datetime) -> None:
    def plan() -> Draft | None:
        return Draft(reference=id_) if _is_open(index, decision, id_) else None

    lake.commit(index, op=decision, key=uuid.uuid5(id_, decision), plan=plan, started_at=started_at)


def _is_open(index: Index, decision: Decision, id_: UUID) -> bool:
    """Say whether a reference may still be decided on in this way, and has not been.

    Raises:
        UnknownReferenceError: There never was such a reference.
        PublishedReferenceError: It is to be rejected, and published.
    """
    state = state_of(index, id_)
    if decision == "reject" and state in (PUBLISHED, EXPIRED):  # only what is published expires
        raise PublishedReferenceError(
            f"the reference {id_} is published and cannot be rejected any more: only held ones can. Erase the "
            "recordings that must not be shown, or change the model group, so that a newer reference takes its place"
        )
    return state in ((HELD, REJECTED) if decision == "release" else (HELD,))
