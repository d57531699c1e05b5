"""What is known of models that cannot be loaded: they rest for a while, and are tried again when something changes."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from storage.availability import (
    PATH,
    PAUSE,
    Tried,
    after_trying,
    read_tried,
    resting,
    try_all_again,
    write_tried,
)
from storage.store import LocalStore

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MODELS = {"words": ("v1", "e1"), "speaker": ("v2", "e2")}
ENTRIES = {name: entry for name, (_, entry) in MODELS.items()}


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


def test_nothing_is_known_at_first(store: LocalStore) -> None:
    assert read_tried(store) == {}
    try_all_again(store)
    assert store.read(PATH) is None, "and nothing is written"


def test_what_is_written_is_read_again(store: LocalStore) -> None:
    known = after_trying({}, MODELS, {"words"}, {"speaker": "speaker: no network"}, NOW)
    write_tried(store, known.values())
    assert read_tried(store) == known
    assert known["words"] == Tried("words", "v1", "e1", None, NOW, None)
    assert known["speaker"] == Tried("speaker", "v2", "e2", "speaker: no network", NOW, NOW + PAUSE)


@pytest.mark.parametrize("content", [b"{", b"[1]", b"7", b'[{"name": "words"}]', b"\xff"])
def test_a_damaged_file_is_as_none(store: LocalStore, content: bytes) -> None:
    store.write(PATH, content)
    assert read_tried(store) == {}


def test_a_model_rests_until_its_time_comes_or_its_entry_changes() -> None:
    known = after_trying({}, MODELS, {"words"}, {"speaker": "why"}, NOW)
    assert resting(known, ENTRIES, NOW + PAUSE / 2) == {"speaker": "why"}
    assert resting(known, ENTRIES, NOW + PAUSE) == {}
    assert resting(known, ENTRIES | {"speaker": "e3"}, NOW) == {}
    assert resting(known, {"words": "e1"}, NOW) == {}, "it was removed"


def test_it_is_known_since_when_it_is_so() -> None:
    later = NOW + timedelta(hours=1)
    first = after_trying({}, MODELS, set(), {"speaker": "why"}, NOW)
    again = after_trying(first, MODELS, {"words"}, {"speaker": "why else"}, later)
    assert (again["speaker"].since, again["speaker"].reason) == (NOW, "why else")
    mended = after_trying(again, MODELS, {"speaker", "words"}, {}, later)
    assert (mended["speaker"].since, mended["speaker"].reason) == (later, None)
    assert mended["words"] == again["words"], "nothing new"
    assert after_trying(mended, MODELS, set(), {}, NOW) == mended, "a run that tried none"
    assert set(after_trying(mended, {"words": ("v1", "e1")}, set(), {}, NOW)) == {"words"}


def test_a_model_that_one_process_cannot_load_is_unavailable() -> None:
    known = after_trying({}, MODELS, {"speaker"}, {"speaker": "why"}, NOW)
    assert known["speaker"].reason == "why"


def test_a_start_of_the_service_has_all_tried_again(store: LocalStore) -> None:
    write_tried(store, after_trying({}, MODELS, {"words"}, {"speaker": "why"}, datetime.now(UTC)).values())
    assert resting(read_tried(store), ENTRIES, datetime.now(UTC)) == {"speaker": "why"}
    try_all_again(store)
    assert resting(read_tried(store), ENTRIES, datetime.now(UTC)) == {}
    assert read_tried(store)["speaker"].reason == "why", "it is shown until then"
