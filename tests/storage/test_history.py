import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.diff import Diff, diff
from storage.erasure import erase
from storage.errors import ExpiredReferenceError, UnknownReferenceError
from storage.history import file_history, reference, reference_rows, references
from storage.log import GroupModel
from storage.pairing import NEAR_S, Detection, pairs
from storage.recordings import predictions
from storage.retention import Retention, expire
from storage.rewrite import compact
from storage.snapshot import fold
from tests.storage.conftest import Author
from tests.storage.whole import clean, take_in


def group(author: Author, version: str, **values: Any) -> None:
    author.commit("group", group=(GroupModel("m", version, "phrases", True, values),))


def one_reason(found: Diff) -> str:
    (reason,) = found.reasons
    return reason


def labels(author: Author, id_: UUID) -> list[str]:
    return reference_rows(author.lake, author.index, id_, "predictions")["label"].to_pylist()


@pytest.fixture
def ids(author: Author) -> list[UUID]:
    return author.ingest("a", "b", "c")


# References


def test_references_are_listed_newest_first_and_in_pages(author: Author, ids: list[UUID]):
    made = [author.refresh({(ids[0], "m"): []}) for _ in range(5)]
    listed = references(author.index)
    assert [one.reference for one in listed] == made[::-1]
    assert [one.reference for one in references(author.index, limit=2)] == made[:2:-1]
    assert [one.reference for one in references(author.index, limit=2, before_seq=listed[1].seq)] == [made[2], made[1]]


def test_a_reference_names_the_group_that_it_was_made_with(author: Author, ids: list[UUID]):
    group(author, "v1", phrases=["call"])
    first = author.refresh({(ids[0], "m"): [("call", 0.5)]})
    author.group({"m": "v2", "n": "v1"}, disabled=("n",))
    second = author.refresh({(ids[0], "m"): [("call", 0.5)]}, version="v2")
    assert [(model.version, model.settings) for model in reference(author.index, first).models] == [
        ("v1", {"phrases": ["call"]})
    ]
    names = [(model.name, model.version, model.enabled) for model in reference(author.index, second).models]
    assert names == [("m", "v2", True), ("n", "v1", False)]


def test_a_reference_says_what_it_counted(author: Author, ids: list[UUID]):
    id_ = uuid.uuid4()
    coverage = [author.coverage_row(ids[0], "m")]
    author.commit("refresh", reference=id_, counts={"files": 1, "audio_s": 1.5}, coverage=coverage)
    assert reference(author.index, id_).counts == {"files": 1, "audio_s": 1.5}


def test_a_reference_is_held_until_it_is_released_or_rejected(author: Author, ids: list[UUID]):
    held, rejected = uuid.uuid4(), uuid.uuid4()
    for id_ in (held, rejected):
        author.commit("refresh", reference=id_, held=True, coverage=[author.coverage_row(ids[0], "m")])
    assert {one.state for one in references(author.index)} == {"held"}
    author.commit("reject", reference=rejected)
    author.commit("release", reference=held)
    assert [reference(author.index, id_).state for id_ in (held, rejected)] == ["published", "rejected"]


def test_an_unknown_reference_is_refused(author: Author):
    with pytest.raises(UnknownReferenceError, match="list of references"):
        reference(author.index, uuid.uuid4())


def test_an_expired_reference_is_refused_and_still_listed(author: Author, ids: list[UUID]):
    made = [author.refresh({(ids[0], "m"): [("call", 0.5)]}) for _ in range(3)]
    expire(author.lake, author.index, Retention(keep_references=1), uuid.uuid4())
    for look in (
        lambda: reference(author.index, made[0]),
        lambda: reference_rows(author.lake, author.index, made[0], "predictions"),
        lambda: diff(author.lake, author.index, made[0], made[2]),
    ):
        with pytest.raises(ExpiredReferenceError, match="KEEP_DAYS"):
            look()
    assert [one.state for one in references(author.index)] == ["published", "expired", "expired"]
    assert labels(author, made[2]) == ["call"]


# Rows of a past reference


def test_a_past_reference_is_read_as_it_was(author: Author, ids: list[UUID]):
    made = [author.refresh({(ids[0], "m"): [(label, 0.5)], (ids[1], "m"): []}) for label in "xyz"]
    assert [labels(author, id_) for id_ in made] == [["x"], ["y"], ["z"]]
    rows = reference_rows(author.lake, author.index, made[0], "coverage", [ids[1]])
    assert rows["file_id"].to_pylist() == [ids[1]]
    assert reference_rows(author.lake, author.index, made[1], "utterances", [ids[0]])["text"].to_pylist() == ["y"]


def test_a_past_reference_is_read_from_files_that_were_rewritten_meanwhile(author: Author, ids: list[UUID]):
    made = [author.refresh({(ids[0], "m"): [(f"l{number}", 0.5)]}) for number in range(17)]
    reader = author.lake.index()
    fold(author.lake.store, author.index, after=1)
    while compact(author.lake, author.index, uuid.uuid4()):
        pass
    clean(author.lake, author.index)
    rows = reference_rows(author.lake, reader, made[3], "predictions")
    assert rows["label"].to_pylist() == ["l3"], "the reader's index named a file that is gone"
    with author.lake.index() as fresh:
        assert reference_rows(author.lake, fresh, made[5], "predictions")["label"].to_pylist() == ["l5"]


def test_what_was_erased_is_in_no_past_reference(author: Author, ids: list[UUID]):
    made = author.refresh({(id_, "m"): [("call", 0.5)] for id_ in ids})
    erase(author.lake, author.index, [ids[0]], uuid.uuid4())
    left = reference_rows(author.lake, author.index, made, "predictions")["file_id"].to_pylist()
    assert set(left) == set(ids[1:])
    assert file_history(author.index, ids[0]) == []


# A recording over references


def test_a_recordings_history_is_newest_first_and_says_how_each_model_answered(author: Author, ids: list[UUID]):
    first = author.refresh({(ids[0], "m"): [("call", 0.5)], (ids[0], "n"): []})
    author.refresh({(ids[1], "m"): []})
    failed = uuid.uuid4()
    changes = {"state": "failed", "reason": "too loud", "tries": 2}
    author.commit("refresh", reference=failed, coverage=[author.coverage_row(ids[0], "m", "v2", **changes)])
    newest, oldest = file_history(author.index, ids[0])
    assert (newest.reference, newest.is_latest, oldest.reference, oldest.is_latest) == (failed, True, first, False)
    (answer,) = newest.models
    assert (answer.version, answer.state, answer.reason, answer.tries) == ("v2", "failed", "too loud", 2)
    assert [(model.model, model.predictions) for model in oldest.models] == [("m", 1), ("n", 0)]


def test_a_held_answer_is_in_the_history_and_is_not_the_latest(author: Author, ids: list[UUID]):
    author.refresh({(ids[0], "m"): []})
    author.commit("refresh", reference=uuid.uuid4(), held=True, coverage=[author.coverage_row(ids[0], "m")])
    assert [(one.state, one.is_latest) for one in file_history(author.index, ids[0])] == [
        ("held", False),
        ("published", True),
    ]


def test_of_expired_references_a_history_has_what_is_still_shown(author: Author, ids: list[UUID]):
    author.refresh({(ids[0], "m"): [], (ids[1], "m"): []})
    author.refresh({(ids[0], "m"): []})
    expire(author.lake, author.index, Retention(keep_references=1), uuid.uuid4())
    for index in (author.index, author.lake.index()):
        assert [one.is_expired for one in file_history(index, ids[0])] == [False]
        assert [(one.is_expired, one.is_latest) for one in file_history(index, ids[1])] == [(True, True)]


# Diff: what


def test_a_diff_names_what_was_added_what_is_gone_and_what_changed(author: Author, ids: list[UUID]):
    a = author.refresh({(ids[0], "m"): [("same", 0.5), ("surer", 0.5), ("gone", 0.5)]})
    b = author.refresh({(ids[0], "m"): [("same", 0.5), ("surer", 0.75), ("added", 0.5)]})
    found = diff(author.lake, author.index, a, b)
    assert found.counts == {"added": 1, "gone": 1, "changed": 1, "unchanged": 1}
    by_label = {change.label: change for change in found.changes}
    assert {label: change.change for label, change in by_label.items()} == {
        "surer": "changed",
        "gone": "gone",
        "added": "added",
    }
    assert by_label["surer"].a == Detection(0.25, 0.45, 0.5)
    assert by_label["surer"].b == Detection(0.25, 0.45, 0.75)
    assert (found.files, one_reason(found)) == (1, "computed_again")


def test_what_moved_a_little_changed_and_what_moved_far_is_another(author: Author, ids: list[UUID]):
    a = author.refresh({(ids[0], "m"): [("call", 0.5)]})
    near = author.refresh({(ids[0], "m"): [("x", 0.5), ("call", 0.5)]})
    far = author.refresh({(ids[0], "m"): [("x", 0.5)] * 4 + [("call", 0.5)]})
    assert {c.change for c in diff(author.lake, author.index, a, near).changes if c.label == "call"} == {"changed"}
    assert {c.change for c in diff(author.lake, author.index, a, far).changes if c.label == "call"} == {"added", "gone"}


def test_each_recording_is_compared_as_of_the_references_that_need_not_have_it(author: Author, ids: list[UUID]):
    author.refresh({(ids[0], "m"): [("early", 0.5)], (ids[1], "m"): [("only then", 0.5)]})
    a = author.refresh({(ids[2], "m"): [("x", 0.5)]})
    b = author.refresh({(ids[0], "m"): [("late", 0.5)], (ids[2], "m"): [("x", 0.5)]})
    found = diff(author.lake, author.index, a, b)
    assert {(change.file_id, change.label) for change in found.changes} == {(ids[0], "early"), (ids[0], "late")}
    assert found.files == 2
    of_one = diff(author.lake, author.index, a, b, ids[1])
    assert (of_one.files, of_one.counts["unchanged"], of_one.changes) == (1, 1, ())
    assert diff(author.lake, author.index, a, b, ids[2]).counts["unchanged"] == 1


def test_a_held_reference_is_compared_by_its_own_rows(author: Author, ids: list[UUID]):
    a, held = author.refresh({(ids[0], "m"): [("call", 0.5)]}), uuid.uuid4()
    author.commit("refresh", reference=held, held=True, coverage=[author.coverage_row(ids[0], "m")])
    later = author.refresh({(ids[1], "m"): []})
    assert diff(author.lake, author.index, a, held).counts["gone"] == 1
    assert diff(author.lake, author.index, a, later, ids[0]).counts["gone"] == 0


# Diff: why


@pytest.mark.parametrize(
    ("before", "after", "why", "different"),
    [
        ({"phrases": ["a"]}, {"phrases": ["a", "b"]}, "changed_phrases", {"phrases": (["a"], ["a", "b"])}),
        ({"phrases": ["a"], "beam": 1}, {"phrases": ["a"], "beam": 2}, "changed_settings", {"beam": (1, 2)}),
        (
            {"phrases": ["a"]},
            {"phrases": [], "beam": 2},
            "changed_settings",
            {"beam": (None, 2), "phrases": (["a"], [])},
        ),
        ({"phrases": ["a"]}, {"phrases": ["a"]}, "new_version", {}),
    ],
)
def test_another_version_is_explained_by_what_the_group_says_of_both(
    author: Author, ids: list[UUID], before: dict[str, Any], after: dict[str, Any], why: str, different: dict[str, Any]
):
    group(author, "v1", **before)
    a = author.refresh({(ids[0], "m"): [("a", 0.5)]}, version="v1")
    group(author, "v2", **after)
    b = author.refresh({(ids[0], "m"): [("b", 0.5)]}, version="v2")
    found = diff(author.lake, author.index, a, b)
    assert one_reason(found) == why
    (version,) = found.versions
    assert (version.version_a, version.version_b, version.why, version.settings) == ("v1", "v2", why, different)


def test_a_recordings_first_answer_is_explained(author: Author, ids: list[UUID]):
    a = author.refresh({(ids[0], "m"): []})
    b = author.refresh({(ids[1], "m"): [("call", 0.5)]})
    assert one_reason(diff(author.lake, author.index, a, b)) == "first_seen"


def test_an_answer_that_is_not_kept_is_not_taken_for_none(author: Author, ids: list[UUID]):
    author.refresh({(ids[0], "m"): [("call", 0.5)]})
    a = author.refresh({(ids[1], "m"): []})
    b = author.refresh({(ids[0], "m"): [("call", 0.5)]})
    assert diff(author.lake, author.index, a, b).counts["unchanged"] == 1
    expire(author.lake, author.index, Retention(keep_references=1), uuid.uuid4())
    assert one_reason(diff(author.lake, author.index, a, b)) == "expired"
    (new,) = author.ingest("new")
    c = author.refresh({(new, "m"): [("call", 0.5)]})
    assert one_reason(diff(author.lake, author.index, a, c)) == "first_seen"


def test_a_failure_is_explained(author: Author, ids: list[UUID]):
    a, b = author.refresh({(ids[0], "m"): [("call", 0.5)]}), uuid.uuid4()
    author.commit("refresh", reference=b, coverage=[author.coverage_row(ids[0], "m", "v2", state="failed")])
    assert one_reason(diff(author.lake, author.index, a, b)) == "failure"


def test_a_model_that_came_or_went_is_explained(author: Author, ids: list[UUID]):
    a = author.refresh({(ids[0], "m"): []})
    b = author.refresh({(ids[0], "m"): [], (ids[0], "n"): [("call", 0.5)]})
    assert one_reason(diff(author.lake, author.index, a, b)) == "new_model"
    assert one_reason(diff(author.lake, author.index, b, a)) == "removed_model"


def test_an_older_answer_that_came_back_is_explained(author: Author, ids: list[UUID]):
    author.refresh({(ids[0], "m"): [("old", 0.5)]})
    a, b = author.refresh({(ids[0], "m"): [("new", 0.5)]}, version="v2"), uuid.uuid4()
    row = {"file_id": ids[0], "model": "m", "model_version": "v1", "channel": 0, "utterance": 0, "label": "old"}
    author.commit(
        "refresh",
        reference=b,
        coverage=[author.coverage_row(ids[0], "m", state="carried", predictions=1)],
        predictions=[row | {"start_s": 0.0, "end_s": 0.2, "confidence": 0.5}],
    )
    assert one_reason(diff(author.lake, author.index, a, b)) == "carried"


def test_what_is_gone_by_erasure_is_in_no_diff(author: Author):
    ids = take_in(author, "a", "b")
    a = author.refresh({(id_, "m"): [("call", 0.5)] for id_ in ids})
    b = author.refresh({(id_, "m"): [("is", 0.5)] for id_ in ids})
    erase(author.lake, author.index, [ids[0]], uuid.uuid4())
    assert {change.file_id for change in diff(author.lake, author.index, a, b).changes} == {ids[1]}


# Diff: what holds for any

DETECTIONS = st.lists(st.tuples(st.sampled_from(["call", "is"]), st.sampled_from([0.25, 0.5, 0.75])), max_size=4)
ANSWERS = st.dictionaries(st.tuples(st.integers(0, 2), st.sampled_from(["m", "n"])), DETECTIONS, max_size=4)
TIMES = st.integers(0, 12).map(lambda eighth: eighth / 8)
PLACED = st.lists(
    st.builds(lambda start, sure: Detection(start, start + 0.25, sure), TIMES, st.sampled_from([0.25, 0.5]))
)


def as_of(author: Author, seqs: dict[UUID, int], id_: UUID, scope: set[UUID]) -> Counter[tuple[Any, ...]]:
    """The rows of each recording's newest reference at or before one, as a bag."""
    rows: Counter[tuple[Any, ...]] = Counter()
    for file_id in scope:
        older = [one for one in file_history(author.index, file_id) if one.seq <= seqs[id_]]
        for row in (
            reference_rows(author.lake, author.index, older[0].reference, "predictions", [file_id]).to_pylist()
            if older
            else []
        ):
            place = Detection(row["start_s"], row["end_s"], row["confidence"])
            rows[(row["file_id"], row["model"], row["channel"], row["label"], place)] += 1
    return rows


@given(st.lists(ANSWERS, min_size=2, max_size=3))
@settings(max_examples=6)
def test_a_diff_explains_exactly_what_differs(new_author: Callable[[], Author], refreshes: list[dict[Any, Any]]):
    author = new_author()
    ids = author.ingest("a", "b", "c")
    made = [author.refresh({(ids[at], model): rows for (at, model), rows in one.items()}) for one in refreshes]
    seqs = {one.reference: one.seq for one in references(author.index)}
    a, b = made[0], made[-1]
    assert diff(author.lake, author.index, a, a).changes == ()
    there, back = diff(author.lake, author.index, a, b), diff(author.lake, author.index, b, a)

    def mirrored(found: Diff) -> Counter[tuple[Any, ...]]:
        swapped = {"new_model": "removed_model", "removed_model": "new_model"}
        return Counter(
            (c.file_id, c.model, c.channel, c.label, c.b, c.a, swapped.get(c.why, c.why)) for c in found.changes
        )

    assert mirrored(there) == Counter((c.file_id, c.model, c.channel, c.label, c.a, c.b, c.why) for c in back.changes)
    assert there.unchanged == back.unchanged
    scope = {ids[at] for one in (refreshes[0], refreshes[-1]) for at, _ in one}
    rows = as_of(author, seqs, a, scope)
    before = rows.total()
    for change in there.changes:
        key = (change.file_id, change.model, change.channel, change.label)
        if change.a is not None:
            assert rows[(*key, change.a)] > 0
            rows[(*key, change.a)] -= 1
        if change.b is not None:
            rows[(*key, change.b)] += 1
    assert +rows == as_of(author, seqs, b, scope)
    counts = there.counts
    assert before == counts["unchanged"] + counts["gone"] + counts["changed"]


@given(PLACED, PLACED)
def test_pairs_have_everything_once_and_do_not_depend_on_the_side(a: list[Detection], b: list[Detection]):
    found = pairs(a, b)
    assert sorted(one for one, _ in found if one) == sorted(a)
    assert sorted(other for _, other in found if other) == sorted(b)
    assert Counter((other, one) for one, other in found) == Counter(pairs(b, a))
    assert all(abs(one.start_s - other.start_s) <= NEAR_S for one, other in found if one and other)


@given(PLACED)
def test_an_answer_pairs_with_itself(a: list[Detection]):
    assert all(one == other for one, other in pairs(a, a))


def test_the_nearest_are_paired_first():
    a, b, c = (Detection(start, start + 0.25, 0.5) for start in (1.0, 1.375, 1.5))
    assert pairs([a, c], [b]) == [(c, b), (a, None)]


def test_differences_that_nobody_sees_are_none():
    one = Detection(1.0, 1.25, 0.5)
    assert one.is_same(Detection(1.0005, 1.25, 0.50005))
    assert not one.is_same(Detection(1.01, 1.25, 0.5))
    assert not one.is_same(Detection(1.0, 1.25, 0.501))


def test_history_agrees_with_what_is_shown_now(author: Author, ids: list[UUID]):
    made = author.refresh({(ids[0], "m"): [("call", 0.5), ("is", 0.25)]})
    rows = reference_rows(author.lake, author.index, made, "predictions", [ids[0]]).to_pylist()
    assert [row["label"] for row in rows] == [row.label for row in predictions(author.index, ids[0])]
