"""What readers see: of each recording exactly its latest reference, and nothing merged across references."""

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from storage.index import Index
from storage.recordings import known_models, predictions, recordings, utterances

if TYPE_CHECKING:
    from tests.storage.conftest import Author

MODELS = ("words", "scene")
FOUND = st.lists(st.tuples(st.sampled_from(["call", "is", "recorded"]), st.floats(0, 1)), max_size=3)
REFRESH = st.dictionaries(
    st.integers(0, 2), st.dictionaries(st.sampled_from(MODELS), FOUND, min_size=1), min_size=1, max_size=3
)


def shown(index: Index, file_id: UUID) -> dict[str, list[tuple[str, float]]]:
    """Label and confidence of each detection that readers see, by model."""
    found: dict[str, list[tuple[str, float]]] = {}
    for row in predictions(index, file_id):
        found.setdefault(row.model, []).append((row.label, row.confidence))
    return found


@settings(max_examples=20)
@given(refreshes=st.lists(REFRESH, max_size=5))
def test_a_recording_shows_exactly_its_latest_reference(
    new_author: "Callable[[], Author]", refreshes: list[dict[int, dict[str, list[tuple[str, float]]]]]
) -> None:
    author = new_author()
    with author.index as index:
        file_ids = author.ingest("0.wav", "1.wav", "2.wav")
        expected: dict[UUID, tuple[UUID | None, dict[str, list[tuple[str, float]]]]] = dict.fromkeys(
            file_ids, (None, {})
        )
        for refresh in refreshes:
            answers = {
                (file_ids[at], model): found for at, models in refresh.items() for model, found in models.items()
            }
            reference = author.refresh(answers)
            expected |= {
                file_ids[at]: (reference, {model: found for model, found in models.items() if found})
                for at, models in refresh.items()
            }
        assert {row.file_id: row.reference for row in recordings(index)} == {
            file_id: reference for file_id, (reference, _) in expected.items()
        }
        for file_id, (reference, found) in expected.items():
            assert recordings(index, file_id)[0].reference == reference
            assert shown(index, file_id) == found
        assert len(predictions(index)) == sum(len(rows) for _, found in expected.values() for rows in found.values())


def test_fewer_detections_leave_none_stale(author: "Author") -> None:
    (file_id,) = author.ingest("a.wav")
    author.refresh({(file_id, "words"): [("call", 0.9), ("is", 0.8)]})
    author.refresh({(file_id, "words"): [("call", 0.7)]}, version="v2")
    assert shown(author.index, file_id) == {"words": [("call", 0.7)]}
    reference = author.refresh({(file_id, "words"): []}, version="v3")
    assert shown(author.index, file_id) == {}
    assert recordings(author.index, file_id)[0].reference == reference
    assert [row.text for row in utterances(author.index, file_id)] == [""]


def test_a_model_that_is_no_longer_in_the_reference_leaves_no_rows(author: "Author") -> None:
    (file_id,) = author.ingest("a.wav")
    author.refresh({(file_id, "words"): [("call", 0.9)], (file_id, "scene"): [("music", 0.9)]})
    author.refresh({(file_id, "words"): [("call", 0.9)]})
    assert shown(author.index, file_id) == {"words": [("call", 0.9)]}
    assert utterances(author.index, file_id, model="scene") == []
    assert known_models(author.index, file_id) == {"words"}


def test_predictions_can_be_asked_for_by_model_and_confidence(author: "Author") -> None:
    (file_id,) = author.ingest("a.wav")
    author.refresh({(file_id, "words"): [("call", 0.9), ("is", 0.5)], (file_id, "scene"): [("music", 0.95)]})

    def labels(model: str | None, least: float) -> list[str]:
        return [row.label for row in predictions(author.index, file_id, model=model, min_confidence=least)]

    assert sorted(labels(None, 0.0)) == ["call", "is", "music"]
    assert sorted(labels(None, 0.9)) == ["call", "music"]
    assert labels("words", 0.0) == ["call", "is"]
    assert labels("words", 0.91) == []
    assert labels("other", 0.0) == []


def test_predictions_are_in_order_of_channel_and_time(author: "Author") -> None:
    (file_id,) = author.ingest("a.wav")
    places = [(1, 0.5), (0, 2.0), (1, 0.25), (0, 0.75)]
    rows = [
        {"file_id": file_id, "model": "words", "model_version": "v1", "channel": channel, "utterance": 0}
        | {"label": "call", "start_s": start_s, "end_s": start_s + 0.1, "confidence": 1.0}
        for channel, start_s in places
    ]
    author.commit("refresh", coverage=[author.coverage_row(file_id, "words")], predictions=rows)
    assert [(row.channel, row.start_s) for row in predictions(author.index, file_id)] == sorted(places)


def test_the_newest_recordings_come_first(author: "Author") -> None:
    first, second = author.ingest("a.wav", "b.wav")
    (third,) = author.ingest("c.wav")
    assert [row.file_id for row in recordings(author.index)] == [third, second, first]


def test_a_recording_goes_by_its_earliest_name(author: "Author") -> None:
    (file_id,) = author.ingest("first.wav")
    earlier = author.now() - timedelta(days=1)
    author.commit("ingest", sources=[author.source_row(file_id, "second.wav")])
    assert [row.name for row in recordings(author.index)] == ["first.wav"]
    author.commit("ingest", sources=[author.source_row(file_id, "zeroth.wav", seen_at=earlier)])
    assert [row.name for row in recordings(author.index, file_id)] == ["zeroth.wav"]


def test_a_source_that_is_gone_keeps_the_recording_and_its_name(author: "Author") -> None:
    (file_id,) = author.ingest("a.wav")
    author.commit("ingest", sources=[author.source_row(file_id, "a.wav", present=False)])
    assert [(row.file_id, row.name) for row in recordings(author.index)] == [(file_id, "a.wav")]


def test_a_demo_that_somebody_also_uploads_is_no_longer_a_demo(author: "Author") -> None:
    row = author.file_row("demo.wav")
    source = author.source_row(row["file_id"], "demo.wav", kind="demo")
    author.commit("ingest", files=[row], sources=[source])
    assert [found.demo for found in recordings(author.index)] == [True]
    author.commit("ingest", sources=[author.source_row(row["file_id"], "mine.wav")])
    assert [found.demo for found in recordings(author.index)] == [False]


def test_a_rejected_recording_has_its_reason_and_no_reference(author: "Author") -> None:
    (file_id,) = author.ingest("noise.txt", status="rejected")
    (found,) = recordings(author.index, file_id)
    assert (found.status, found.reason, found.reference, found.predicted_at) == (
        "rejected",
        "no audio in it",
        None,
        None,
    )


def test_an_unknown_recording_is_no_row(author: "Author") -> None:
    author.ingest("a.wav")
    assert recordings(author.index, UUID(int=1)) == []
    assert predictions(author.index, UUID(int=1)) == []


def test_models_are_known_from_the_group_and_from_the_reference(author: "Author") -> None:
    (file_id,) = author.ingest("a.wav")
    assert known_models(author.index, file_id) == set()
    author.group({"words": "v1", "scene": "v1"}, disabled=("scene",))
    assert known_models(author.index, file_id) == {"words"}
    author.refresh({(file_id, "older"): []})
    assert known_models(author.index, file_id) == {"words", "older"}
    author.group({"newer": "v1"})
    assert known_models(author.index, file_id) == {"newer", "older"}
