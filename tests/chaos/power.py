"""Power cut at every point of a writer's work: only what was synced is kept, and what was acknowledged must be there.

A kill tests no fsync, because the kernel keeps what a dead process wrote. So the file operations of a writer and of
maintenance are recorded, and played up to every cut in three ways: `strict` keeps names and contents as they were last
synced; `eager` keeps every name, with contents that were not synced empty or torn; `mixed` decides by
chance for each folder.
"""

import hashlib
import json
import logging
import multiprocessing
import random
import shutil
import tempfile
import traceback
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from storage.lake import Lake
from storage.place import Place
from tests.chaos.journal import Journal, lines
from tests.chaos.maintainer import MUCH_LATER, stages
from tests.chaos.recorder import Operation, record
from tests.chaos.result import Result
from tests.chaos.truth import Acknowledged, Findings, Truth, check, compare, read_all, traces, verified
from tests.chaos.writer import Work, Writer

WAYS = ("strict", "eager", "mixed")
MAINTAINED_EVERY = 10
QUICK_CUTS = 40
MIXED_EVERY = 4  # the other two ways are played at every cut

FAST = Path("/dev/shm")  # played lakes need no disk: what a disk would have kept is decided here


@dataclass
class Disk:
    """A disk with what is in its cache and what is safe.

    Attributes:
        names: Inode by path, as programs see it; folders are inodes without content.
        synced_names: Inode by name, of each folder, as of its last fsync.
        contents: Of each inode, as of its last fsync; None where there was none.
        unsynced: What else is known of an inode's content.
    """

    names: dict[str, int] = field(default_factory=dict)
    synced_names: dict[str, dict[str, int]] = field(default_factory=dict)
    contents: dict[int, bytes] = field(default_factory=dict)
    unsynced: dict[int, bytes] = field(default_factory=dict)
    folders: set[str] = field(default_factory=lambda: {"."})
    inodes: int = 0

    def play(self, one: Operation) -> None:
        """Do what a program did."""
        if one.what == "mkdir":
            self.folders.add(one.path)
            self.names[one.path] = self._new()
        elif one.what == "create":
            self.names[one.path] = self._new()
        elif one.what == "sync":
            self.contents[self.names.setdefault(one.path, self._new())] = one.content
        elif one.what == "sync folder":
            self.synced_names[one.path] = self._in(one.path)
        elif one.what in ("link", "replace"):
            inode = self.names.setdefault(one.path, self._new())
            self.names[one.new_path] = inode
            self.unsynced[inode] = one.content
            if one.what == "replace":
                del self.names[one.path]
        elif one.what == "unlink":
            self.names.pop(one.path, None)

    def after_power_loss(self, way: str, luck: random.Random) -> dict[str, bytes | None]:
        """Return what is there again: content by path, None for a folder."""
        left: dict[str, bytes | None] = {}

        def fill(folder: str) -> None:
            eager = way == "eager" or (way == "mixed" and luck.random() < 0.5)
            there = self._in(folder) if eager else self.synced_names.get(folder, {})
            for name, inode in there.items():
                path = name if folder == "." else f"{folder}/{name}"
                if path in self.folders:
                    left[path] = None
                    fill(path)
                else:
                    left[path] = self._content(inode, way, luck)

        fill(".")
        return left

    def _content(self, inode: int, way: str, luck: random.Random) -> bytes:
        if inode in self.contents:
            return self.contents[inode]
        written = self.unsynced.get(inode, b"")
        return b"" if way == "strict" else written[: luck.randrange(len(written) + 1)]

    def _in(self, folder: str) -> dict[str, int]:
        return {Path(path).name: inode for path, inode in self.names.items() if str(Path(path).parent) == folder}

    def _new(self) -> int:
        self.inodes += 1
        return self.inodes


@dataclass(frozen=True)
class Cut:
    """What a power loss leaves, and what had been acknowledged by then."""

    at: int
    way: str
    files: Mapping[str, bytes | None]
    acks: tuple[Mapping[str, Any], ...]
    maintained: bool  # maintenance, which takes long, goes on with some of them


def run(seed: int, folder: Path, *, quick: bool) -> Result:
    result = Result("power", seed)
    operations = recorded(folder, seed)
    result.figures = {"operations": len(operations), "cut_points": len(operations) + 1}
    base = FAST if FAST.is_dir() else folder
    every = list(cuts(operations, seed))
    chosen = random.Random(seed).sample(every, min(len(every), QUICK_CUTS)) if quick else every
    workshop = Path(tempfile.mkdtemp(prefix="audiophile-chaos-", dir=base))
    try:
        with ProcessPoolExecutor(2, multiprocessing.get_context("forkserver")) as pool:
            for cut, (findings, problems) in zip(
                chosen, pool.map(judge, chosen, [workshop] * len(chosen), chunksize=4), strict=True
            ):
                where = f"cut {cut.at}, {cut.way}"
                result.kills[cut.way] += 1
                for name, found in vars(findings).items():
                    getattr(result.findings, name).extend(f"{where}: {one}" for one in found)
                result.problems += [f"{where}: {one}" for one in problems]
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
    result.tried = len(every)
    result.acknowledged = sum(one.what == "ack" for one in operations)
    result.figures["distinct_states"] = len(every)
    return result


def recorded(folder: Path, seed: int) -> list[Operation]:
    """Let a process of its own work on a lake; return its file operations, with the acknowledgements in between."""
    process = multiprocessing.get_context("forkserver").Process(target=_work, args=(folder, seed))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError("the work that is recorded failed")
    return Operation.load(folder / "operations.pickle")


def _work(folder: Path, seed: int) -> None:
    """Upload, ingest, refresh, change the group and maintain, all of it more than once."""
    from storage import rewrite
    from storage.erasure import erase

    rewrite.MIN_SMALL_FILES = 3
    root = folder / "lake"
    root.mkdir()
    with record(root) as operations:

        class Told(Journal):
            def acknowledged(self, what: str, **facts: Any) -> None:
                operations.append(
                    Operation("ack", "", content=json.dumps({"what": what} | facts, default=str).encode())
                )

        journal = Told(folder / "journals" / "writer")
        writer = Writer(Work(Place.of(root), folder / "journals" / "writer", "writer", seed), journal)
        for part in range(2):
            for _ in range(2):
                for what in ("upload", "upload", "ingest", "group", "refresh"):
                    writer.attempt(what)
            with writer.lake.index() as index:
                known = [row["file_id"] for row in index.query("SELECT file_id FROM files ORDER BY file_id")]
                entry = erase(writer.lake, index, [writer.luck.choice(known)], uuid.uuid4())
                journal.acknowledged("erase", key=entry.key, seq=entry.seq)
                stages(writer.lake, index, now=datetime.now(UTC) + (part + 1) * MUCH_LATER, fold_after=1)
                index.rebase()
    refused = [line for line in lines(folder / "journals" / "writer") if line["kind"] in ("refused", "lost")]
    if refused:
        raise RuntimeError(str(refused))
    Operation.save(operations, folder / "operations.pickle")


def cuts(operations: list[Operation], seed: int) -> Iterator[Cut]:
    """Yield what every cut leaves in every way, but for what another has left already."""
    seen: set[bytes] = set()
    for way in WAYS:
        disk, acks = Disk(), []
        for at, operation in enumerate([None, *operations]):
            if operation is not None and operation.what == "ack":
                acks.append(json.loads(operation.content))
            elif operation is not None:
                disk.play(operation)
            if way == "mixed" and at % MIXED_EVERY:
                continue
            files = disk.after_power_loss(way, random.Random(seed + at))
            state = _digest(files, len(acks))
            if state not in seen:
                seen.add(state)
                yield Cut(at, way, files, tuple(acks), maintained=len(seen) % MAINTAINED_EVERY == 0)


def _digest(files: Mapping[str, bytes | None], acks: int) -> bytes:
    """Tell states apart by all but hidden files, which only take room."""
    state = hashlib.sha256(str(acks).encode())
    for path in sorted(files):
        if not Path(path).name.startswith("."):
            state.update(path.encode() + hashlib.sha256(files[path] or b"").digest())
    return state.digest()


def judge(cut: Cut, workshop: Path) -> tuple[Findings, list[str]]:
    """Hold what a cut left to what was acknowledged, and let a new writer and maintenance go on with it."""
    logging.getLogger("storage").setLevel(logging.CRITICAL)  # a torn index file is made anew at many cuts
    folder = Path(tempfile.mkdtemp(dir=workshop))
    findings, problems = Findings(), []
    try:
        place = Place.of(folder / "lake")
        (folder / "lake").mkdir()
        for path, content in cut.files.items():
            where = folder / "lake" / path
            if content is None:
                where.mkdir(parents=True, exist_ok=True)
            else:
                where.parent.mkdir(parents=True, exist_ok=True)
                where.write_bytes(content)
        told = Acknowledged.of(cut.acks)
        findings.add(_looked_at(place, told))
        journal = folder / "journals" / "settler"
        writer = Writer(Work(place, journal, "settler", 1), Journal(journal))
        writer.attempt("upload")
        if not writer.settle():
            problems.append("a new writer cannot go on")
        wrong = [line for line in lines(journal) if line["kind"] in ("refused", "lost")]
        problems += [f"{line['what']}: {line.get('error', '')}" for line in wrong]
        if cut.maintained:
            lake = Lake.open(place)
            with lake.index() as index:
                for days in (10, 20):
                    stages(lake, index, now=datetime.now(UTC) + days * MUCH_LATER, fold_after=1)
            files = read_all(place)
            problems += [f"{path} still has something of an erased recording" for path in traces(files)]
            findings.add(compare(place, files))
            findings.add(verified(place))
        findings.add(check(read_all(place), told))
    except Exception as error:
        frames = [f"{Path(one.filename).name}:{one.name}" for one in traceback.extract_tb(error.__traceback__)]
        problems.append(f"{type(error).__name__}: {error} ({' > '.join(frames)})")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return findings, problems


def _looked_at(place: Place, told: Acknowledged) -> Findings:
    files = read_all(place)
    findings = check(files, told)
    if Truth(files).entries:
        findings.add(verified(place))
    return findings
