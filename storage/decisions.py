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


def check(index: Index, released: Iterable[UUID], rejected: Iterable[UUID]) -> None:
    """Refuse what cannot be decided all at once, before any of it is.

    Raises:
        UnknownReferenceError: There never was one of them.
        PublishedReferenceError: One is to be rejected, and is published, or is to be released as well.
    """
    index.catch_up()
    released, rejected = list(released), list(rejected)
    for id_ in released:
        _is_open(index, "release", id_)
    for id_ in rejected:
        _is_open(index, "reject", id_)
    if both := set(released) & set(rejected):
        raise PublishedReferenceError(
            f"the reference {min(both)} is to be both released and rejected: name it in one of the two lists only"
        )


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
    return _decide(lake, index, "release", references, (HELD, REJECTED))


def release_held(lake: Lake, index: Index, references: Iterable[UUID]) -> list[UUID]:
    """Publish references that are held, but none that somebody rejects meanwhile; otherwise like `release`."""
    return _decide(lake, index, "release", references, (HELD,))


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
    return _decide(lake, index, "reject", references, (HELD,))


def _decide(
    lake: Lake, index: Index, decision: Decision, references: Iterable[UUID], states: tuple[str, ...]
) -> list[UUID]:
    started_at = datetime.now(UTC)
    index.catch_up()
    open_ones = [id_ for id_ in dict.fromkeys(references) if _is_open(index, decision, id_, states)]
    for id_ in open_ones:
        _commit(lake, index, decision, id_, started_at, states)
    return open_ones


def _commit(
    lake: Lake, index: Index, decision: Decision, id_: UUID, started_at: datetime, states: tuple[str, ...]
) -> None:
    def plan() -> Draft | None:
        return Draft(reference=id_) if _is_open(index, decision, id_, states) else None

    lake.commit(index, op=decision, key=uuid.uuid5(id_, decision), plan=plan, started_at=started_at)


def _is_open(index: Index, decision: Decision, id_: UUID, states: tuple[str, ...] = ()) -> bool:
    """Say whether a reference is in one of some states, in which it may be decided on in this way.

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
    return state in states
