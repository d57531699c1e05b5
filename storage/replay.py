"""Replays the log by hand, for verification: what it says without an index. It must not read Parquet files."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from storage.errors import LogError
from storage.log import LARGEST_BATCH, DataFile, LogEntry, decode, entry_path
from storage.report import Findings
from storage.store import Store

_NAME: Final = re.compile(r"(\d{20})\.json")
_RESTORE: Final = "Restore it from a copy of the lake"


@dataclass(frozen=True, slots=True)
class Tombstone:
    """An erased recording."""

    seq: int  # of the newest delete; older rows do not count
    lifted: bool = False
    purged_at: datetime | None = None


@dataclass(slots=True)
class Replay:
    """The state after log entry `head`.

    Attributes:
        is_whole: No entry is missing or damaged so far; otherwise the rest is a guess.
        live: Parquet files that count, by path.
        given_up: Paths that an entry has removed.
        refreshes: Reference of each refresh.
        held: Refreshes that were not published at once.
        released: Those of them that are by now.
        expired: Refreshes that are not kept.
    """

    head: int = 0
    is_whole: bool = True
    group_seq: int = 0
    keys: dict[UUID, int] = field(default_factory=dict)
    live: dict[str, DataFile] = field(default_factory=dict)
    given_up: set[str] = field(default_factory=set)
    refreshes: dict[int, UUID | None] = field(default_factory=dict)
    held: set[int] = field(default_factory=set)
    released: set[int] = field(default_factory=set)
    expired: set[int] = field(default_factory=set)
    tombstones: dict[UUID, Tombstone] = field(default_factory=dict)
    _seqs: dict[UUID, int] = field(default_factory=dict)

    @property
    def withheld(self) -> set[int]:
        """Refreshes that are nobody's latest."""
        return self.held - self.released

    def read_all(self, store: Store, findings: Findings) -> None:
        """Replay up to the last entry that is there now, and name what is missing or damaged on the way."""
        names = store.names("log")
        for name in names:
            if _NAME.fullmatch(name) is None:
                findings.add("log", f"log/{name}", "this is no log entry", "Move it out of the lake")
        numbers = (int(match[1]) for name in names if (match := _NAME.fullmatch(name)))
        self._go_on(store, max(numbers, default=0), findings)

    def catch_up(self, store: Store, findings: Findings, until: int | None = None) -> None:
        """Replay what was committed since, up to entry `until` only where given."""
        while until is None or self.head < until:
            content = store.read(entry_path(self.head + 1))
            if content is None:
                return
            self._take(content, self.head + 1, findings)

    def _go_on(self, store: Store, until: int, findings: Findings) -> None:
        for seq, content in _contents(store, self.head, until):
            self._take(content, seq, findings)
            findings.at("log entries", seq, until)

    def _take(self, content: bytes | None, seq: int, findings: Findings) -> None:
        self.head = seq
        findings.looked_at["log entries"] += 1
        if content is None:
            self.is_whole = False
            findings.add("log", entry_path(seq), "it is missing, and later entries are there", _RESTORE)
            return
        try:
            entry = decode(content, seq)
        except LogError as error:
            self.is_whole = False
            wrong, _, remedy = str(error).rpartition(": ")  # a newer format has another one than damage
            findings.add("log", entry_path(seq), wrong, remedy[:1].upper() + remedy[1:])
            return
        self._apply(entry, findings)

    def _apply(self, entry: LogEntry, findings: Findings) -> None:
        def wrong(what: str) -> None:
            findings.add("log", entry_path(entry.seq), what, "Readers show what follows from it; report this as a bug")

        if entry.key in self.keys:
            wrong(f"its key {entry.key} was committed before, by entry {self.keys[entry.key]}")
        self.keys.setdefault(entry.key, entry.seq)
        self.group_seq = entry.seq if entry.op == "group" else self.group_seq
        if entry.group_seq != self.group_seq and self.is_whole:
            wrong(f"it says that the group is of entry {entry.group_seq}, and it is of {self.group_seq}")
        for file in entry.live_files:
            if file.path in self.live or file.path in self.given_up:
                wrong(f"it adds {file.path}, which was added or given up before")
            self.live[file.path] = file
        for path in entry.removed:
            self.live.pop(path, None)
            self.given_up.add(path)
        self._apply_reference(entry)
        self._apply_erasure(entry)

    def _apply_reference(self, entry: LogEntry) -> None:
        if entry.op == "refresh":
            self.refreshes[entry.seq] = entry.reference
            if entry.reference is not None:
                self._seqs[entry.reference] = entry.seq
            if entry.held:
                self.held.add(entry.seq)
        elif entry.op == "release" and entry.reference in self._seqs:
            self.released.add(self._seqs[entry.reference])
        self.expired |= {self._seqs[reference] for reference in entry.expired if reference in self._seqs}

    def _apply_erasure(self, entry: LogEntry) -> None:
        if entry.op == "delete":
            self.tombstones |= {file_id: Tombstone(entry.seq) for file_id in entry.deleted}
            for file_id in entry.lifted:
                if old := self.tombstones.get(file_id):
                    self.tombstones[file_id] = Tombstone(old.seq, True, old.purged_at)
        elif entry.op == "rewrite":
            for file_id in entry.deleted:
                if old := self.tombstones.get(file_id):
                    self.tombstones[file_id] = Tombstone(old.seq, old.lifted, entry.committed_at)


def _contents(store: Store, after: int, until: int) -> Iterator[tuple[int, bytes | None]]:
    for start in range(after + 1, until + 1, LARGEST_BATCH):
        seqs = range(start, min(start + LARGEST_BATCH, until + 1))
        yield from zip(seqs, store.read_many([entry_path(seq) for seq in seqs]), strict=True)
