"""Adding a phrase reads no recording again: the texts that references hold are used, and the answers are the same."""

import uuid
from pathlib import Path
from typing import Any

import pytest

from flows.ingest import ingest
from flows.plan import make_plan
from flows.refresh import record_group
from flows.shards import score_shard
from models.group import GROUP_FILE, Group, load_group
from models.moonshine import Moonshine
from storage.diff import diff
from storage.index import Index
from storage.lake import Lake
from storage.recordings import predictions, utterances
from storage.rewrite import compact
from tests.flows.refreshing import refreshed
from tests.flows.test_infer import prompts as prompts  # noqa: PLC0414  a fixture


@pytest.fixture
def ingested(prefect_url: str, lake: Lake, prompts: list[str]) -> Lake:
    ingest()
    return lake


def refresh(lake: Lake, index: Index, group: Group) -> int:
    """Score what is missing in this process; return how many shards had texts to use."""
    return sum(bool(shard.texts) for shard in refreshed(lake, index, group).plan.shards)


def shown(index: Index) -> tuple[Any, Any]:
    return predictions(index), utterances(index)


def changed_group(folder: Path, before: str, after: str) -> Path:
    """Write the project's group file with something in it replaced, and return its path."""
    text, path = GROUP_FILE.read_text(), folder / "group.toml"
    assert before in text
    path.write_text(text.replace(before, after))
    return path


def must_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Moonshine, "read", lambda *_: pytest.fail("it was read again"))


def test_another_phrase_reads_nothing_again_and_says_what_a_fresh_start_says(
    ingested: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ingested.index() as index:
        assert refresh(ingested, index, load_group(("goodbye", "press"))) == 0
        at_once = shown(index)
        refresh(ingested, index, load_group(("messages",)))
        with monkeypatch.context() as patched:
            must_not_read(patched)
            assert refresh(ingested, index, load_group(("goodbye", "press", "two"))) == 1
        labels = {row.label for row in shown(index)[0]}
        assert {"goodbye", "press"} <= labels
        without = [row for row in shown(index)[0] if row.label != "two"]
        assert [(row.label, row.start_s, row.confidence) for row in without] == [
            (row.label, row.start_s, row.confidence) for row in at_once[0]
        ]
        assert shown(index)[1] == at_once[1], "the same texts, of the same version"


def test_texts_are_found_in_files_that_were_rewritten(ingested: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.rewrite.MIN_SMALL_FILES", 2)
    with ingested.index() as index:
        for phrases in (("goodbye",), ("press",), ("two",)):
            refresh(ingested, index, load_group(phrases))
        while compact(ingested, index, uuid.uuid4()) is not None and len(index.live_files("utterances")) > 1:
            pass
        assert len(index.live_files("utterances")) == 1
        must_not_read(monkeypatch)
        assert refresh(ingested, index, load_group(("goodbye", "two"))) == 1


def test_a_text_whose_file_is_gone_is_read_again(ingested: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    with ingested.index() as index:
        group = load_group(("goodbye",))
        refresh(ingested, index, group)
        before = shown(index)[1]
        other = load_group(("goodbye", "press"))
        record_group(ingested, index, other, uuid.uuid4())
        (shard,) = make_plan(index).shards
        assert shard.texts
        for file in shard.texts:
            Path(ingested.store.local_path(file.path)).unlink()
        scored = score_shard(shard, place=ingested.place, specs=other.enabled, reference=uuid.uuid4())
        assert (scored.failures, scored.utterances) == (0, len(before))


def test_another_cut_of_the_speech_reads_everything_again(
    ingested: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = changed_group(tmp_path, "pad_s = 0.2", "pad_s = 0.1")
    with ingested.index() as index:
        refresh(ingested, index, load_group(("goodbye",)))
        read = Moonshine.read
        times: list[int] = []
        monkeypatch.setattr(Moonshine, "read", lambda self, encoded: times.append(1) or read(self, encoded))
        refresh(ingested, index, load_group(("goodbye",), changed))
        assert len(times) == len(utterances(index)) > 0


def test_texts_of_any_reference_that_is_kept_are_used_again(
    ingested: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = changed_group(tmp_path, "peak = 0.9", "peak = 0.8")
    with ingested.index() as index:
        refresh(ingested, index, load_group(("goodbye",)))
        refresh(ingested, index, load_group(("goodbye",), changed))
        must_not_read(monkeypatch)
        assert refresh(ingested, index, load_group(("goodbye", "press"))) == 1


def test_the_diff_says_that_the_phrases_changed_or_which_other_setting(ingested: Lake, tmp_path: Path) -> None:
    changed = changed_group(tmp_path, "least_confidence = 0.1 ", "least_confidence = 0.2 ")
    references = []
    with ingested.index() as index:
        for group in (load_group(("press",)), load_group(("press", "two")), load_group(("press", "two"), changed)):
            refresh(ingested, index, group)
            references.append(
                index.query("SELECT reference FROM entries WHERE op = 'refresh' ORDER BY seq")[-1]["reference"]
            )
        (phrases,), (setting,) = (
            diff(ingested, index, a, b).versions
            for a, b in ((references[0], references[1]), (references[1], references[2]))
        )
    assert (phrases.why, phrases.settings) == ("changed_phrases", {"phrases": (["press"], ["press", "two"])})
    assert (setting.why, setting.settings) == ("changed_settings", {"least_confidence": (0.1, 0.2)})
