"""Where a lake lies, as something that can be handed to another process or host. It must not open anything."""

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from pydantic import SecretStr

S3_SCHEME: Final = "s3://"
BUCKET_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
STORAGES: Final = "storages/"
"""Where recordings lie in the bucket of uploads: those that the API puts there, and those that others do."""

_PREFIX: Final = re.compile(r"[A-Za-z0-9!_.*'()-]+(/[A-Za-z0-9!_.*'()-]+)*")


@dataclass(frozen=True, slots=True)
class S3Access:
    """How a bucket is reached. Empty keys leave it to boto's own chain (profiles, roles of the machine)."""

    endpoint_url: str = ""
    region: str = ""
    access_key_id: str = ""
    secret_access_key: SecretStr = field(default_factory=lambda: SecretStr(""))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a lake lies.

    Attributes:
        url: A folder's absolute path, or `s3://bucket/prefix`.
        local: A folder of this host's own, for what can be made anew: index files, downloads.
        access: How its bucket is reached, where it is one.
    """

    url: str
    local: Path
    access: S3Access = field(default_factory=S3Access)

    @classmethod
    def of(cls, folder: Path) -> "Place":
        """Return the place of a lake in a folder, which is this host's own as well."""
        return cls(str(folder), folder)

    @property
    def is_s3(self) -> bool:
        """Say whether the lake lies in a bucket."""
        return self.url.startswith(S3_SCHEME)

    def on_this_host(self) -> "Place":
        """Return the same lake with the folder of the host that this runs on, where AUDIOPHILE_LOCAL names one."""
        own = os.environ.get("AUDIOPHILE_LOCAL")
        return replace(self, local=Path(own).expanduser().absolute()) if own else self


def normalised(url: str) -> str:
    """Return where a lake lies in one way of writing: an absolute path, or `s3://bucket[/prefix]`.

    Raises:
        ValueError: It is another kind of URL, or names no bucket, or a prefix that keys should not have.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return str(Path(url).expanduser().absolute())
    if f"{scheme}://" != S3_SCHEME:
        raise ValueError(f"{scheme}:// is no place for a lake: give a folder's path, or s3://bucket/prefix")
    bucket, _, prefix = rest.rstrip("/").partition("/")
    if not re.fullmatch(BUCKET_NAME, bucket):
        raise ValueError(f"{bucket!r} is no bucket's name: give s3://bucket or s3://bucket/prefix")
    if prefix and (not _PREFIX.fullmatch(prefix) or {".", ".."} & set(prefix.split("/"))):
        raise ValueError(
            f"{prefix!r} cannot be a prefix: use letters, digits and !_.*'()- between single slashes, and no '..'"
        )
    return f"{S3_SCHEME}{bucket}/{prefix}".rstrip("/")


def split_url(url: str) -> tuple[str, str]:
    """Return bucket and prefix of `s3://bucket/prefix`."""
    bucket, _, prefix = url.removeprefix(S3_SCHEME).partition("/")
    return bucket, prefix.strip("/")


def object_uri(bucket: str, key: str) -> str:
    """Return the URI of an object. Its key stays as it is, so that URIs sort as keys do."""
    return f"{S3_SCHEME}{bucket}/{key}"
