"""Which recording an address names, for routes about one. It must not know what they answer."""

from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Path

from api.dependencies import Service
from api.problems import GoneProblem, NotFoundProblem, shown
from storage.history import as_it_is_now
from storage.recordings import recordings

FileId = Annotated[str, Path(description="Id of a file.", examples=["e5a26b3d-29e5-b0bc-8dbd-72c11d16a380"])]


@dataclass(frozen=True, slots=True)
class Known:
    """A recording that the store has.

    Attributes:
        status: pending | accepted | held | rejected.
        reason: Why it was rejected.
        format: Container and codec, as libsndfile names them; None where it is pending or was rejected.
    """

    file_id: UUID
    sha256: str
    name: str
    status: str
    reason: str | None = None
    format: str | None = None


def known(service: Service, raw_id: str) -> Known:
    """Return the recording that an address names.

    Raises:
        NotFoundProblem: There is none.
        GoneProblem: It was erased.
    """
    try:
        file_id = UUID(raw_id)
    except ValueError:
        raise _unknown(service, raw_id) from None
    found = _ingested(service, file_id)
    if found is None:
        receipts = service.lake.inbox.receipts(file_id)
        found = _ingested(service, file_id)  # what left the inbox meanwhile is there now
        if found is None and receipts and not service.index.erased([file_id]):
            return Known(file_id, receipts[0].sha256, receipts[0].name, "pending")
    if found is not None:
        return found
    if service.index.erased([file_id]):
        raise GoneProblem(f"The file {file_id} was erased")
    raise _unknown(service, raw_id)


def require_not_erased(service: Service, file_id: UUID | None) -> None:
    """Refuse to say anything of a recording that was erased; the index is caught up.

    Raises:
        GoneProblem: It was.
    """
    if file_id is not None and service.index.erased([file_id]):
        raise GoneProblem(f"The file {file_id} was erased")


def _ingested(service: Service, file_id: UUID) -> Known | None:
    service.index.catch_up()
    found = as_it_is_now(service.index, lambda: recordings(service.index, file_id))
    if not found:
        return None
    row = found[0]
    return Known(file_id, row.sha256, row.name or str(file_id), row.status, row.reason, row.format)


def _unknown(service: Service, raw_id: str) -> NotFoundProblem:
    return NotFoundProblem(
        f"No file {shown(raw_id)}: choose one of those listed at {service.settings.public_url}/api/files"
    )
