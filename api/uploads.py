"""POST /api/files/upload and .../s3: bytes in, stored durably, acknowledged, and ingested right after.

How they arrive is in `api.receiving`.
"""

from typing import TYPE_CHECKING, Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from starlette.concurrency import run_in_threadpool

from api.answers import JSON, Upload, UploadToS3
from api.dependencies import Service, ServiceDep
from api.multipart import Received
from api.problems import (
    GoneProblem,
    InvalidProblem,
    MalformedProblem,
    MediaTypeProblem,
    NotConfiguredProblem,
    SlowProblem,
    StoreProblem,
    TooLargeProblem,
    UnusableUploadProblem,
    problems,
    shown,
)
from api.receiving import receiving
from storage.media import Blob
from storage.place import object_uri
from storage.recordings import recordings
from storage.settings import Settings
from storage.uploads import put_upload

if TYPE_CHECKING:  # s3fs takes a second to import
    from storage.bucket import Bucket

_MESSAGES: Final = {
    "pending": "Known already, and about to be taken in.",
    "accepted": "Known already.",
    "held": "Known already, and held back until somebody decides.",
    "rejected": "Known already, and rejected then: it is looked at once more.",
}

_BODY: Final = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {
                            "type": "string",
                            "format": "binary",
                            "contentMediaType": "application/octet-stream",
                            "description": "The recording, with a file name of any kind. Other fields are passed over.",
                        }
                    },
                }
            }
        },
    }
}
"""What OpenAPI says of the body: no handler has it as a parameter, because none would stream it."""

_PROBLEMS: Final = (
    MalformedProblem,
    SlowProblem,
    GoneProblem,
    TooLargeProblem,
    MediaTypeProblem,
    UnusableUploadProblem,
    InvalidProblem,
    StoreProblem,
)


def _responses(model: type[Upload], *more: type[NotConfiguredProblem]) -> dict[int | str, dict[str, Any]]:
    located = {"Location": {"description": "Where the recording is shown.", "schema": {"type": "string"}}}
    return problems(*_PROBLEMS, *more) | {
        200: {"model": model, "description": "The same bytes are known already."},
        201: {"description": "The bytes are safe, and predictions follow with the next refresh.", "headers": located},
    }


router = APIRouter(prefix="/api/files/upload", tags=["uploads"])


@router.post("", status_code=201, response_model=Upload, responses=_responses(Upload), openapi_extra=_BODY)
@router.post("/", include_in_schema=False)
async def upload(service: ServiceDep, request: Request) -> JSON:
    """Store a recording. 201: its bytes are safe, and predictions follow with the next refresh; 200: known already."""
    async with receiving(request, service) as received:
        return await run_in_threadpool(_taken, service, received, None)


def _bucket(service: ServiceDep) -> "Bucket":
    """Return the bucket of uploads. As a dependency, so that missing settings are named before a missing field."""
    bucket = service.uploads()
    if bucket is None:
        missing = service.settings.missing_for_s3
        raise NotConfiguredProblem(
            f"Uploads to S3 need settings that are missing: {', '.join(missing)}. "
            f"Set them, or upload to {service.settings.public_url}/api/files/upload instead.",
            missing=missing,
        )
    return bucket


@router.post(
    "/s3",
    status_code=201,
    response_model=UploadToS3,
    responses=_responses(UploadToS3, NotConfiguredProblem),
    openapi_extra=_BODY,
)
@router.post("/s3/", include_in_schema=False)
async def upload_to_s3(service: ServiceDep, bucket: Annotated[Any, Depends(_bucket)], request: Request) -> JSON:
    """Store a recording in the bucket AWS_S3_BUCKET as well, under `storages/` and the hash of its content."""
    async with receiving(request, service) as received:
        return await run_in_threadpool(_taken, service, received, bucket)


def _taken(service: Service, received: Received, bucket: "Bucket | None") -> JSON:
    """Store an upload, in the bucket first where there is one: if that fails, the lake has nothing of it."""
    name, staged = received.name, received.staged
    blob = staged.blob
    service.index.catch_up()
    service.index.require_log()
    if service.index.erased([blob.file_id]):
        raise GoneProblem(
            f"{shown(name)} is the recording {blob.file_id}, which was erased and is not taken in again. "
            "Lift that first: run `maintain` with it under lift_files"
        )
    found = put_upload(bucket, staged, name) if bucket else None
    service.lake.media.keep(staged)
    where: dict[str, str] = {}
    uri = etag = None
    if bucket and found:
        uri, etag = object_uri(bucket.name, found.key), found.etag
        where = {"s3_url": _s3_url(service.settings, found.key, uri)}
    known = status_of(service, blob.file_id, name)
    if known is not None and known[1] and known[0] != "rejected":
        return _acknowledged(service, blob, name, known[0], where, new=False)
    service.lake.inbox.add(blob, name, uri=uri, etag=etag)
    service.trigger.pull()
    return _acknowledged(service, blob, name, known[0] if known else "pending", where, new=known is None)


def _s3_url(settings: Settings, key: str, uri: str) -> str:
    return f"{settings.s3_bucket_url.rstrip('/')}/{key}" if settings.s3_bucket_url else uri


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


def _acknowledged(service: Service, blob: Blob, name: str, status: str, where: dict[str, str], *, new: bool) -> JSON:
    url = f"{service.settings.public_url}/api/files/{blob.file_id}"
    return JSON(
        {
            "message": _MESSAGES[status] if not new else "Stored. Predictions follow with the next refresh.",
            "id": blob.file_id,
            "file": name,
            "status": status,
            "url": url,
        }
        | where,
        status_code=201 if new else 200,
        headers={"Location": url} if new else None,
    )
