"""GET /api/models: the group, and which of its models cannot be loaded."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from storage.availability import after_trying, write_tried
from storage.log import GroupModel

if TYPE_CHECKING:
    from tests.api.conftest import Api

SINCE = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_without_a_group_there_are_no_models(api: "Api") -> None:
    assert api.http.get("/api/models").json() == []


def test_each_model_says_whether_it_could_be_loaded(api: "Api") -> None:
    group = (
        GroupModel("words", "v1", "phrases", True, {}),
        GroupModel("speaker", "v2", "speaker", True, {}),
        GroupModel("emotion", "v3", "labels", False, {}),
        GroupModel("language", "v4", "labels", True, {}),
    )
    api.scribe.commit("group", {}, group=group)
    models = {"words": ("v1", "e1"), "speaker": ("v2", "e2"), "emotion": ("v3", "e3")}
    reason = "speaker: hyperparams.yaml cannot be fetched"
    tried = after_trying({}, models, {"words", "emotion"}, {"speaker": reason}, SINCE)
    write_tried(api.lake.store, tried.values())
    answers = {answer["name"]: answer for answer in api.http.get("/api/models").raise_for_status().json()}
    assert list(answers) == ["emotion", "language", "speaker", "words"]
    assert answers["words"] == {
        "name": "words",
        "version": "v1",
        "task": "phrases",
        "enabled": True,
        "available": True,
        "reason": None,
        "since": "2026-01-01T12:00:00Z",
    }
    assert answers["speaker"]["available"] is False
    assert answers["speaker"]["reason"] == reason
    untried = {"available": None, "reason": None, "since": None}
    assert answers["emotion"].items() >= (untried | {"enabled": False}).items()
    assert answers["language"].items() >= untried.items()


def test_what_is_known_of_another_version_is_not_said(api: "Api") -> None:
    write_tried(
        api.lake.store, after_trying({}, {"words": ("v1", "e1")}, set(), {"words": "words: gone"}, SINCE).values()
    )
    api.scribe.commit("group", {}, group=(GroupModel("words", "v2", "phrases", True, {}),))
    (answer,) = api.http.get("/api/models/").raise_for_status().json()
    assert (answer["version"], answer["available"], answer["reason"]) == ("v2", None, None)
