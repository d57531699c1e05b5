"""/metrics: numbers that Prometheus understands, of few series, and right."""

import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile
from prometheus_client.parser import text_string_to_metric_families

import api.metrics as api_metrics
from api.metrics import REASONS
from features.audio import probe
from features.errors import AudioError
from storage.commit import Draft
from storage.drift import OUTCOMES
from tests.api.test_health import ready
from tests.storage.conftest import Author

if TYPE_CHECKING:
    from tests.api.conftest import Api

PROJECT = Path(__file__).parents[2]
Numbers = dict[tuple[str, ...], float]


def numbers(api: "Api") -> Numbers:
    """Return every number by its name and the values of its labels."""
    response = api.http.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def test_requests_are_counted_by_the_template_of_their_route(api: "Api") -> None:
    for number in range(3):
        api.http.get(f"/api/files/{uuid.UUID(int=number)}")
        api.http.get(f"/nothing/{number}")
        api.http.get("/api/files/")
    api.http.request("BREW", "/api/files")
    found = numbers(api)
    assert found["audiophile_requests_total", "GET", "/api/files/{file_id}", "404"] == 3
    assert found["audiophile_requests_total", "GET", "unmatched", "404"] == 3
    assert found["audiophile_requests_total", "GET", "/api/files", "200"] == 3
    assert found["audiophile_response_bytes_total", "GET", "/api/files", "200"] == 3 * len(b"[]")
    assert {labels[1] for labels in found if labels[0] == "audiophile_requests_total"} <= {"GET", "other"}
    assert found["audiophile_request_seconds_count", "GET", "/api/files"] == 3
    assert found["audiophile_request_seconds_bucket", "+Inf", "GET", "/api/files"] == 3
    assert found["audiophile_request_seconds_sum", "GET", "/api/files"] > 0
    assert found["audiophile_requests_under_way",] == 1


def test_two_applications_count_for_themselves(serve: Callable) -> None:
    with serve() as one, serve() as other:
        one.http.get("/api/files")
        assert ("audiophile_requests_total", "GET", "/api/files", "200") in numbers(one)
        assert ("audiophile_requests_total", "GET", "/api/files", "200") not in numbers(other)


def test_the_index_says_how_far_it_is(api: "Api") -> None:
    ready(api)
    api.ingested()
    api.files()
    found = numbers(api)
    assert found["audiophile_index_applied_seq",] == 1
    assert found["audiophile_index_lag_entries",] == 0
    assert 0 <= found["audiophile_index_lag_seconds",] < 30
    assert ("audiophile_last_refresh_seconds",) not in found


def test_the_last_refresh_says_how_fast_it_was(api: "Api") -> None:
    ready(api)
    with api.lake.index() as index:
        api.lake.commit(
            index,
            op="refresh",
            key=uuid.uuid4(),
            plan=lambda: Draft({}, (), {"audio_s": 1200.0}, uuid.uuid4()),
            started_at=datetime.now(UTC) - timedelta(seconds=60),
        )
    api.files()
    found = numbers(api)
    assert found["audiophile_last_refresh_seconds",] == pytest.approx(60, abs=5)
    assert found["audiophile_last_refresh_audio_seconds",] == 1200
    assert found["audiophile_last_refresh_audio_seconds_per_second",] == pytest.approx(20, abs=2)
    assert 0 <= found["audiophile_last_reference_age_seconds",] < 30


def test_drift_is_counted_and_a_lake_without_windows_has_none(api: "Api", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_metrics, "COUNTED_S", -1.0)
    ready(api)
    found = numbers(api)
    assert {name: found["audiophile_drift_windows", name] for name in OUTCOMES} == dict.fromkeys(OUTCOMES, 0)
    assert (found["audiophile_drift",], found["audiophile_drift_waiting_recordings",]) == (0, 0)
    author = Author(api.lake, api.lake.index())
    ids = author.ingest(*"abc")
    reference = author.refresh({(id_, "m"): [] for id_ in ids})
    author.window(ids[:1], "drift", "no_drift")
    author.model_change(reference)
    api.files()
    found = numbers(api)
    assert [found["audiophile_drift_windows", name] for name in OUTCOMES] == [1, 1, 0, 0]
    assert (found["audiophile_drift",], found["audiophile_drift_waiting_recordings",]) == (1, 2)


def test_counts_are_counted_again_only_when_there_is_news_and_then_not_at_once(
    api: "Api", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_metrics, "COUNTED_S", 3600.0)
    ready(api)
    api.ingested()
    api.files()
    assert numbers(api)["audiophile_files", "accepted"] == 1
    api.ingested(b"another")
    api.files()
    assert numbers(api)["audiophile_files", "accepted"] == 1
    monkeypatch.setattr(api_metrics, "COUNTED_S", -1.0)
    assert numbers(api)["audiophile_files", "accepted"] == 2


def refused(path: Path, *, frames: int = 10, rate: int = 8000, channels: int = 1, **limits: float) -> str:
    """Return ingest's reason for refusing a recording."""
    with soundfile.SoundFile(path, "w", rate, channels, format="WAV") as file:
        file.write(np.zeros((frames, channels)))
    with pytest.raises(AudioError) as caught:
        probe(path, **{"max_duration_s": 60.0} | limits)
    return str(caught.value)


def reasons(folder: Path) -> dict[str, str]:
    """Return a reason of each kind, as ingest gives them, with its kind."""
    (folder / "text.wav").write_bytes(b"no audio")
    with pytest.raises(AudioError) as undecodable:
        probe(folder / "text.wav", max_duration_s=60)
    path = folder / "a.wav"
    of_decoder = re.findall(r'AudioError\(\s*f?"([^"]+)"', (PROJECT / "flows" / "decoder.py").read_text())
    ends, memory = (reason.replace("{MEMORY_BYTES >> 30}", "4") for reason in of_decoder)
    return {
        str(undecodable.value): "undecodable",
        refused(path, frames=0): "no-samples",
        refused(path, max_duration_s=0): "too-long",
        refused(path, max_seconds=-1): "too-slow",
        refused(path, channels=33): "too-many-channels",
        refused(path, rate=100): "sample-rate",
        ends: "ends-decoder",
        memory: "too-much-memory",
        "was not liked\u2028": "other",
    }


def test_rejected_files_are_counted_by_few_kinds_of_reasons(api: "Api", tmp_path: Path) -> None:
    ready(api)
    real = reasons(tmp_path)
    rows = [
        {
            "file_id": uuid.UUID(int=number),
            "sha256": f"{number:064x}",
            "size_bytes": 1,
            "ingested_at": datetime.now(UTC),
            "status": "rejected",
            "reason": reason,
        }
        for number, reason in enumerate(real)
    ]
    api.scribe.commit("ingest", {"files": rows})
    api.ingested()
    api.files()
    found = numbers(api)
    assert found["audiophile_files", "accepted"] == 1
    assert found["audiophile_files", "rejected"] == len(real)
    for kind in real.values():
        assert found["audiophile_rejected_files", kind] == 1
    assert set(real.values()) == {*REASONS, "other"}
