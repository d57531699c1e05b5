"""A store that ignores If-None-Match is refused, with a message that says why."""

import contextlib
import dataclasses
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import s3fs

from storage.errors import StoreError
from storage.lake import Lake
from storage.place import Place
from storage.probe import require_conditional_writes
from tests.chaos.faulty import Proxy, running
from tests.chaos.result import Result
from tests.ports import free_port
from tests.s3 import KEY, LAKE, SECRET, s3_server
from tests.wanted import wait_for_port, while_wanted

NEEDED = ("If-None-Match", "overwrite", "AUDIOPHILE_DATA")
"""What the message must have: what is missing, what could happen, what to set."""


def run(seed: int, folder: Path, *, quick: bool) -> Result:
    result, refused = Result("unconditional", seed), {}
    with s3_server(folder / "server") as server:
        place = Place(server.lake_url(), folder / "host", server.access)
        require_conditional_writes(Lake.open(place).store)
        files = s3fs.S3FileSystem(key=KEY, secret=SECRET, endpoint_url=server.endpoint, use_listings_cache=False)

        def make_room(path: str) -> None:
            with contextlib.suppress(FileNotFoundError):
                files.rm_file(path.lstrip("/"))

        with running(Proxy(server.endpoint, seed, make_room=make_room)) as address:
            access = dataclasses.replace(server.access, endpoint_url=address)
            refused["a real server behind a proxy that ignores it"] = refusal(dataclasses.replace(place, access=access))
    if serves_s3():
        with rclone(folder / "rclone") as endpoint:
            access = dataclasses.replace(server.access, endpoint_url=endpoint)
            refused["rclone"] = refusal(Place(f"s3://{LAKE}/tests", folder / "host", access))
    result.tried = len(refused)
    result.figures = {"refused": refused}
    for name, message in refused.items():
        if not all(word in message for word in NEEDED):
            result.problems.append(f"{name} was not refused as it should be: {message or 'not at all'}")
    return result


def refusal(place: Place) -> str:
    """Return with what words a store is refused; empty where it is not."""
    try:
        require_conditional_writes(Lake.open(place).store)
    except StoreError as error:
        return str(error)
    return ""


def serves_s3() -> bool:
    """Say whether there is an rclone here, and a newer one than 1.64, which had no S3 server."""
    if not shutil.which("rclone"):
        return False
    told = subprocess.run(["rclone", "serve", "--help"], capture_output=True, text=True, check=False)
    return "rclone serve s3" in told.stdout or "\n  s3 " in told.stdout


@contextlib.contextmanager
def rclone(folder: Path) -> Iterator[str]:
    """Serve a folder by rclone, whose S3 knows no conditional writes; yield its address."""
    (folder / LAKE).mkdir(parents=True)
    port = free_port()
    command = ["rclone", "serve", "s3", "--auth-key", f"{KEY},{SECRET}", "--addr", f"127.0.0.1:{port}", str(folder)]
    with while_wanted(command, folder / "log", os.environ):
        wait_for_port(port, folder / "log")
        yield f"http://127.0.0.1:{port}"
