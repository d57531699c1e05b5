"""The flow drift, run by Prefect: what it tests, tells, holds back, shows, and what people decide."""

import json
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import State

from flows.deployments import read_deployments, runner_deployment
from flows.drift import drift
from flows.notify import Notice
from storage.drift import active_baseline, held, waiting, windows
from storage.history import reference as reference_of
from storage.lake import Lake
from storage.settings import get_settings
from tests.flows.drift_world import World

QUIET, LOUD = -20.0, -8.0


@pytest.fixture
def world(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("DRIFT_BASELINE_MIN", "100")
    monkeypatch.setenv("DRIFT_WINDOW_UTTERANCES", "40")
    monkeypatch.setenv("ON_DRIFT", "log,quarantine")
    get_settings.cache_clear()
    return World.over(lake)


def run(prefect_url: str, **parameters: Any) -> State:
    state = drift(**parameters, return_state=True)
    assert state.is_completed(), state.message
    return state


def artifacts(state: State) -> dict[str, Any]:
    with get_client(sync_client=True) as client:
        made = client.read_artifacts(flow_run_filter=FlowRunFilter(id={"any_": [state.state_details.flow_run_id]}))
    return {str(artifact.key): artifact.data for artifact in made}


def references(world: World) -> dict[UUID, str]:
    """Return the state of every reference, oldest first."""
    index = world.index
    made = index.query("SELECT reference FROM entries WHERE op = 'refresh' ORDER BY seq")
    return {row["reference"]: reference_of(index, row["reference"]).state for row in made}


def test_nothing_to_do_is_said(world: World, prefect_url: str) -> None:
    assert run(prefect_url).message == "Nothing to do"


def test_before_there_is_a_baseline_nothing_is_held_back(world: World, prefect_url: str) -> None:
    world.come(20, held=True)
    assert "1 references released" in str(run(prefect_url).message)
    assert list(references(world).values()) == ["published"]
    assert active_baseline(world.index) is None


def test_what_passes_is_published_and_what_drifts_stays_held_until_it_is_released(
    world: World, prefect_url: str
) -> None:
    world.come(50, held=True)
    run(prefect_url)
    world.come(20, held=True)
    world.come(10, held=True)
    state = run(prefect_url)
    assert "1 windows tested" in str(state.message)
    assert list(references(world).values()) == ["published", "published", "held"], "ten recordings are no window yet"
    world.come(10, held=True)
    world.come(20, level_dbfs=LOUD, held=True)
    world.come(20, level_dbfs=LOUD, held=True)
    state = run(prefect_url)
    assert state.name == "Drift"
    assert "level_dbfs" in str(state.message)
    assert [window.verdict for window in windows(world.index)] == ["drift", "drift", "no_drift", "no_drift"]
    assert list(references(world).values()) == ["published"] * 4 + ["held"] * 2
    run(prefect_url)
    stay = [id_ for id_, of in references(world).items() if of == "held"]
    assert len(stay) == 2, "nothing but a decision changes that"
    run(prefect_url, release_held=stay[:1], reject_held=stay[1:])
    assert list(references(world).values()) == ["published"] * 5 + ["rejected"]


def test_what_is_insufficient_is_published(world: World, prefect_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world.come(50)
    run(prefect_url)
    world.come(1, held=True)
    monkeypatch.setenv("DRIFT_WINDOW_H", "0.000001")
    get_settings.cache_clear()
    run(prefect_url)
    assert [window.verdict for window in windows(world.index)] == ["insufficient"]
    assert held(world.index) == []


def test_of_rejected_references_recordings_are_tested_again_once_they_are_answered_again(
    world: World, prefect_url: str
) -> None:
    world.come(50)
    run(prefect_url)
    ids = world.come(20, level_dbfs=LOUD, held=True)
    run(prefect_url)
    (of_drift,) = held(world.index)
    run(prefect_url, reject_held=[of_drift.reference])
    world.answer(ids, level_dbfs=QUIET, held=True)
    assert len(waiting(world.index)) == 20
    run(prefect_url)
    assert [window.verdict for window in windows(world.index)] == ["no_drift", "drift"]
    assert list(references(world).values()) == ["published", "rejected", "published"]


def test_a_changed_model_is_reported_released_and_no_drift(world: World, prefect_url: str) -> None:
    ids = world.come(50)
    run(prefect_url)
    world.change_model("v2")
    world.answer(ids, sure=0.2, held=True)
    state = run(prefect_url)
    assert state.name == "Completed"
    assert "1 models compared" in str(state.message)
    assert list(references(world).values()) == ["published", "published"]
    shown = artifacts(state)
    assert "model change" in shown["drift"]
    assert "call" in shown["drift-report"]
    (only,) = windows(world.index)
    assert only.verdict == "model_change"


def test_the_report_has_the_verdict_pictures_and_links_to_recordings(world: World, prefect_url: str) -> None:
    world.come(50)
    run(prefect_url)
    ids = world.come(20, level_dbfs=LOUD)
    shown = artifacts(run(prefect_url))
    (row,) = json.loads(shown["drift"])
    assert (row["verdict"], row["moved most"], row["utterances"]) == ("drift", "level_dbfs", 40)
    assert shown["drift-progress"] == 100
    assert "data:image/png;base64," in shown["drift-report"]
    assert any(f"http://localhost:8000/api/audio/{id_}#t=" in shown["drift-report"] for id_ in ids)


def test_a_baseline_is_chosen_in_the_form_and_too_little_of_it_fails_the_run(world: World, prefect_url: str) -> None:
    world.come(30)
    choice = {"name": "first days", "since": "2020-01-01T00:00:00Z"}
    state = drift(baseline=choice, return_state=True)
    assert state.is_failed()
    assert "60 utterances in 30 recordings, and 100 in 10 are needed" in str(state.message)
    world.come(30)
    run(prefect_url, baseline=choice)
    found = active_baseline(world.index)
    assert found is not None
    assert (found.name, found.version, found.recordings) == ("first days", 1, 60)


@pytest.mark.parametrize("wrong", [{"release_held": ["x"]}, {"baseline": {"name": "n"}}, {"reject_held": "x"}])
def test_parameters_out_of_bounds_are_refused(world: World, prefect_url: str, wrong: dict[str, Any]) -> None:
    state = drift(**wrong, return_state=True)
    assert state.is_failed()
    assert next(iter(wrong)) in str(state.message)


def test_the_form_in_the_ui_shows_every_parameter_with_its_help() -> None:
    (deployment,) = [one for one in read_deployments() if one.name == "drift"]
    schema = runner_deployment(deployment)._parameter_openapi_schema
    assert schema.properties.keys() == {"baseline", "release_held", "reject_held"}
    assert all(shown.get("description") for shown in schema.properties.values())
    chosen = schema.definitions["ChosenBaseline"]["properties"]
    assert chosen.keys() == {"name", "since", "until", "reference", "folder"}
    assert all(shown.get("description") for shown in chosen.values())


def test_drift_is_told_once_when_it_starts_and_once_when_it_ends_even_by_a_run_that_was_cut_off(
    world: World, prefect_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ON_DRIFT", "notify")
    get_settings.cache_clear()
    told: list[str] = []

    def emit(kind: str, notice: Notice, public_url: str) -> None:
        told.append(f"{kind} {[one.descriptor for one in notice.drifted][:1]}")
        if len(told) == 1:
            raise SystemExit(9)

    monkeypatch.setattr("flows.drift.emit_drift", emit)
    world.come(50)
    run(prefect_url)
    world.come(20)
    world.come(20, level_dbfs=LOUD)
    world.come(20, level_dbfs=LOUD)
    with pytest.raises(SystemExit):
        drift()
    assert [window.verdict for window in windows(world.index)] == ["drift", "drift", "no_drift"]
    run(prefect_url)
    assert told == ["started ['level_dbfs']"] * 2, "the run that was cut off could not note that it had told"
    world.come(20)
    run(prefect_url)
    run(prefect_url)
    assert told[2:] == ["ended []"]
