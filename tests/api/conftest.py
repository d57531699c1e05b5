"""The API as a real server on a free port, over a lake on a temporary folder, and a scribe in place of the flows."""

import contextlib
import hashlib
import json
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI

from api.app import create_app
from storage.commit import Draft
from storage.index import Index
from storage.lake import Lake
from storage.log import GroupModel
from storage.settings import Settings
from storage.sniffing import HEAD_BYTES, refusal
from storage.tables import table_from_rows
from tests.serving import serving
from tests.waiting import wait_for

MODEL_VERSION = "v1"
WAV = b"RIFF\0\0\0\0WAVE"
"""How a recording begins, which is all that the API looks at."""


def recording(content: bytes) -> bytes:
    """Return `content`, beginning like a recording where it did not: most tests only need that it differs."""
    return content if not content or refusal(content[:HEAD_BYTES]) is None else WAV + content


Found = list[tuple[str, float]]


@dataclass
class Scribe:
    """Writes to a lake as a process of its own: what ingest and infer would."""

    lake: Lake

    def commit(self, op: str, rows: dict[str, list[dict[str, Any]]], **draft: Any) -> None:
        tables = {name: table_from_rows(name, those) for name, those in rows.items()}
        with self.lake.index() as index:
            self.lake.commit(
                index, op=op, key=uuid.uuid4(), plan=lambda: Draft(tables, **draft), started_at=datetime.now(UTC)
            )

    def group(self, *models: str) -> None:
        self.commit("group", {}, group=tuple(GroupModel(name, MODEL_VERSION, "phrases", True, {}) for name in models))

    def ingest(self, *, rejected: bool = False) -> None:
        """Take every acknowledged upload into the log."""
        receipts = self.lake.inbox.receipts()
        facts = {"status": "rejected", "reason": "no audio in it"} if rejected else {"status": "accepted"}
        files = [
            {"file_id": blob[0], "sha256": blob[1], "size_bytes": blob[2], "ingested_at": datetime.now(UTC), **facts}
            | ({} if rejected else {"duration_s": 1.2345, "sample_rate": 8000, "channels": 1, "format": "WAV/PCM_16"})
            for blob in {(receipt.file_id, receipt.sha256, receipt.size_bytes) for receipt in receipts}
        ]
        sources = [
            {"file_id": receipt.file_id, "kind": "upload", "uri": f"upload:{number}", "name": receipt.name}
            | {"size_bytes": receipt.size_bytes, "mtime_ns": 0, "seen_at": receipt.received_at, "present": True}
            for number, receipt in enumerate(receipts)
        ]
        self.commit("ingest", {"files": files, "sources": sources})
        for receipt in receipts:
            self.lake.inbox.remove(receipt)

    def refresh(self, file_id: UUID, answers: dict[str, Found], **draft: Any) -> str:
        """Publish a reference for one recording: label and confidence of each detection, by model."""
        reference = uuid.uuid4()
        coverage, utterances, predictions = [], [], []
        for model, found in answers.items():
            row = {"file_id": file_id, "model": model, "model_version": MODEL_VERSION}
            facts = {"state": "computed", "tries": 0, "first_reference": reference, "predictions": len(found)}
            coverage.append(row | facts)
            place = row | {"channel": 0, "utterance": 0}
            text = " ".join(label for label, _ in found)
            utterances.append(place | {"start_s": 0.25, "end_s": 1.0, "text": text})
            predictions += [
                place | {"label": label, "start_s": at / 4, "end_s": at / 4 + 0.125, "confidence": confidence}
                for at, (label, confidence) in enumerate(found, 1)
            ]
        rows = {"coverage": coverage, "utterances": utterances, "predictions": predictions}
        self.commit("refresh", rows, reference=reference, **draft)
        return str(reference)


@dataclass
class Api:
    """A running API, and the lake behind it."""

    http: httpx.Client
    scribe: Scribe
    app: FastAPI

    @property
    def lake(self) -> Lake:
        return self.scribe.lake

    def upload(self, content: bytes = WAV, name: str = "a.wav") -> httpx.Response:
        return self.http.post("/api/files/upload", files={"file": (name, recording(content))})

    def ingested(self, content: bytes = WAV, name: str = "a.wav") -> UUID:
        """Upload a recording and have it ingested; return its id."""
        self.upload(content, name)
        self.scribe.ingest()
        return UUID(hashlib.sha256(recording(content)).hexdigest()[:32])

    def file(self, file_id: object, **parameters: Any) -> dict[str, Any]:
        return dict(self.http.get(f"/api/files/{file_id}", params=parameters).raise_for_status().json())

    def files(self, **parameters: Any) -> list[dict[str, Any]]:
        return list(self.http.get("/api/files", params=parameters).raise_for_status().json())

    def stored(self) -> list[str]:
        """Paths of all files in the lake."""
        root = self.lake.store.root
        return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


@pytest.fixture
def nowhere() -> Iterator[str]:
    """An address at which nobody listens, as Prefect's is while it is away."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/api"


@pytest.fixture
def serve(
    tmp_path: Path, nowhere: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., contextlib.AbstractContextManager[Api]]:
    """Serves the lake in tmp_path/data, with settings by their names in the environment."""
    for setting in Settings.model_fields.values():
        monkeypatch.delenv(str(setting.validation_alias), raising=False)

    @contextlib.contextmanager
    def start(**values: Any) -> Iterator[Api]:
        values = {"AUDIOPHILE_DATA": tmp_path / "data", "PREFECT_API_URL": nowhere} | values
        app = create_app(Settings(_env_file=None, **values))  # type: ignore[call-arg]
        with serving(app) as http:
            yield Api(http, Scribe(Lake.open(tmp_path / "data")), app)

    return start


@pytest.fixture
def api(serve: Callable[..., contextlib.AbstractContextManager[Api]]) -> Iterator[Api]:
    with serve() as running:
        yield running


@dataclass
class FakePrefect:
    """Answers the three requests that start a run, and notes them; before it is well, it answers nonsense.

    While it is busy, it refuses runs as Prefect does on SQLite where two requests write at once.
    """

    url: str
    requests: list[str]
    well: bool = True
    busy: float = 0  # how many more runs are refused
    waiting_runs: int = 0
    made: dict[str, dict[str, Any]] = field(default_factory=dict)  # what runs were made with, by key: one for each
    keys: list[str] = field(default_factory=list)  # of all requests for runs
    passwords: set[str | None] = field(default_factory=set)  # that were given, as they are in the header

    @property
    def asked(self) -> list[dict[str, Any]]:
        """What runs were made with."""
        return list(self.made.values())

    def wait_for(self, count: int) -> list[str]:
        """Return the requests, once there are `count` at least."""
        wait_for(f"{count} requests", lambda: len(self.requests) >= count, every_s=0.01)
        return list(self.requests)


@pytest.fixture
def prefect() -> Iterator[FakePrefect]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer({"id": f"{self.path.rpartition('/')[2]}-id"})

        def do_POST(self) -> None:
            sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            is_run = self.path.endswith("/create_flow_run")
            refused = is_run and fake.busy > 0
            fake.busy -= refused
            if is_run:
                key = sent.pop("idempotency_key")
                fake.keys.append(key)
                if not refused:
                    fake.made.setdefault(key, sent)
            answer = fake.waiting_runs if self.path.endswith("/count") else {"id": "run-id"}
            self._answer(answer, 503 if refused else 200)

        def _answer(self, body: object, status: int = 200) -> None:
            content = json.dumps(body).encode() if fake.well else b"<html>Another service lives here</html>"
            fake.passwords.add(self.headers["Authorization"])
            fake.requests.append(f"{self.command} {self.path}")  # before the answer, which brings the next request
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        fake = FakePrefect(f"http://127.0.0.1:{server.server_port}/api", [])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield fake
        server.shutdown()
        thread.join()


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of indexes, by all threads."""
    asked: list[str] = []
    run = Index.run

    def noting(self: Index, sql: str, parameters: Any = ()) -> Any:
        asked.append(sql)
        return run(self, sql, parameters)

    monkeypatch.setattr(Index, "run", noting)
    return asked
