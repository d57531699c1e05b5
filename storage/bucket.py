"""One bucket, through s3fs: objects by their keys, and errors in our words. It must not know what the objects hold.

Every call names bucket and key apart: a path of s3fs takes `?versionId=` out of a key that others chose.
"""

import asyncio
import contextlib
import errno
import io
import math
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Final

from aiohttp import ClientError as TransportError
from botocore.exceptions import BotoCoreError, IncompleteReadError, ReadTimeoutError, ResponseStreamingError
from fsspec.asyn import sync
from s3fs import S3FileSystem

from storage.errors import StoreError
from storage.place import S3_SCHEME, S3Access
from storage.store import writing

CONNECT_S: Final = 4  # with ATTEMPTS and the pauses between them, an address where nobody answers costs 15 s
READ_S: Final = 60
ATTEMPTS: Final = 3
AT_ONCE: Final = 16  # requests of `get_many`
BLOCK_BYTES: Final = 8 << 20
PART_BYTES: Final = 16 << 20
PARTS: Final = 10_000  # S3's limit of an upload in parts
PAGE_KEYS: Final = 1000  # S3's limit of a listing's page

_ABSENT: Final = frozenset({"NoSuchKey", "404"})
_CHANGED: Final = frozenset({"PreconditionFailed", "412"})
_SHORTER: Final = frozenset({"InvalidRange", "416"})
_FORBIDDEN: Final = frozenset({"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "403"})
_BROKEN_OFF: Final = (TransportError, IncompleteReadError, ReadTimeoutError, ResponseStreamingError)


@dataclass(frozen=True, slots=True)
class Object:
    """What a bucket says of an object. Only `head` knows its metadata."""

    key: str
    size_bytes: int
    modified_at: datetime
    etag: str
    metadata: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), compare=False)


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a listing: objects, and the prefixes that a delimiter cut off."""

    objects: list[Object]
    folders: list[str]
    is_last: bool


class Bucket:
    """A bucket and the way to reach it.

    Args:
        name: Its name.
        access: How it is reached.
        setting: The setting that names it, for messages.
    """

    def __init__(self, name: str, access: S3Access, setting: str) -> None:
        self.name = name
        self._access = access
        self._setting = setting

    def __str__(self) -> str:
        return f"{S3_SCHEME}{self.name}" + (f" at {self._access.endpoint_url}" if self._access.endpoint_url else "")

    def get(self, key: str) -> bytes | None:
        """Return an object's bytes, or None where there is none."""
        return self.get_many([key])[0]

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the bytes of several objects, a few at a time; None where there is none."""

        async def get_all() -> list[bytes | None]:
            turn = asyncio.Semaphore(AT_ONCE)

            async def get_one(key: str) -> bytes | None:
                async with turn:
                    return await self._get(key)

            return await asyncio.gather(*map(get_one, keys))

        with self._asking("cannot be read"):
            return list(self._wait(get_all)) if keys else []

    def put(self, key: str, content: bytes) -> None:
        """Put an object, whole; an older one is replaced at once."""
        with self._asking("cannot be written"):
            self._call("put_object", Key=key, Body=content)

    def put_if_absent(self, key: str, content: bytes) -> bool:
        """Put an object unless one is there.

        A put that is repeated because its answer was lost says False although its content is there: read it back.
        """
        with self._asking("cannot be written"):
            try:
                self._call("put_object", Key=key, Body=content, IfNoneMatch="*")
            except OSError as error:
                if isinstance(error, FileExistsError) or _code(error) in _CHANGED:
                    return False
                raise
        return True

    def put_file(
        self, key: str, file: Path, *, content_type: str = "", metadata: Mapping[str, str] | None = None
    ) -> None:
        """Put a file of this host, in parts where it is large; it is there once it is whole."""
        options: dict[str, Any] = {"ContentType": content_type} if content_type else {}
        part_bytes = max(PART_BYTES, math.ceil(file.stat().st_size / PARTS))
        with self._asking("cannot be written"):
            self._fs.put_file(
                str(file),
                f"{self.name}/{key}",
                chunksize=part_bytes,
                max_concurrency=2,
                Metadata=dict(metadata or {}),
                **options,
            )

    def head(self, key: str) -> Object | None:
        """Say what is at a key, or None where nothing is."""
        with self._asking("cannot be read"):
            try:
                answer = self._call("head_object", Key=key)
            except FileNotFoundError:
                return None
        return Object(
            key,
            answer["ContentLength"],
            answer["LastModified"].astimezone(UTC),
            answer.get("ETag", ""),
            answer.get("Metadata", {}),
        )

    def remove(self, key: str) -> None:
        """Remove an object, if any."""
        with self._asking("cannot be written"):
            self._call("delete_object", Key=key)

    def move(self, key: str, new_key: str) -> bool:
        """Move an object within the bucket, by a copy of the server's; False says that nothing was there."""
        with self._asking("cannot be written"):
            try:
                self._fs.cp_file(f"{self.name}/{key}", f"{self.name}/{new_key}")
            except FileNotFoundError as error:
                if _code(error) == "NoSuchBucket":
                    raise
                return False
        self.remove(key)
        return True

    def pages(self, prefix: str, *, after: str = "", delimiter: str = "", keys: int = PAGE_KEYS) -> Iterator[Page]:
        """List the objects whose keys start with `prefix`, page by page.

        Args:
            prefix: What keys start with.
            after: List what comes after this key in the bucket's order.
            delimiter: Cut keys at its first place after the prefix.
            keys: How many a page.
        """
        request: dict[str, Any] = {"Prefix": prefix, "MaxKeys": keys}
        request |= {"StartAfter": after} if after else {}
        request |= {"Delimiter": delimiter} if delimiter else {}
        while True:
            with self._asking("cannot be listed"):
                answer = self._call("list_objects_v2", **request)
            yield Page(
                [
                    Object(entry["Key"], entry["Size"], entry["LastModified"].astimezone(UTC), entry.get("ETag", ""))
                    for entry in answer.get("Contents", ())
                ],
                [entry["Prefix"] for entry in answer.get("CommonPrefixes", ())],
                not answer.get("IsTruncated", False),
            )
            if not answer.get("IsTruncated", False):
                return
            request["ContinuationToken"] = answer["NextContinuationToken"]

    def download(self, key: str, file: BinaryIO, folder: Path) -> bool:
        """Write an object's bytes to `file`, which lies in `folder`; False says that there is none."""
        found = self.head(key)
        if found is None:
            return False
        try:
            with self.open(found) as content:
                while block := content.read(BLOCK_BYTES):
                    with writing(folder):
                        file.write(block)
        except OSError as error:  # of the stream: those of the disk are StoreError by now
            raise StoreError(str(error.strerror or error)) from error
        return True

    def open(self, found: Object) -> BinaryIO:
        """Open an object as it was found, for reading from its start to its end.

        What it raises, all OSError: ESTALE when it was changed or removed since, EIO for anything else.
        """
        return io.BufferedReader(self.reader(found), BLOCK_BYTES)

    def reader(self, found: Object) -> io.RawIOBase:
        """Open an object as it was found, for reading from any place in it: each read is a request. See `open`."""
        return _Blocks(self, found)

    def link(self, key: str, lasts_s: int, **headers: str) -> str:
        """Return a signed address at which whoever has it gets an object for a while.

        Args:
            key: The object's.
            lasts_s: For how long, in seconds.
            headers: Of the answer there, by S3's names for them: ResponseContentType and others.
        """
        with self._asking("cannot be linked to"):
            return str(self._wait(self._signed, key, lasts_s, headers))

    def block(self, found: Object, start: int, size_bytes: int) -> bytes:
        """Return a block of an object as it was found.

        Raises:
            OSError: ESTALE: it has changed since; EIO: it cannot be read.
        """
        request = {"Range": f"bytes={start}-{start + size_bytes - 1}"} | ({"IfMatch": found.etag} if found.etag else {})
        try:
            with self._asking("cannot be read"):
                content: bytes | None = self._wait(self._get, found.key, **request)
        except StoreError as error:
            if _code(error) not in _CHANGED | _SHORTER:
                raise OSError(errno.EIO, str(error)) from error
            content = None
        if content is None:
            raise OSError(errno.ESTALE, "it changed while it was read; the next run takes it")
        return content

    def failure(self, what: str, remedy: str) -> StoreError:
        """Return an error that names this bucket."""
        return StoreError(f"{self}: {what}. {remedy}")

    @property
    def _fs(self) -> S3FileSystem:
        return _filesystem(self._access, os.getpid())

    def _call(self, method: str, **request: Any) -> Any:
        return self._fs.call_s3(method, Bucket=self.name, **request)

    def _wait(self, ask: Callable[..., Awaitable[Any]], *arguments: Any, **named: Any) -> Any:
        """Run a coroutine on the thread that s3fs has for its own."""
        return sync(self._fs.loop, ask, *arguments, **named)

    async def _signed(self, key: str, lasts_s: int, headers: Mapping[str, str]) -> str:
        await self._fs.set_session()
        client = await self._fs.get_s3(self.name)
        address: str = await client.generate_presigned_url(
            "get_object", Params={"Bucket": self.name, "Key": key, **headers}, ExpiresIn=lasts_s
        )
        return address

    async def _get(self, key: str, **request: str) -> bytes | None:
        """Return an object's bytes, or None; an answer that breaks off is asked for again."""
        attempt = 1
        while True:
            try:
                answer = await self._fs._call_s3("get_object", Bucket=self.name, Key=key, **request)
            except FileNotFoundError as error:
                if _code(error) in _ABSENT:
                    return None
                raise
            try:
                async with answer["Body"] as body:
                    content: bytes = await body.read()
                    return content
            except _BROKEN_OFF:
                if attempt == ATTEMPTS:
                    raise
                await asyncio.sleep(0.1 * 2**attempt)
                attempt += 1

    @contextlib.contextmanager
    def _asking(self, failure: str) -> Iterator[None]:
        """Turn what s3fs and botocore raise into an error that says which bucket, and what to do."""
        try:
            yield
        except (OSError, BotoCoreError, TransportError, ValueError) as error:
            code = _code(error)
            if code == "NoSuchBucket":
                remedy = f"There is no such bucket: make it, or correct {self._setting}"
            elif code in _FORBIDDEN or isinstance(error, PermissionError):
                remedy = "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and what they may do there"
            elif type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError"):
                remedy = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            elif code:
                remedy = f"Look into the server's log, and check AWS_REGION and {self._setting}"
            else:
                remedy = f"Check AWS_ENDPOINT_URL, AWS_REGION, {self._setting} and the network"
            reason = str(error) or type(error).__name__
            raise self.failure(f"{failure}: {reason.rstrip('.')}", remedy) from error


class _Blocks(io.RawIOBase):
    """An object's bytes, a request for each block; each must be of the same content."""

    def __init__(self, bucket: Bucket, found: Object) -> None:
        self._bucket, self._found, self._at = bucket, found, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._found.size_bytes}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        wanted = min(len(buffer), self._found.size_bytes - self._at)
        if wanted <= 0:
            return 0
        block = self._bucket.block(self._found, self._at, wanted)
        buffer[: len(block)] = block
        self._at += len(block)
        return len(block)


@lru_cache(maxsize=8)
def _filesystem(access: S3Access, _process: int) -> S3FileSystem:
    """Return the one connection pool that this process has for `access`."""
    filesystem = S3FileSystem(
        key=access.access_key_id or None,
        secret=access.secret_access_key.get_secret_value() or None,
        endpoint_url=access.endpoint_url or None,
        client_kwargs={"region_name": access.region} if access.region else {},
        config_kwargs={
            "connect_timeout": CONNECT_S,
            "read_timeout": READ_S,
            "retries": {"total_max_attempts": ATTEMPTS, "mode": "standard"},
            "max_pool_connections": 2 * AT_ONCE,
            # Servers other than Amazon's may refuse the checksums that botocore sends by default.
            **({"request_checksum_calculation": "when_required"} if access.endpoint_url else {}),
        },
        use_listings_cache=False,
        skip_instance_cache=True,
    )
    filesystem.retries = 1  # botocore's own are enough: both together multiply
    return filesystem


def _code(error: BaseException) -> str:
    """Return S3's code of an error, or the HTTP status where it gave none; empty if S3 never answered."""
    seen: BaseException | None = error
    while seen is not None:
        response = getattr(seen, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", "")
            return str(response.get("Error", {}).get("Code") or status)
        seen = seen.__cause__
    return ""
