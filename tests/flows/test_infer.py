"""The infer flow as whole processes, on real recordings with the real model."""

import re
import shutil
import signal
from pathlib import Path

import pytest

from flows.infer import infer
from flows.ingest import ingest
from models.group import load_group
from storage.lake import Lake
from storage.media import media_path
from storage.recordings import predictions, recordings, utterances
from storage.settings import get_settings
from tests import asterisk
from tests.flows.conftest import run_python
from tests.flows.refreshing import refreshed

KILLED_BEFORE_PUBLISHING = """
import os, signal
import storage.commit
publish = storage.commit.publish
def killed(store, entry):
    if entry.op == "refresh":
        assert all(store.read(file.path) for file in entry.files) and entry.files
        os.kill(os.getpid(), signal.SIGKILL)
    return publish(store, entry)
storage.commit.publish = killed
if __name__ == "__main__":
    from flows.infer import infer
    infer()
"""

IDLE = """
import sys
from flows.infer import infer
if __name__ == "__main__":
    print("REFERENCE", infer(return_state=True).message)
    print("TORCH", "torch" in sys.modules)
"""


@pytest.fixture
def prompts(incoming: Path) -> list[str]:
    asterisk.require()
    names = ["vm-goodbye", "vm-instructions", "beep"]
    for name in names:
        shutil.copy(asterisk.SOUNDS / f"{name}.wav", incoming)
    return names


@pytest.fixture
def ingested(prefect_url: str, lake: Lake, prompts: list[str]) -> list[str]:
    ingest()
    return prompts


def labels_by_name(lake: Lake, model: str = "moonshine-tiny-en") -> dict[str, set[str]]:
    with lake.index() as index:
        names = {recording.file_id: recording.name for recording in recordings(index)}
        found: dict[str, set[str]] = {name: set() for name in names.values()}
        for prediction in predictions(index, model=model):
            found[names[prediction.file_id]].add(prediction.label)
    return found


def test_a_refresh_finds_the_phrases_and_the_next_one_has_nothing_to_do(lake: Lake, ingested: list[str]) -> None:
    first = infer(return_state=True)
    assert first.message.startswith("Reference ")
    assert labels_by_name(lake) == {
        "vm-goodbye.wav": {"goodbye"},
        "vm-instructions.wav": {"messages"},
        "beep.wav": set(),
    }
    assert "speech" in labels_by_name(lake, "callscene")["vm-instructions.wav"]
    assert infer(return_state=True).message == "Nothing is missing"
    with lake.index() as index:
        assert {f"Reference {recording.reference}" for recording in recordings(index)} == {first.message}
        assert len(index.query("SELECT * FROM entries WHERE op = 'refresh'")) == 1
        for prediction in predictions(index):
            assert 0 <= prediction.start_s < prediction.end_s


def refresh_here(lake: Lake) -> None:
    """Publish what the flow would, without a process that has to import torch first."""
    with lake.index() as index:
        assert refreshed(lake, index, load_group(get_settings().searched_phrases)).entry is not None


def test_another_phrase_is_another_version_and_a_new_reference(
    lake: Lake, ingested: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    refresh_here(lake)
    monkeypatch.setenv("PHRASES", "press,goodbye")
    get_settings.cache_clear()
    infer()
    assert labels_by_name(lake)["vm-goodbye.wav"] == {"goodbye"}
    assert "press" in labels_by_name(lake)["vm-instructions.wav"]
    assert "messages" not in labels_by_name(lake)["vm-instructions.wav"]
    monkeypatch.setenv("PHRASES", "goodbye,messages")
    get_settings.cache_clear()
    state = infer(return_state=True)
    assert state.message.startswith("Reference ")
    assert labels_by_name(lake)["vm-instructions.wav"] == {"messages"}
    with lake.index() as index:
        rows = index.query("SELECT DISTINCT state FROM coverage JOIN latest USING (file_id, seq)")
        assert rows == [{"state": "carried"}], "returning to an earlier version computes nothing"
        assert {utterance.text for utterance in utterances(index)}


def test_a_run_killed_before_it_publishes_is_never_seen_and_the_next_one_repairs_it(
    prefect_url: str, lake: Lake, ingested: list[str]
) -> None:
    with lake.index() as reader:
        killed = run_python(KILLED_BEFORE_PUBLISHING, prefect_url)
        assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
        assert list(lake.store.local_path("data/predictions").rglob("*.parquet")), "it had written its Parquet files"
        reader.catch_up()
        assert predictions(reader) == []
        assert all(recording.reference is None for recording in recordings(reader))
        infer()
        reader.catch_up()
        assert {prediction.label for prediction in predictions(reader)} >= {"goodbye", "messages", "speech"}
        assert all(recording.reference is not None for recording in recordings(reader))


def test_a_tick_with_nothing_to_do_never_imports_torch(prefect_url: str, lake: Lake, ingested: list[str]) -> None:
    refresh_here(lake)
    idle = run_python(IDLE, prefect_url)
    assert "REFERENCE Nothing is missing" in idle.stdout, idle.stderr[-2000:]
    assert "TORCH False" in idle.stdout


def test_recordings_that_no_longer_decode_or_are_lost_fail_alone_with_their_reasons(
    lake: Lake, ingested: list[str]
) -> None:
    with lake.index() as index:
        found = {recording.name: recording for recording in recordings(index)}
    spoiled, lost = found["vm-goodbye.wav"], found["beep.wav"]
    lake.store.write(media_path(spoiled.sha256), b"RIFF, but nothing else")
    lake.store.remove(media_path(lost.sha256))
    infer()
    with lake.index() as index:
        rows = index.query("SELECT file_id, model, state, reason FROM coverage")
    enabled = {"moonshine-tiny-en", "callscene"}
    failed = [row for row in rows if row["state"] == "failed"]
    assert {(row["file_id"], row["model"]) for row in failed} == {
        (file_id, model) for file_id in (spoiled.file_id, lost.file_id) for model in enabled
    }
    assert all("cannot be decoded" in row["reason"] for row in failed if row["file_id"] == spoiled.file_id)
    assert all("is not there" in row["reason"] for row in failed if row["file_id"] == lost.file_id)
    assert {(row["file_id"], row["model"], row["state"]) for row in rows if row not in failed} == {
        (found["vm-instructions.wav"].file_id, model, "computed") for model in enabled
    }
    assert len(rows) == 6
    assert labels_by_name(lake)["vm-instructions.wav"] == {"messages"}


def test_weights_that_are_not_the_named_ones_fail_the_run_and_publish_nothing(
    lake: Lake, ingested: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import models.group

    text = models.group.GROUP_FILE.read_text()
    other = tmp_path / "group.toml"
    other.write_text(re.sub(r'"(tokenizer\.bin|label_encoder\.ckpt)" = "....', r'"\1" = "0000', text))
    monkeypatch.setattr(models.group.load_group, "__defaults__", (other,))
    state = infer(return_state=True)
    assert state.is_failed()
    assert "tokenizer.bin has sha256" in state.message
    assert "label_encoder.ckpt has sha256" in state.message
    with lake.index() as index:
        assert all(recording.reference is None for recording in recordings(index))
