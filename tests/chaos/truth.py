"""Holds a lake to what its writers were told, by its bytes alone: JSON, Parquet and hashes, and no code of storage.

Only `compare` asks the product, for its own view of the same bytes.
"""

import hashlib
import io
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow.parquet as pq

from storage.errors import StorageError
from storage.index import Index
from storage.lake import Lake
from storage.place import Place
from storage.verify import verify
from tests.chaos import synthetic
from tests.chaos.journal import lines
from tests.chaos.reader import covered, found, not_whole

Bytes = Mapping[str, bytes]
"""A whole lake: content by path."""

LOG, MEDIA, TRASH = "log/", "media/", "trash/"


@dataclass
class Findings:
    """What is wrong with a lake, in words."""

    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    half_visible: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    def add(self, other: "Findings") -> None:
        for name in self.__dataclass_fields__:
            ours = getattr(self, name)
            ours.extend(one for one in getattr(other, name) if one not in ours)

    @property
    def nothing(self) -> bool:
        return not (self.lost or self.duplicated or self.half_visible or self.damaged)


@dataclass(frozen=True)
class Acknowledged:
    """What writers were told is safe."""

    uploads: frozenset[tuple[str, str]] = frozenset()  # name and sha256
    commits: Mapping[str, int] = field(default_factory=dict)  # seq by key
    answers: frozenset[tuple[int, UUID, str, str]] = frozenset()  # seq, file, model and version of a refresh's coverage

    @property
    def count(self) -> int:
        return len(self.uploads) + len(self.commits)

    @classmethod
    def by(cls, journals: Iterable[Path]) -> "Acknowledged":
        return cls.of(line for journal in journals for line in lines(journal) if line["kind"] == "ack")

    @classmethod
    def of(cls, acks: Iterable[Mapping[str, Any]]) -> "Acknowledged":
        uploads: set[tuple[str, str]] = set()
        commits: dict[str, int] = {}
        answers: set[tuple[int, UUID, str, str]] = set()
        for ack in acks:
            if ack["what"] == "upload":
                uploads.add((ack["name"], ack["sha256"]))
            elif ack["seq"] is not None:
                commits[ack["key"]] = ack["seq"]
                answers |= {
                    (ack["seq"], UUID(file_id), model, version) for file_id, model, version in ack.get("covered", ())
                }
        return cls(frozenset(uploads), commits, frozenset(answers))


def read_all(place: Place) -> Bytes:
    """Read every byte of a lake."""
    if not place.is_s3:
        root = Path(place.url)
        return {
            str(path.relative_to(root)): path.read_bytes()
            for path in root.rglob("*")
            if path.is_file() and not path.name.startswith(".") and not path.is_relative_to(root / "index")
        }
    import s3fs

    files = s3fs.S3FileSystem(
        key=place.access.access_key_id,
        secret=place.access.secret_access_key.get_secret_value(),
        endpoint_url=place.access.endpoint_url,
        use_listings_cache=False,
        skip_instance_cache=True,
    )
    prefix = place.url.removeprefix("s3://")
    return {path.removeprefix(f"{prefix}/"): content for path, content in files.cat(files.find(prefix)).items()}


class Truth:
    """A lake as its bytes tell it."""

    def __init__(self, files: Bytes) -> None:
        self.files = files
        self.findings = Findings()
        self.entries = self._entries()
        self.tombstones = {
            UUID(one): entry["seq"] for entry in self.entries if entry["op"] == "delete" for one in entry["deleted"]
        }
        self.expired = {
            entry["seq"]
            for entry in self.entries
            if entry["op"] == "refresh"
            and entry["reference"] in {one for other in self.entries for one in other["expired"]}
        }
        self.rows = self._rows()

    @cached_property
    def latest(self) -> dict[UUID, int]:
        """Of each file, the newest entry with coverage of it."""
        newest: dict[UUID, int] = {}
        for row in self.rows["coverage"]:
            newest[row["file_id"]] = max(row["seq"], newest.get(row["file_id"], 0))
        return newest

    def _entries(self) -> list[dict[str, Any]]:
        paths = sorted(path for path in self.files if path.startswith(LOG))
        if paths != [f"{LOG}{seq:020d}.json" for seq in range(1, len(paths) + 1)]:
            self.findings.lost.append(f"the log has gaps, or what is no entry: {len(paths)} files up to {paths[-1]}")
        entries = []
        for path in paths:
            try:
                entries.append(json.loads(self.files[path]))
            except ValueError as error:
                self.findings.half_visible.append(f"{path}: {error}")
        for key, count in Counter(entry["key"] for entry in entries).items():
            if count > 1:
                self.findings.duplicated.append(f"key {key} is in the log {count} times")
        return entries

    def _rows(self) -> dict[str, list[dict[str, Any]]]:
        rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
        removed = {path for entry in self.entries for path in entry["removed"]}
        for entry in self.entries:
            for file in entry["files"]:
                if file["path"] not in removed:
                    rows[file["table"]] += self._read(file, entry["seq"])
        return rows

    def _read(self, file: Mapping[str, Any], seq: int) -> list[dict[str, Any]]:
        content = self.files.get(file["path"])
        if content is None:
            self.findings.lost.append(f"entry {seq} names {file['path']}, and it is not there")
            return []
        if hashlib.sha256(content).hexdigest() != file["sha256"] or len(content) != file["size_bytes"]:
            self.findings.damaged.append(f"{file['path']} is not what entry {seq} says")
            return []
        rows = pq.read_table(io.BytesIO(content)).to_pylist()
        if len(rows) != file["rows"]:
            self.findings.damaged.append(f"{file['path']} has {len(rows)} rows, and entry {seq} says {file['rows']}")
        rows = [{"seq": seq} | row for row in rows]
        return [row for row in rows if row["seq"] >= self.tombstones.get(row["file_id"], 0)]


def check(files: Bytes, told: Acknowledged) -> Findings:
    """Say what a lake has lost of what was acknowledged, has twice, or shows by halves."""
    truth = Truth(files)
    for findings in (_lost(truth, told), _duplicated(truth), _half_visible(truth)):
        truth.findings.add(findings)
    return truth.findings


def _lost(truth: Truth, told: Acknowledged) -> Findings:
    lost: list[str] = []
    keys = {entry["key"]: entry["seq"] for entry in truth.entries}
    for key, seq in told.commits.items():
        if keys.get(key) != seq:
            lost.append(f"commit {key} was acknowledged as entry {seq}, and is {keys.get(key)}")
    covered_now = {(row["seq"], row["file_id"], row["model"], row["model_version"]) for row in truth.rows["coverage"]}
    lost += [
        f"{answer} was acknowledged, and is not there"
        for answer in told.answers - covered_now
        if answer[0] not in truth.expired and answer[1] not in truth.tombstones
    ]
    receipts = [json.loads(content) for path, content in truth.files.items() if path.startswith("inbox/")]
    names = {(row["file_id"], row["name"]) for row in truth.rows["sources"]}
    names |= {(UUID(receipt["sha256"][:32]), receipt["name"]) for receipt in receipts}
    registered = {row["file_id"] for row in truth.rows["files"] if row["status"] == "accepted"}
    for name, sha256 in told.uploads:
        file_id = UUID(sha256[:32])
        if file_id in truth.tombstones:
            continue
        if (file_id, name) not in names:
            lost.append(f"upload {name} has neither a receipt nor a source")
    for sha256 in {receipt["sha256"] for receipt in receipts} | {row["sha256"] for row in truth.rows["files"]}:
        if UUID(sha256[:32]) in truth.tombstones:
            continue
        blob = truth.files.get(f"{MEDIA}{sha256[:2]}/{sha256}") or next(
            (content for path, content in truth.files.items() if path.startswith(f"{TRASH}{sha256}")), None
        )
        if blob is None or hashlib.sha256(blob).hexdigest() != sha256:
            lost.append(f"the bytes {sha256} are {'not there' if blob is None else 'others'}")
    lost += [f"{file_id} is predicted, and not registered" for file_id in truth.latest.keys() - registered]
    return Findings(lost=lost)


def _duplicated(truth: Truth) -> Findings:
    twice = [
        ("{} is registered {} times", Counter(row["file_id"] for row in truth.rows["files"])),
        ("source {} is there {} times", Counter((row["uri"], row["file_id"]) for row in truth.rows["sources"])),
        (
            "{} was computed {} times",
            Counter(
                (row["file_id"], row["model"], row["model_version"])
                for row in truth.rows["coverage"]
                if row["state"] == "computed"
            ),
        ),
        (
            "{} is covered {} times",
            Counter((row["seq"], row["file_id"], row["model"]) for row in truth.rows["coverage"]),
        ),
    ]
    return Findings(
        duplicated=[
            words.format(what, count) for words, counted in twice for what, count in counted.items() if count > 1
        ]
    )


def _half_visible(truth: Truth) -> Findings:
    """Look into every reference that is kept, not the latest only."""
    wrong: list[str] = []
    groups = {entry["seq"]: entry["group"] for entry in truth.entries if entry["op"] == "group"}
    enabled = {
        entry["seq"]: {
            (model["name"], model["version"]) for model in groups.get(entry["group_seq"], ()) if model["enabled"]
        }
        for entry in truth.entries
    }
    kept = {
        (row["file_id"], row["seq"])
        for row in truth.rows["coverage"]
        if row["seq"] not in truth.expired or truth.latest[row["file_id"]] == row["seq"]
    }
    coverage: dict[tuple[UUID, int], list[dict[str, Any]]] = defaultdict(list)
    answers: dict[tuple[UUID, int], dict[Any, list[synthetic.Detection]]] = defaultdict(lambda: defaultdict(list))
    for row in truth.rows["coverage"]:
        coverage[row["file_id"], row["seq"]].append(row)
    for row in truth.rows["predictions"]:
        one = synthetic.Detection(row["label"], row["start_s"], row["confidence"])
        answers[row["file_id"], row["seq"]][row["file_id"], row["model"], row["model_version"]].append(one)
    for whose, rows in coverage.items():
        if whose not in kept:
            continue
        wrong += [f"entry {whose[1]}: {what}" for what in not_whole(rows, answers.get(whose, {}))]
        models = {(row["model"], row["model_version"]) for row in rows}
        if models != enabled[whose[1]]:
            wrong.append(f"entry {whose[1]}: {whose[0]} has {models} of the group {enabled[whose[1]]}")
    wrong += [f"entry {seq}: predictions of {file_id}, and no coverage" for file_id, seq in answers.keys() - coverage]
    return Findings(half_visible=wrong)


def compare(place: Place, files: Bytes) -> Findings:
    """Compare what indexes show, from a snapshot and from the whole log, with the latest rows by brute force."""
    truth = Truth(files)
    findings = Findings()
    lake = Lake.open(place)
    for index in (Index(lake.store, folder=place.local / "index"), Index(lake.store)):
        with index:
            try:
                index.catch_up()
                rows, shown = covered(index), found(index)
            except StorageError as error:
                findings.damaged.append(f"the lake cannot be read: {error}")
                continue
            if index.applied_seq != len(truth.entries):
                findings.damaged.append(f"the index is at {index.applied_seq} of {len(truth.entries)}")
            findings.half_visible += not_whole(rows, shown)
            theirs = {(row["file_id"], row["seq"], row["model"], row["model_version"]) for row in rows}
            ours = {
                (row["file_id"], row["seq"], row["model"], row["model_version"])
                for row in truth.rows["coverage"]
                if truth.latest[row["file_id"]] == row["seq"]
            }
            if theirs != ours:
                findings.half_visible.append(f"the index differs in {len(theirs ^ ours)} latest answers")
            registered = {row["file_id"] for row in index.query("SELECT file_id FROM files")}
            if registered != {row["file_id"] for row in truth.rows["files"]}:
                findings.lost.append("the index has other recordings than the log")
    return findings


def verified(place: Place) -> Findings:
    """Let the product verify the lake."""
    return Findings(damaged=[f"verify: {problem}" for problem in verify(Lake.open(place)).problems])


def traces(files: Bytes) -> list[str]:
    """Say where something is left of recordings that were erased, but for their ids in the log and in tombstones."""
    erased = set(Truth(files).tombstones)
    left: list[str] = []
    for path, content in files.items():
        if path.startswith(LOG) or path.endswith("tombstones.parquet"):
            continue
        if any(file_id.hex in path for file_id in erased):
            left.append(path)
        elif path.endswith(".parquet"):
            table = pq.read_table(io.BytesIO(content))
            if "file_id" in table.column_names and erased & set(table["file_id"].to_pylist()):
                left.append(path)
    return left
