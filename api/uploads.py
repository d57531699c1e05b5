"""POST /api/files/upload: bytes in, stored durably, acknowledged, and ingested right after."""

from typing import Any, Final
from uuid import UUID

from fastapi import APIRouter, UploadFile

from api.answers import JSON, Upload
from api.dependencies import Service, ServiceDep
from api.problems import NotConfiguredProblem, UnusableUploadProblem
from storage.inbox import readable
from storage.media import Blob
from storage.recordings import recordings

_MESSAGES: Final = {
    "pending": "Known already, and about to be taken in.",
    "accepted": "Known already.",
    "rejected": "Known already, and rejected then: it is looked at once more.",
}

router = APIRouter(prefix="/api/files/upload", tags=["uploads"])


@router.post("", status_code=201, response_model=Upload, responses={200: {"model": Upload}})
@router.post("/", include_in_schema=False)
def upload(service: ServiceDep, file: UploadFile) -> JSON:
    """Store a recording. 201: its bytes are safe, and predictions follow with the next refresh; 200: known already."""
    name = readable(file.filename or "unnamed")
    if not file.size:
        raise UnusableUploadProblem(f"{name!r} is empty: send the bytes of a recording in the field `file`")
    blob = service.lake.media.add(file.file)
    known = status_of(service, blob.file_id, name)
    if known is not None and known[1] and known[0] != "rejected":
        return _acknowledged(service, blob, name, known[0], new=False)
    service.lake.inbox.add(blob, name)
    service.trigger.pull()
    return _acknowledged(service, blob, name, known[0] if known else "pending", new=known is None)


@router.post("/s3", status_code=501)
@router.post("/s3/", include_in_schema=False)
def upload_to_s3(service: ServiceDep) -> None:
    """Store a recording in S3. Not available yet."""
    settings = service.settings
    needed: dict[str, Any] = {
        "AWS_ACCESS_KEY_ID": settings.aws_access_key_id,
        "AWS_SECRET_ACCESS_KEY": settings.aws_secret_access_key.get_secret_value(),
        "AWS_REGION": settings.aws_region,
        "AWS_S3_BUCKET": settings.aws_s3_bucket,
    }
    lacking = [name for name, value in needed.items() if not value]
    raise NotConfiguredProblem(
        "Uploads to S3 are not part of this version"
        + (f", and these settings are missing: {', '.join(lacking)}" if lacking else "")
        + f". Upload to {settings.public_url}/api/files/upload instead.",
        missing=lacking,
    )


def status_of(service: Service, file_id: UUID, name: str) -> tuple[str, bool] | None:
    """Return the status of a recording, and whether it is known under `name`; None for a new one."""
    receipts = service.lake.inbox.receipts(file_id)
    service.index.catch_up()
    names = {receipt.name for receipt in receipts}
    names |= {
        row["name"] for row in service.index.query("SELECT DISTINCT name FROM sources WHERE file_id = ?", [file_id])
    }
    found = recordings(service.index, file_id)
    if not found and not receipts:
        return None
    return (found[0].status if found else "pending"), name in names


def _acknowledged(service: Service, blob: Blob, name: str, status: str, *, new: bool) -> JSON:
    return JSON(
        {
            "message": _MESSAGES[status] if not new else "Stored. Predictions follow with the next refresh.",
            "id": blob.file_id,
            "file": name,
            "status": status,
            "url": f"{service.settings.public_url}/api/files/{blob.file_id}",
        },
        status_code=201 if new else 200,
    )
