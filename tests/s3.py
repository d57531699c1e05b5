"""A real S3 server for tests: SeaweedFS on free ports, which ends with the tests even if those are killed."""

import contextlib
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
from botocore.exceptions import BotoCoreError
from pydantic import SecretStr
from s3fs import S3FileSystem

from storage.bucket import Bucket
from storage.place import S3Access
from tests.ports import free_ports
from tests.wanted import while_wanted

KEY, SECRET, REGION = "audiophile", "a secret of the tests", "eu-central-1"
LAKE, UPLOADS = "lake", "uploads"

START_S = 120

SERVERS = ("master", "volume", "filer", "s3", "admin")


@dataclass(frozen=True)
class S3Server:
    """A running server with two buckets."""

    endpoint: str

    @property
    def access(self) -> S3Access:
        return S3Access(self.endpoint, REGION, KEY, SecretStr(SECRET))

    @property
    def settings(self) -> dict[str, str]:
        """The variables that name it."""
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": self.endpoint,
        }

    def lake_url(self) -> str:
        """Return a place where no lake is yet."""
        return f"s3://{LAKE}/{uuid.uuid4().hex}"

    def uploads(self) -> Bucket:
        """Return the bucket of uploads, emptied."""
        bucket = Bucket(UPLOADS, self.access, "AWS_S3_BUCKET")
        for found in [found for page in bucket.pages("") for found in page.objects]:
            bucket.remove(found.key)
        return bucket


@contextlib.contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """Run a server over `folder`."""
    for attempt in range(3):  # between choosing a port and listening on it, another may take it
        with _started(folder / str(attempt)) as server:
            if server is not None:
                yield server
                return
    raise AssertionError((folder / "2" / "log").read_text(errors="replace")[-2000:])


@contextlib.contextmanager
def _started(folder: Path) -> Iterator[S3Server | None]:
    (folder / "data").mkdir(parents=True)
    names = [f"{name}.port{kind}" for name in SERVERS for kind in ("", ".grpc")]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    command = [
        str(Path(sys.executable).parent / "weed"),
        "mini",
        f"-dir={folder / 'data'}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-bucket={LAKE},{UPLOADS}",
        "-s3.autoCreateBucket=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-webdav=false",
        "-admin.ui=false",
        "-master.telemetry=false",
        *(f"-{name}={port}" for name, port in ports.items()),
    ]
    variables = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "HOME": str(folder)}
    server = S3Server(f"http://127.0.0.1:{ports['s3.port']}")
    # As long as the server: what is collected in the middle of another test warns there.
    files = S3FileSystem(key=KEY, secret=SECRET, endpoint_url=server.endpoint, skip_instance_cache=True)
    with while_wanted(command, folder / "log", variables) as watcher:
        yield server if _answers(server, files, watcher) else None


def _answers(server: S3Server, files: S3FileSystem, watcher: subprocess.Popen[bytes]) -> bool:
    """Say whether both buckets can be listed in time."""
    give_up_at = time.monotonic() + START_S
    while time.monotonic() < give_up_at and watcher.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            httpx.get(server.endpoint, trust_env=False)
            with contextlib.suppress(OSError, BotoCoreError):
                if {LAKE, UPLOADS} <= set(files.ls("", refresh=True)):
                    return True
        time.sleep(0.05)
    return False
