"""The maintenance flow, run by Prefect over a lake with a history."""

import json
import os
import uuid
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import State

from flows.deployments import read_deployments, runner_deployment
from flows.maintain import maintain
from flows.shards import MODELS
from storage import rewrite
from storage.erasure import erase
from storage.lake import Lake
from storage.manifest import manifest_seqs
from storage.recordings import predictions, recordings
from storage.settings import get_settings
from tests.storage.conftest import Author


@pytest.fixture
def author(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> Author:
    monkeypatch.setattr(rewrite, "MIN_SMALL_FILES", 2)
    made = Author(lake, lake.index())
    made.group({"m": "v1"})
    for name in ("a", "b"):
        made.ingest(name)
    for sure in (0.2, 0.4, 0.6):
        made.refresh({(file_id, "m"): [("x", sure)] for file_id in ids(made)})
    return made


def ids(author: Author) -> list[UUID]:
    author.index.catch_up()
    return [recording.file_id for recording in recordings(author.index)]


def run(prefect_url: str, **parameters: object) -> State:
    state = maintain(**parameters, return_state=True)
    assert state.is_completed(), state.message
    return state


def test_a_run_leaves_what_is_shown_as_it_was_and_says_what_it_did(author: Author, prefect_url: str) -> None:
    before = recordings(author.index), predictions(author.index)
    state = run(prefect_url, keep_references=1, fold_after=1)
    author.index.catch_up()
    assert (recordings(author.index), predictions(author.index)) == before
    with author.lake.index() as index:
        assert (recordings(index), predictions(index)) == before
    assert "expire: 2 references" in str(state.message)
    assert "fold: snapshot" in str(state.message)
    with get_client(sync_client=True) as client:
        made = client.read_artifacts(flow_run_filter=FlowRunFilter(id={"any_": [state.state_details.flow_run_id]}))
    (table,) = (artifact for artifact in made if artifact.key == "maintain")
    assert json.loads(str(table.data))[0].keys() == {"erase", "expire", "compact", "fold", "vacuum"}


def test_by_default_nothing_expires(author: Author, prefect_url: str) -> None:
    assert "expire: nothing to do" in str(run(prefect_url).message)


def test_files_of_models_that_no_entry_names_are_removed(author: Author, prefect_url: str) -> None:
    cache = get_settings().place.local / MODELS
    cache.mkdir(parents=True)
    (cache / ("0" * 64)).write_text("of an earlier pin")
    os.utime(cache / ("0" * 64), (0, 0))
    assert "1 files of models that no entry names" in str(run(prefect_url, stages=("vacuum",)).message)
    assert not list(cache.iterdir())


def test_only_the_chosen_stages_run(author: Author, prefect_url: str) -> None:
    state = run(prefect_url, stages=["fold"], fold_after=1)
    assert str(state.message).startswith("fold: snapshot")
    assert len(manifest_seqs(author.lake.store)) == 1


def test_files_are_erased_and_lifted_by_their_ids(author: Author, prefect_url: str) -> None:
    first, second = ids(author)
    run(prefect_url, erase_files=[str(first)])
    assert ids(author) == [second]
    assert author.index.erased() == {first}
    run(prefect_url, stages=["erase"], lift_files=[str(first)])
    author.index.catch_up()
    assert author.index.erased() == set()
    assert ids(author) == [second], "lifting brings nothing back"


def test_an_erasure_that_was_cut_off_is_finished_by_the_next_run(author: Author, prefect_url: str) -> None:
    erase(author.lake, author.index, ids(author)[:1], uuid.uuid4())
    assert "1 recordings purged" in str(run(prefect_url).message)


@pytest.mark.parametrize(
    "wrong", [{"grace_h": 0.5}, {"keep_references": -1}, {"stages": ["everything"]}, {"erase_files": ["x"]}]
)
def test_parameters_out_of_bounds_are_refused(author: Author, prefect_url: str, wrong: dict[str, object]) -> None:
    state = maintain(**wrong, return_state=True)
    assert state.is_failed()
    assert next(iter(wrong)) in str(state.message)


def test_the_form_in_the_ui_shows_every_parameter_with_its_help() -> None:
    (deployment,) = [one for one in read_deployments() if one.name == "maintain"]
    properties = runner_deployment(deployment)._parameter_openapi_schema.properties
    assert properties.keys() == {
        "stages",
        "erase_files",
        "lift_files",
        "keep_references",
        "keep_days",
        "grace_h",
        "fold_after",
    }
    assert all(shown.get("description") for shown in properties.values())
