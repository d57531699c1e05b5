"""Models are given what they want, at their own rate; and where one fails the others go on."""

import sys
import types
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from features.pieces import Wants
from flows.ingest import ingest
from flows.plan import make_plan
from flows.refresh import record_group
from flows.shards import Scored, joined, score_shard
from models import registry
from models.group import GROUP_FILE, Group, ModelSpec, load_group
from models.protocol import Answer, Detection
from models.registry import Family
from storage.lake import Lake
from storage.parquet import read_tables

SECONDS = 130


class Length:
    """Says how long what it was given is, and that every whole second of it is loud; a model of its own."""

    task = "labels"

    def __init__(self, spec: ModelSpec, folder: Path) -> None:
        self.name, self.version = spec.name, spec.version
        self.sample_rate: int = spec.settings["rate"]
        self.wants: Wants = spec.settings["wants"]
        self._fails = spec.settings["fails"]

    def predict(self, waveform: NDArray[np.float32], text: str | None = None) -> Answer:
        if self._fails:
            raise ValueError("no such length")
        seconds = len(waveform) / self.sample_rate
        return Answer((Detection(f"{seconds:g} s", 0.0, seconds, 1.0), Detection("loud", 0.0, seconds, 0.5)))


MODEL = """
[[model]]
name = "{name}"
family = "length"
task = "labels"
enabled = true
source = "package:models"
[model.settings]
wants = "{wants}"
rate = {rate}
fails = {fails}
"""


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Group:
    module = types.ModuleType("models.length")
    module.load = Length  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "models.length", module)
    monkeypatch.setattr(
        registry, "FAMILIES", registry.FAMILIES | {"length": Family("models.length:load", revision=1, files=())}
    )
    path = tmp_path / "group.toml"
    models = [
        ("failing", "file", 16_000, "true"),
        ("whole", "file", 8_000, "false"),
        ("window", "windows", 16_000, "false"),
    ]
    tables = "".join(MODEL.format(name=n, wants=w, rate=r, fails=f) for n, w, r, f in models)
    path.write_text(GROUP_FILE.read_text(encoding="utf-8") + tables, encoding="utf-8")
    return load_group(("goodbye",), path)


def ingested_and_scored(lake: Lake, group: Group) -> Scored:
    """Score the one recording of the watched folder in this process."""
    ingest()
    with lake.index() as index:
        record_group(lake, index, group, uuid.uuid4())
        (shard,) = make_plan(index).shards
        return score_shard(shard, place=lake.place, specs=group.enabled, reference=uuid.uuid4())


def test_each_model_is_given_what_it_wants_and_one_that_fails_stops_no_other(
    prefect_url: str, lake: Lake, incoming: Path, group: Group
) -> None:
    soundfile.write(incoming / "long.wav", np.zeros(SECONDS * 8000), 8000)
    scored = ingested_and_scored(lake, group)
    rows = {
        name: read_tables(lake.store, scored.files, name).to_pylist()
        for name in ("coverage", "predictions", "utterances")
    }
    states = {row["model"]: (row["state"], row["reason"], row["predictions"]) for row in rows["coverage"]}
    assert states == {
        "moonshine-tiny-en": ("computed", None, 0),
        "callscene": ("computed", None, 1),
        "failing": ("failed", "ValueError: no such length", 0),
        "whole": ("computed", None, 2),
        "window": ("computed", None, 4),
    }
    assert found(rows["predictions"]) == {
        ("whole", "130 s", 0.0, 130.0),
        ("whole", "loud", 0.0, 130.0),
        ("window", "70 s", 0.0, 60.0),
        ("window", "80 s", 60.0, 120.0),
        ("window", "20 s", 120.0, 130.0),
        ("window", "loud", 0.0, 130.0),
        ("callscene", "silence", 0.0, 130.0),
    }
    assert rows["utterances"] == [], "what has no text has no transcript"


def found(rows: list[dict[str, Any]]) -> set[tuple[str, str, float, float]]:
    return {(row["model"], row["label"], row["start_s"], row["end_s"]) for row in rows}


def test_what_touches_is_one_and_its_confidence_the_mean_over_time() -> None:
    def row(channel: int, label: str, start_s: float, end_s: float, confidence: float) -> dict[str, Any]:
        return {"channel": channel, "label": label, "start_s": start_s, "end_s": end_s, "confidence": confidence}

    rows = [
        row(0, "speech", 50, 60, 1.0),
        row(0, "speech", 60, 90, 0.6),
        row(0, "speech", 91, 92, 0.9),
        row(0, "music", 92, 93, 0.9),
        row(1, "speech", 92, 93, 0.9),
    ]
    assert joined(rows) == [
        row(0, "speech", 50, 90, 0.7),
        row(0, "speech", 91, 92, 0.9),
        row(0, "music", 92, 93, 0.9),
        row(1, "speech", 92, 93, 0.9),
    ]


@pytest.mark.parametrize("rate", [7_994, 8_006])
def test_times_are_those_of_the_recording_at_odd_rates_too(
    prefect_url: str, lake: Lake, incoming: Path, group: Group, rate: int
) -> None:
    soundfile.write(incoming / "odd.wav", np.zeros(SECONDS * rate), rate)
    scored = ingested_and_scored(lake, group)
    ends = [row["end_s"] for row in read_tables(lake.store, scored.files, "predictions").to_pylist()]
    assert max(ends) == pytest.approx(SECONDS, abs=0.002)
    assert sum(end == pytest.approx(SECONDS, abs=0.002) for end in ends) == 5, (
        "of the whole, the last window and the scene"
    )


def test_a_recording_that_cannot_be_cut_fails_for_each_model_and_stops_no_other(
    prefect_url: str, lake: Lake, incoming: Path, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("no such voice activity")

    soundfile.write(incoming / "a.wav", np.zeros(8000), 8000)
    monkeypatch.setattr("flows.shards.cut_recording", fails)
    scored = ingested_and_scored(lake, group)
    reasons = {row["reason"] for row in read_tables(lake.store, scored.files, "coverage").to_pylist()}
    assert (scored.failures, reasons) == (5, {"RuntimeError: no such voice activity"})
