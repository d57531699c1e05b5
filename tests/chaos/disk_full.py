"""A disk that fills up at every size: work fails with words that say where and what to do, and goes on with room."""

import contextlib
import errno
import random
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

from storage.errors import StoreError
from storage.place import Place
from storage.snapshot import fold
from tests.chaos.crowd import collect, hold, settle
from tests.chaos.journal import Journal
from tests.chaos.result import Result
from tests.chaos.truth import Acknowledged, check, read_all
from tests.chaos.writer import Work, Writer

SIZE_MB = 24
BLOCK = 4096
LEFT = (0, 1, 2, 3, 5, 8, 13, 21)
"""Blocks that are left free, so that the disk is full at another step of the same work each time."""

WORK = ("upload", "ingest", "refresh", "group", "fold")


def run(seed: int, folder: Path, *, quick: bool) -> Result:
    result = Result("disk_full", seed)
    disk = folder / "disk"
    disk.mkdir()
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(tmpfs(disk))
        except subprocess.CalledProcessError as error:
            result.ran = False
            result.problems.append(f"no tmpfs could be mounted, which needs root: {error.stderr.decode().strip()}")
            return result
        _run(result, seed, disk, folder / "journals" / "writer", rounds=4 if quick else 40)
    return result


def _run(result: Result, seed: int, disk: Path, journal: Path, *, rounds: int) -> None:
    place, luck, failed = Place.of(disk / "lake"), random.Random(seed), 0
    told = Journal(journal)
    writer = Writer(Work(place, journal, "writer", seed), told)
    for what in ("upload", "upload", "ingest", "refresh"):
        writer.attempt(what)
    for number in range(rounds):
        for what in ("upload", "upload", "ingest", "refresh"):  # so that there is work
            writer.number += 1
            getattr(writer, what)(uuid.uuid4())
        writer.upload(uuid.uuid4())
        left = LEFT[number % len(LEFT)]
        fill(disk, left * BLOCK)
        for what in luck.sample(WORK, len(WORK)):
            told.say("begin", what=what)
            failed += not _tried(writer, what, place, result)
        acknowledged = Acknowledged.by([journal])
        result.findings.add(check(read_all(place), acknowledged))
        (disk / "ballast").unlink()
    collect(result, [journal], faults=True)
    last = journal.with_name("settler")
    settle(result, place, last)
    acknowledged = Acknowledged.by([journal, last])
    hold(result, place, acknowledged)
    result.acknowledged = acknowledged.count
    result.figures |= {"rounds": rounds, "failed": failed}
    if not failed:
        result.problems.append("nothing failed: the disk was never full")


def _tried(writer: Writer, what: str, place: Place, result: Result) -> bool:
    """Do one thing on a full disk; say whether it succeeded."""
    try:
        if what == "fold":
            with writer.lake.index() as index:
                fold(writer.lake.store, index, after=1)
        else:
            getattr(writer, what)(uuid.uuid4())
    except StoreError as error:
        if place.url not in str(error) or "Make room" not in str(error):
            result.problems.append(f"{what} does not say where, or what to do: {error}")
        return False
    except Exception as error:
        result.problems.append(f"{what} on a full disk: {type(error).__name__}: {error}")
        return False
    return True


def fill(disk: Path, left_bytes: int) -> None:
    """Fill a disk up, but for so many bytes."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(BLOCK))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        file.truncate(max(0, file.tell() - left_bytes))


@contextlib.contextmanager
def tmpfs(folder: Path) -> Iterator[None]:
    """Mount a small disk in memory.

    Raises:
        subprocess.CalledProcessError: It is not allowed here.
    """
    options = ["-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", str(folder)]
    subprocess.run(["mount", *options], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, capture_output=True)
