"""Each utterance's descriptors and embedding are kept with the answer that they belong to."""

import uuid
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from features.cutting import cut_recording
from features.descriptors import describe
from features.pieces import SAMPLE_RATE, Piece
from features.utterances import UtteranceSettings
from models.group import Group, load_group
from models.moonshine import Moonshine
from models.registry import load_model
from storage.erasure import erase, purge
from storage.history import reference_rows
from storage.index import Index
from storage.lake import Lake
from storage.log import DataFile
from storage.parquet import read_tables
from storage.recordings import recordings, utterances
from storage.rewrite import compact
from tests.flows.refreshing import refreshed
from tests.flows.test_infer import prompts as prompts  # noqa: PLC0414  a fixture
from tests.flows.test_texts import changed_group
from tests.flows.test_texts import ingested as ingested  # noqa: PLC0414  likewise

MODEL = "moonshine-tiny-en"


def refresh(lake: Lake, index: Index, group: Group) -> UUID:
    """Score what is missing, in this process, and return the new reference."""
    entry = refreshed(lake, index, group).entry
    assert entry is not None
    assert entry.reference is not None
    return entry.reference


def kept(lake: Lake, index: Index, reference: UUID) -> list[dict[str, Any]]:
    rows = reference_rows(lake, index, reference, "descriptors").to_pylist()
    return sorted(rows, key=lambda row: (row["file_id"], row["utterance"]))


def cut(lake: Lake, index: Index, file_id: UUID) -> list[Piece]:
    (recording,) = recordings(index, file_id)
    with lake.media.on_disk(recording.sha256) as path:
        return [piece for _, piece in cut_recording(path, (0,), ("utterances",), UtteranceSettings())]


def test_they_are_those_of_the_utterance_and_the_encoders_mean(ingested: Lake) -> None:
    group = load_group(("goodbye",))
    model = load_model(next(spec for spec in group.enabled if spec.name == MODEL))
    assert isinstance(model, Moonshine)
    with ingested.index() as index:
        rows = kept(ingested, index, refresh(ingested, index, group))
        texts = {(said.file_id, said.utterance): said for said in utterances(index)}
        assert {(row["file_id"], row["utterance"]) for row in rows} == texts.keys()
        assert {row["model"] for row in rows} == {MODEL}
        for row in rows:
            said = texts[row["file_id"], row["utterance"]]
            piece = cut(ingested, index, row["file_id"])[row["utterance"]]
            assert (row["start_s"], row["end_s"]) == (said.start_s, said.end_s)
            expected = describe(piece.waveform, SAMPLE_RATE, said.text)
            found = {name: row[name] for name in expected.__dataclass_fields__}
            assert found == {name: getattr(expected, name) for name in found}
            assert found["speaking_rate"] is not None
            assert -60 < found["level_dbfs"] < 0
            assert found["bandwidth_hz"] < 4_000, "the prompts have 8 kHz"
            hidden = model.encode(piece.waveform).hidden[0]
            embedding = np.frombuffer(row["embedding"], "<f2")
            assert embedding.shape == (288,)
            np.testing.assert_allclose(embedding, hidden.mean(axis=0), rtol=1e-3, atol=1e-3)


def test_they_are_carried_while_another_model_changes(ingested: Lake, tmp_path: Path) -> None:
    changed = changed_group(tmp_path, 'task = "scenes"\nenabled = true', 'task = "scenes"\nenabled = false')
    with ingested.index() as index:
        first = kept(ingested, index, refresh(ingested, index, load_group(("goodbye",), changed)))
        reference = refresh(ingested, index, load_group(("goodbye",)))
        states = {
            row["model"]: row["state"] for row in reference_rows(ingested, index, reference, "coverage").to_pylist()
        }
        assert states == {MODEL: "carried", "callscene": "computed"}
        assert kept(ingested, index, reference) == first


def test_they_outlive_a_rewrite_and_go_with_their_recording(ingested: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.rewrite.MIN_SMALL_FILES", 2)
    with ingested.index() as index:
        refresh(ingested, index, load_group(("goodbye",)))
        reference = refresh(ingested, index, load_group(("messages",)))
        before = kept(ingested, index, reference)
        while compact(ingested, index, uuid.uuid4()) is not None:
            pass
        assert len(index.live_files("descriptors")) == 1
        assert kept(ingested, index, reference) == before
        gone = before[0]["file_id"]
        erase(ingested, index, [gone], uuid.uuid4())
        assert purge(ingested, index, uuid.uuid4()).recordings == 1
        assert kept(ingested, index, reference) == [row for row in before if row["file_id"] != gone]
        (file,) = index.live_files("descriptors")
        assert gone not in ids(ingested, file)


def ids(lake: Lake, file: DataFile) -> set[UUID]:
    return set(read_tables(lake.store, [file], "descriptors")["file_id"].to_pylist())
