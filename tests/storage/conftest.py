"""Lakes on temporary folders, and an author who commits to them what flows would."""

import hashlib
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from storage.commit import Draft
from storage.index import Index
from storage.lake import Lake
from storage.log import GroupModel, LogEntry
from storage.store import LocalStore
from storage.tables import TABLES, table_from_rows

START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Author:
    """Commits rows; names and labels are all that a test has to think of."""

    lake: Lake
    index: Index
    minutes: int = 0

    def now(self) -> datetime:
        """A clock that goes a minute a look, so that every order is certain."""
        self.minutes += 1
        return START + timedelta(minutes=self.minutes)

    def file_row(self, name: str, *, status: str = "accepted") -> dict[str, Any]:
        sha256 = hashlib.sha256(name.encode()).hexdigest()
        return {
            "file_id": UUID(sha256[:32]),
            "sha256": sha256,
            "size_bytes": 16_044,
            "status": status,
            "reason": None if status == "accepted" else "no audio in it",
            "duration_s": 1.0,
            "sample_rate": 8000,
            "channels": 1,
            "format": "WAV/PCM_16",
            "ingested_at": self.now(),
        }

    def source_row(self, file_id: UUID, name: str, **changes: Any) -> dict[str, Any]:
        row = {
            "file_id": file_id,
            "kind": "upload",
            "uri": f"upload:{name}",
            "name": name,
            "size_bytes": 16_044,
            "mtime_ns": 0,
            "seen_at": self.now(),
            "present": True,
        }
        return row | changes

    def commit(self, op: str, *, key: UUID | None = None, **draft: Any) -> LogEntry | None:
        """Commit rows by table, under a new key unless one is given."""
        tables = {name: table_from_rows(name, draft.pop(name)) for name in TABLES if name in draft}
        return self.lake.commit(
            self.index, op=op, key=key or uuid.uuid4(), plan=lambda: Draft(tables, **draft), started_at=START
        )

    def ingest(self, *names: str, status: str = "accepted") -> list[UUID]:
        """Take in one recording for each name, all in one entry; return their ids."""
        rows = [self.file_row(name, status=status) for name in names]
        sources = [self.source_row(row["file_id"], name) for row, name in zip(rows, names, strict=True)]
        self.commit("ingest", files=rows, sources=sources)
        return [row["file_id"] for row in rows]

    def group(self, models: Mapping[str, str], *, disabled: tuple[str, ...] = ()) -> None:
        """Record a model group: version by name."""
        self.commit(
            "group",
            group=tuple(
                GroupModel(name, version, "phrases", name not in disabled, {}) for name, version in models.items()
            ),
        )

    def refresh(
        self,
        answers: Mapping[tuple[UUID, str], list[tuple[str, float]]],
        version: str = "v1",
        *,
        held: bool = False,
        one_off: bool = False,
    ) -> UUID:
        """Publish a reference, or hold it back: label and confidence of each detection, by recording and model."""
        reference = uuid.uuid4()
        same = {"model_version": version, "channel": 0}
        coverage, utterances, predictions, descriptors = [], [], [], []
        for (file_id, model), found in answers.items():
            row = {"file_id": file_id, "model": model, **same}
            coverage.append(self.coverage_row(file_id, model, version, predictions=len(found), descriptors=1))
            text = " ".join(label for label, _ in found)
            whole = {**row, "utterance": 0, "start_s": 0.0, "end_s": 1.0}
            utterances.append({**whole, "text": text})
            descriptors.append({**whole, "level_dbfs": -20.0, "embedding": file_id.bytes})
            predictions += [
                {**row, "utterance": 0, "label": label, "start_s": at / 4, "end_s": at / 4 + 0.2, "confidence": sure}
                for at, (label, sure) in enumerate(found)
            ]
        answers_of = {"coverage": coverage, "utterances": utterances, "predictions": predictions}
        models = dict.fromkeys(model for _, model in answers) if one_off else ()
        group = tuple(GroupModel(model, version, "phrases", True, {"phrases": ["once"]}) for model in models)
        held = held or one_off
        self.commit("refresh", reference=reference, held=held, group=group, **answers_of, descriptors=descriptors)
        return reference

    def baseline(self, file_ids: Iterable[UUID], *, name: str = "first", version: int = 1) -> UUID:
        """Make a baseline of recordings."""
        baseline_id = uuid.uuid4()
        rows = self._drift_files(baseline_id, file_ids)
        made = {"baseline_id": baseline_id, "name": name, "version": version, "chosen": "by a test"}
        counts = {"recordings": len(rows), "utterances": len(rows)}
        self.commit("drift", baselines=[{**made, **counts, "made_at": self.now()}], drift_files=rows)
        return baseline_id

    def window(self, file_ids: Iterable[UUID], *verdicts: str, baseline_id: UUID | None = None) -> UUID:
        """Close a window of recordings, with a test for each verdict."""
        window_id = uuid.uuid4()
        rows = self._drift_files(window_id, file_ids)
        last = max(row["arrived_seq"] for row in rows)
        (entry,) = self.index.query("SELECT reference FROM entries WHERE seq = ?", [last])
        window = {
            "window_id": window_id,
            "reference": entry["reference"],
            "baseline_id": baseline_id,
            "opened_at": self.now(),
            "closed_at": self.now(),
            "closed_by": "size",
            "recordings": len(rows),
            "utterances": len(rows),
            "detector": "ks",
            "statistic": 0.5,
            "p_value": 0.25,
            "threshold": 0.01,
            "effect": 0.5,
        }
        tests = [
            {**window, "descriptor": f"d{place}", "verdict": verdict, "place": place}
            for place, verdict in enumerate(verdicts)
        ]
        self.commit("drift", drift=tests, drift_files=rows)
        return window_id

    def model_change(self, reference: UUID, model: str = "m") -> UUID:
        """Record that two versions of a model were compared on the recordings of a reference."""
        change_id = uuid.uuid4()
        row = {
            "window_id": change_id,
            "reference": reference,
            "opened_at": self.now(),
            "closed_at": self.now(),
            "closed_by": "model_change",
            "recordings": 1,
            "utterances": 1,
            "detector": "model_change",
            "descriptor": model,
            "statistic": 0.75,
            "verdict": "model_change",
            "details": '{"before_version": "v1", "after_version": "v2", "labels": {"call": {"both": 1}}}',
            "place": 0,
        }
        self.commit("drift", drift=[row], reference=reference)
        return change_id

    def _drift_files(self, window_id: UUID, file_ids: Iterable[UUID]) -> list[dict[str, Any]]:
        self.index.catch_up()
        sql = "SELECT max(seq) AS seq FROM coverage WHERE file_id = ?"
        came = {file_id: self.index.query(sql, [file_id])[0]["seq"] for file_id in file_ids}
        return [
            {"file_id": file_id, "window_id": window_id, "arrived_seq": seq, "utterances": 1}
            for file_id, seq in came.items()
        ]

    def coverage_row(self, file_id: UUID, model: str, version: str = "v1", **changes: Any) -> dict[str, Any]:
        row = {
            "file_id": file_id,
            "model": model,
            "model_version": version,
            "state": "computed",
            "tries": 0,
            "first_reference": uuid.uuid4(),
            "predictions": 0,
            "descriptors": 0,
        }
        return row | changes


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "lake")


@pytest.fixture(scope="session")
def new_author(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Author]:
    """Makes an author with an empty lake of its own; for Hypothesis, which needs one for each example."""

    def make() -> Author:
        lake = Lake.open(tmp_path_factory.mktemp("lake"))
        return Author(lake, lake.index())

    return make


@pytest.fixture
def author(new_author: Callable[[], Author]) -> Author:
    return new_author()
