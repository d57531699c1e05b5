"""What a run tells in Prefect's UI: its name, a line a stage, links to the API, and events."""

import json
import logging
import re
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, LogFilter
from prefect.client.schemas.sorting import LogSort
from prefect.events.filters import EventFilter, EventNameFilter

from flows import infer as infer_module
from flows.drift import drift
from flows.infer import infer
from flows.ingest import ingest
from flows.maintain import maintain
from flows.shards import score_shard
from flows.story import HELD, MORE_REJECTED, MOST_EVENTS, PUBLISHED, REJECTED
from flows.workers import Outcome
from models.group import load_group
from storage.drift import held
from storage.history import reference
from storage.lake import Lake
from storage.recordings import recordings
from storage.settings import get_settings
from tests.flows.refreshing import refreshed
from tests.waiting import wait_for

pytestmark = pytest.mark.usefixtures("prefect_url")
ENGINES = ("Beginning", "View at", "Finished")  # lines that Prefect adds to each run
API = "http://localhost:8000/api"


def run_of(state: Any) -> Any:
    """What Prefect knows of a run."""
    with get_client(sync_client=True) as client:
        return client.read_flow_run(state.state_details.flow_run_id)


def links_of(state: Any) -> dict[str, str]:
    """The links among a run's artifacts, by their key."""
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(flow_run_filter=FlowRunFilter(id={"any_": [state.state_details.flow_run_id]}))
    shown = {one.key: re.search(r"\((http[^)]+)\)", str(one.data)) for one in found if one.type == "markdown"}
    return {key: match[1] for key, match in shown.items() if key and match}


def lines_of(state: Any) -> list[str]:
    """What a run itself has logged, in order, and without its seconds."""
    mine = LogFilter(flow_run_id={"any_": [state.state_details.flow_run_id]}, level={"ge_": logging.INFO})

    def finished() -> list[str]:
        with get_client(sync_client=True) as client:
            found = client.read_logs(mine, sort=LogSort.TIMESTAMP_ASC)
        lines = [one.message for one in found if one.name == "prefect.flow_runs"]
        return lines if lines and lines[-1].startswith("Finished") else []

    lines = wait_for("line of its end", finished)
    return [re.sub(r"\d+\.\d s", "N s", line) for line in lines if not line.startswith(ENGINES)]


def events_now(name: str, state: Any) -> list[Any]:
    """The events of this name that a run has emitted, as far as the server knows."""
    run = f"prefect.flow-run.{state.state_details.flow_run_id}"
    with get_client(sync_client=True) as client:
        page = client.read_events(EventFilter(event=EventNameFilter(name=[name])), limit=50)
    return [one for one in page.events if any(related.id == run for related in one.related)]


def events_of(name: str, state: Any, least: int) -> list[Any]:
    """The same, once there are so many."""

    def enough() -> list[Any] | None:
        found = events_now(name, state)
        return found if len(found) >= least else None

    return wait_for(f"{least} events {name}", enough)


def test_ingest_is_named_with_what_it_took_in_and_tells_of_what_it_rejected(
    lake: Lake, incoming: Path, tone: Any
) -> None:
    tone(incoming / "a.wav", 440)
    for number in range(MOST_EVENTS + 3):
        (incoming / f"{number}.wav").write_bytes(f"RIFF, and nothing else {number}".encode())
    state = ingest(return_state=True)
    count = MOST_EVENTS + 3
    assert run_of(state).name == state.message == f"1 accepted, {count} rejected, {count + 1} sources"
    assert links_of(state) == {"rejected-files": f"{API}/files?status=rejected"}
    told = events_of(REJECTED, state, MOST_EVENTS)
    assert len(told) == MOST_EVENTS
    with lake.index() as index:
        known = {str(one.file_id): (one.name, one.reason) for one in recordings(index)}
    for event in told:
        file_id = event.resource.id.removeprefix("audiophile.file.")
        assert (event.payload["name"], event.payload["reason"]) == known[file_id]
        assert event.payload["link"] == f"{API}/files/{file_id}"
    (more,) = events_of(MORE_REJECTED, state, 1)
    assert more.payload["count"] == 3
    lines = lines_of(state)
    assert f"waiting: {count + 1} files; gone: 0 (N s)" in lines
    assert lines[-1] == f"rejected: 3 more files, see {API}/files?status=rejected"
    again = ingest(return_state=True)
    assert run_of(again).name == "Nothing new"
    assert not events_now(REJECTED, again)


def test_maintain_is_named_with_its_stages_and_drift_with_what_it_found(lake: Lake) -> None:
    assert run_of(maintain(stages=("fold", "expire"), return_state=True)).name == "maintain: expire, fold"
    assert run_of(drift(return_state=True)).name == "drift: Nothing to do"


@pytest.fixture
def shown(lake: Lake, incoming: Path, tone: Any) -> dict[str, uuid.UUID]:
    """Two tones that have been taken in and scored, by their names."""
    tone(incoming / "a.wav", 440)
    tone(incoming / "b.wav", 700)
    ingest()
    with lake.index() as index:
        assert refreshed(lake, index, load_group(get_settings().searched_phrases)).entry is not None
        return {one.name: one.file_id for one in recordings(index)}


def answers(lake: Lake, made: str) -> dict[tuple[str, str], str]:
    """How each model came to its answer in a reference."""
    sql = "SELECT f.name, c.model, c.state FROM coverage c JOIN entries e USING (seq) JOIN sources f USING (file_id)"
    with lake.index() as index:
        rows = index.query(f"{sql} WHERE e.reference = ?", [uuid.UUID(made)])
    return {(row["name"], row["model"]): row["state"] for row in rows}


def test_one_model_of_one_file_is_computed_again_and_told_of(lake: Lake, shown: dict[str, uuid.UUID]) -> None:
    state = infer(files=(shown["a.wav"],), models=("callscene",), return_state=True)
    made = str(state.message).removeprefix("Reference ")
    assert answers(lake, made) == {("a.wav", "callscene"): "computed", ("a.wav", "moonshine-tiny-en"): "carried"}
    with lake.index() as index:
        references = {one.name: str(one.reference) for one in recordings(index)}
    assert references["a.wav"] == made != references["b.wav"]
    assert run_of(state).name == f"reference {made[:8]}: 1 files"
    url = f"{API}/references/{made}"
    assert links_of(state) == {"reference": url, "predictions": f"{url}/predictions"}
    (event,) = events_of(PUBLISHED, state, 1)
    assert event.resource.id == f"audiophile.reference.{made}"
    assert event.payload == {"reference": made, "files": 1, "link": url, "one_off": False}
    lines = lines_of(state)
    assert lines == [
        "planned: 1 files, 1 s of audio (N s)",
        "scored: 1 files (N s; processes loaded models for N s, and decoded and asked them for N s together)",
        f"published: 1 files as reference {made} (N s)",
    ]
    assert infer(return_state=True).message == "Nothing is missing"


def test_other_phrases_once_are_read_by_the_id_of_their_reference_and_change_nothing_else(
    lake: Lake, shown: dict[str, uuid.UUID]
) -> None:
    with lake.index() as index:
        before = recordings(index)
    state = infer(files=(shown["a.wav"],), phrases=(" press ", "press"), return_state=True)
    made = str(state.message).removeprefix("Held reference ")
    assert answers(lake, made) == {("a.wav", "callscene"): "carried", ("a.wav", "moonshine-tiny-en"): "computed"}
    assert run_of(state).name == f"one-off {made[:8]}: 1 files"
    (event,) = events_of(HELD, state, 1)
    assert event.payload["one_off"] is True
    assert infer(return_state=True).message == "Nothing is missing"
    assert drift(return_state=True).message == "Nothing to do"
    with lake.index() as index:
        assert recordings(index) == before
        assert held(index) == []
        found = reference(index, uuid.UUID(made))
        assert found.state == "held"
        assert [one.settings["phrases"] for one in found.models if one.name == "moonshine-tiny-en"] == [["press"]]


UNKNOWN = uuid.UUID(int=7)


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"files": (UNKNOWN,)}, f"files: no accepted file {UNKNOWN}. GET /api/files?status=accepted lists the ids"),
        ({"models": ("nobody",)}, "models: no enabled model nobody; enabled are callscene, moonshine-tiny-en"),
        ({"models": ("callscene",), "phrases": ("x",)}, "Leave models empty"),
        ({"files": ("no id",)}, "files"),
        ({"phrases": ("?!",)}, "phrases"),
        ({"phrases": ("x" * 201,)}, "phrases"),
    ],
)
def test_what_there_is_not_is_refused(lake: Lake, parameters: dict[str, Any], told: str) -> None:
    state = infer(**parameters, return_state=True)
    assert state.is_failed()
    assert told in str(state.message)
    with lake.index() as index:
        assert index.query("SELECT 1 FROM entries WHERE op = 'refresh'") == []


def test_what_does_not_fit_into_one_budget_follows_in_rounds(
    lake: Lake, shown: dict[str, uuid.UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The budget is spent after the first recording of each round."""

    def first_one(plan: Any, specs: Any, made: uuid.UUID, settings: Any, *_: Any) -> Outcome:
        first = replace(plan.shards[0], jobs=plan.shards[0].jobs[:1])
        return Outcome(scored=[score_shard(first, place=settings.place, specs=specs, reference=made)])

    monkeypatch.setattr(infer_module, "score", first_one)
    state = infer(models=("callscene",), return_state=True)
    ids = str(state.message).replace("Reference ", "").split(", ")
    assert len(ids) == 2
    assert run_of(state).name == f"reference {ids[1][:8]} and 1 more: 2 files"
    with lake.index() as index:
        assert {str(one.reference) for one in recordings(index)} == set(ids)
    assert [set(answers(lake, one).values()) for one in ids] == [{"computed", "carried"}] * 2


def test_parameters_are_a_form_with_bounds() -> None:
    properties = json.loads(json.dumps(infer.parameters.model_dump()["properties"]))
    assert properties.keys() == {"files", "models", "phrases"}
    assert properties["files"]["items"]["format"] == "uuid"
    assert all(one["maxItems"] and one["description"] for one in properties.values())
