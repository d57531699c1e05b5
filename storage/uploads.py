"""The bucket of uploads: what an upload is called there, and what it is called by those who look at it.

The API puts an upload under the hash of its content, never under a name from outside; that goes with it as metadata.
"""

import mimetypes
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote
from uuid import UUID

from storage.inbox import readable
from storage.media import HASH, Staged
from storage.place import STORAGES
from storage.settings import Settings

if TYPE_CHECKING:  # s3fs takes a second to import
    from storage.bucket import Bucket, Object

NAME: Final = "audiophile-name"  # percent-encoded: metadata are ASCII
SHA256: Final = "audiophile-sha256"
NAME_BYTES: Final = 1024  # S3 gives all metadata of an object 2 KB


def open_uploads(settings: Settings) -> "Bucket | None":
    """Return the bucket of uploads, or None where it is not configured."""
    if settings.missing_for_s3:
        return None
    from storage.bucket import Bucket  # noqa: PLC0415

    return Bucket(settings.aws_s3_bucket, settings.access, "AWS_S3_BUCKET")


def put_upload(bucket: "Bucket", staged: Staged, name: str) -> "Object":
    """Put an upload into its bucket, unless it is there already; return the object.

    Raises:
        StoreError: The bucket cannot be reached or written.
    """
    sha256 = staged.blob.sha256
    key = f"{STORAGES}{sha256}"
    found = bucket.head(key)
    if found is None or (found.size_bytes, found.metadata.get(SHA256)) != (staged.blob.size_bytes, sha256):
        bucket.put_file(
            key,
            staged.path,
            content_type=mimetypes.guess_type(name)[0] or "application/octet-stream",
            metadata={NAME: _encoded(name), SHA256: sha256},
        )
        found = bucket.head(key)
    if found is None:
        raise bucket.failure(f"{key} was put and is not there", "See whether something removes what is put there")
    return found


def remove_upload(bucket: "Bucket", file_id: UUID) -> None:
    """Remove an upload's object, for good. What others put there is theirs to remove.

    Raises:
        StoreError: The bucket cannot be reached or written.
    """
    for page in bucket.pages(f"{STORAGES}{file_id.hex}"):
        for found in page.objects:
            if HASH.fullmatch(found.key.removeprefix(STORAGES)):
                bucket.remove(found.key)


def title(bucket: "Bucket", key: str) -> str:
    """Return the name that a recording in the bucket is shown with: the user's, or else the last part of its key.

    Raises:
        StoreError: The bucket cannot be read.
    """
    last = key.rsplit("/", 1)[-1]
    if HASH.fullmatch(last):
        found = bucket.head(key)
        if found is not None and NAME in found.metadata:
            return readable(unquote(found.metadata[NAME]))
    return readable(last)


def _encoded(name: str) -> str:
    """Return a name as metadata can hold it, cut at a whole character where it is long."""
    encoded = ""
    for character in name:
        part = quote(character, safe="")
        if len(encoded) + len(part) > NAME_BYTES:
            break
        encoded += part
    return encoded
