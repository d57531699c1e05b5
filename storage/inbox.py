"""Receipts of uploads that were acknowledged and are not ingested yet, so that every host knows them.

A receipt is `inbox/<sha256>.<upload>.json`: several names may arrive for the same bytes before the first is ingested.
"""

import json
import logging
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from storage.media import HASH, Blob, file_id_of
from storage.store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Receipt:
    """An acknowledged upload."""

    path: str
    sha256: str
    size_bytes: int
    name: str
    received_at: datetime
    uri: str | None = None  # of the object, where the upload is one in a bucket as well
    etag: str | None = None  # which content that object had

    @property
    def file_id(self) -> UUID:
        """The id of the recording."""
        return file_id_of(self.sha256)


def readable(name: str) -> str:
    """Return `name` with what is no character replaced: a client's charset, or a disk, may give lone surrogates."""
    return name.encode("utf-8", errors="surrogatepass").decode("utf-8", errors="replace")


class Inbox:
    """The receipts of a lake."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, blob: Blob, name: str, *, uri: str | None = None, etag: str | None = None) -> Receipt:
        """Write the receipt of an upload, durably: the upload may be acknowledged once this returns.

        Args:
            blob: Its bytes in the media store.
            name: What the user calls it.
            uri: The object that it is as well, where it was put into a bucket.
            etag: That object's.
        """
        receipt = Receipt(
            path=f"inbox/{blob.sha256}.{uuid.uuid4().hex}.json",
            sha256=blob.sha256,
            size_bytes=blob.size_bytes,
            name=readable(name),
            received_at=datetime.now(UTC),
            uri=uri,
            etag=etag,
        )
        body = {
            "sha256": receipt.sha256,
            "size_bytes": receipt.size_bytes,
            "name": receipt.name,
            "received_at": receipt.received_at.isoformat(),
        } | ({"uri": uri, "etag": etag} if uri else {})
        self._store.write(receipt.path, json.dumps(body).encode())
        return receipt

    def receipts(self, file_id: UUID | None = None) -> list[Receipt]:
        """Return the receipts, of one recording only where `file_id` is given; oldest first.

        A damaged one is logged and left where it is, so that it keeps no other upload waiting.
        """
        prefix = file_id.hex if file_id else ""
        paths = [f"inbox/{name}" for name in self._store.names("inbox") if name.startswith(prefix)]
        found = map(_parsed, paths, self._store.read_many(paths))
        return sorted((receipt for receipt in found if receipt), key=lambda receipt: receipt.received_at)

    def remove(self, receipt: Receipt) -> None:
        """Remove a receipt, once the log holds what it says."""
        self._store.remove(receipt.path)


def _parsed(path: str, content: bytes | None) -> Receipt | None:
    if content is None:  # ingested since the folder was listed
        return None
    try:
        raw = json.loads(content)
        receipt = Receipt(
            path=path,
            sha256=raw["sha256"],
            size_bytes=int(raw["size_bytes"]),
            name=readable(raw["name"]),
            received_at=datetime.fromisoformat(raw["received_at"]),
            uri=raw.get("uri"),
            etag=raw.get("etag"),
        )
        if not HASH.fullmatch(receipt.sha256) or receipt.received_at.tzinfo is None:
            raise ValueError("its sha256 or its time is none")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        log.error("%s is damaged (%s): restore it, or remove it to give the upload up", path, error)
        return None
    return receipt
