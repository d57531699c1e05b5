"""Where a lake lies, as something that can be handed to another process or host. It must not open anything."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import SecretStr

S3_SCHEME: Final = "s3://"


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
