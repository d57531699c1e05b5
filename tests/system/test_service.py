"""The whole service as real processes: what the README promises a newcomer, and the phrase model through all of it."""

import contextlib
import hashlib
import json
import os
import shutil
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psutil
import pytest

from flows.leftovers import marks
from tests import asterisk
from tests.eval.metrics import FOUND
from tests.loaded import has_loaded
from tests.system.service import PROJECT, Service, running

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory):
    """One service for all tests of this file: the prompts lie in the watched folder before it starts."""
    folder = tmp_path_factory.mktemp("service")
    asterisk.require()
    shutil.copytree(asterisk.SOUNDS, folder / "data" / "incoming", ignore=_other_than_wav)
    with running(folder, PHRASES=",".join(asterisk.PHRASES), REFRESH_BUDGET_S="60", API_HOST="127.0.0.1") as service:
        yield service


@pytest.fixture(scope="module")
def predicted(service: Service) -> dict[str, dict]:
    """Every recording, once the schedule has predicted them all; by path below the watched folder."""
    total = len(list((service.data / "incoming").rglob("*.wav")))

    def all_predicted() -> list[dict]:
        files = service.files(min_confidence=0)
        done = [file for file in files if file["reference"]]
        return files if len(files) >= total and len(done) == len(files) else []

    files = service.wait("predictions of all prompts", 3600, all_predicted)
    # A reference is seen as soon as it is published, and its run ends a moment later.
    service.wait("the end of the run", 60, lambda: not service.runs("infer", "PENDING", "RUNNING"))
    return {file["id"]: file for file in files}


def figure(name: str, value: float) -> None:
    """Write a measured figure into build/system.json, for the documents."""
    path = PROJECT / "build" / "system.json"
    path.parent.mkdir(exist_ok=True)
    figures = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(figures | {name: round(value, 4)}, indent=1) + "\n")


def ids_of_prompts() -> dict[str, str]:
    """Id of each prompt: the first 128 bits of the SHA-256 of its bytes, as the design says."""
    return {
        name: str(uuid.UUID(hashlib.sha256((asterisk.SOUNDS / f"{name}.wav").read_bytes()).hexdigest()[:32]))
        for name in asterisk.prompts()
    }


def test_the_schedule_alone_predicts_what_lies_in_the_watched_folder(service: Service, predicted) -> None:
    runs = [run for run in service.runs("infer", "COMPLETED") if run["auto_scheduled"]]
    references = {run["state"]["message"].removeprefix("Reference ") for run in runs}
    assert {file["reference"] for file in predicted.values()} <= references


def phrases(file: dict, least: float = 0.0) -> set[str]:
    """Return the phrases that a file shows: other models say other things."""
    found = [each for each in file["confidences"] if each["model"] == "moonshine-tiny-en"]
    return {each["utterance"] for each in found if each["confidence"] >= least}


def test_two_models_answer_for_every_prompt(service: Service, predicted) -> None:
    models = {model["name"]: model for model in service.api.get("/api/models").json() if model["enabled"]}
    assert models.keys() == {"moonshine-tiny-en", "callscene"}
    assert all(model["available"] for model in models.values())
    scenes = {
        each["utterance"]
        for file_id in ids_of_prompts().values()
        for each in predicted[file_id]["confidences"]
        if each["model"] == "callscene"
    }
    assert "speech" in scenes
    assert scenes <= {"speech", "music", "ringing", "busy tone", "DTMF", "noise", "silence"}


def test_phrases_reach_an_f1_of_097_on_the_prompts_through_the_api(predicted) -> None:
    found = {name: phrases(predicted[file_id], FOUND) for name, file_id in ids_of_prompts().items()}
    assert len(found) == 568
    f1 = asterisk.micro_f1(found)
    figure("f1_8k_service", f1)
    assert f1 >= 0.97


def test_phrases_shown_by_default_are_nearly_always_right_and_mostly_there(service: Service, predicted) -> None:
    shown = {file["id"]: phrases(file) for file in service.files()}
    right = wrong = missed = 0
    prompts = asterisk.prompts()
    for name, file_id in ids_of_prompts().items():
        spoken = asterisk.words(prompts[name]) & set(asterisk.PHRASES)
        right += len(shown[file_id] & spoken)
        wrong += len(shown[file_id] - spoken)
        missed += len(spoken - shown[file_id])
    assert right / (right + wrong) >= 0.95
    assert right / (right + missed) >= 0.7


def test_every_scheduled_run_shows_a_table_and_those_that_work_a_progress_bar(service: Service, predicted) -> None:
    columns = {
        "infer": {
            "files",
            "utterances",
            "predictions",
            "failures",
            "audio seconds",
            "seconds",
            "reference",
            "unavailable models",
        },
        "ingest": {"accepted", "rejected", "sources", "skipped", "seconds"},
    }
    for flow, expected in columns.items():
        worked = 0
        for run in service.runs(flow, "COMPLETED"):
            if any("could not be told" in line["message"] for line in service.lines(run["id"])):
                continue  # the server was too busy, and work did not wait for it
            artifacts = {artifact["type"]: artifact["data"] for artifact in service.artifacts(run["id"])}
            (row,) = json.loads(artifacts["table"])
            assert row.keys() == expected
            if row.get("reference") or row.get("sources"):
                assert 0 <= artifacts["progress"] <= 100
                worked += 1
        assert worked


def test_an_upload_is_predicted_without_any_other_action(service: Service, predicted, tmp_path: Path) -> None:
    recording = changed_copy(asterisk.SOUNDS / "vm-goodbye.wav", tmp_path / "my recording.wav")
    with recording.open("rb") as file:
        answer = service.api.post("/api/files/upload", files={"file": ("../my recording.wav", file, "audio/wav")})
    assert answer.status_code == 201
    body = answer.json()
    assert body["status"] == "pending"
    assert service.file(body["id"])["status"] in {"pending", "accepted"}
    started = time.monotonic()
    file = service.wait("predictions of the upload", 300, lambda: _with_reference(service, body["id"]))
    figure("upload_to_predictions_s", time.monotonic() - started)
    service.wait("a run that the upload asked for", 120, lambda: _has_asked(service))
    assert file["file"] == "../my recording.wav"
    with recording.open("rb") as again:
        answer = service.api.post("/api/files/upload", files={"file": ("../my recording.wav", again)})
    assert (answer.status_code, answer.json()["id"]) == (200, body["id"])


def test_the_ui_asks_the_server_that_it_came_from(service: Service) -> None:
    """Whatever address the browser has it from."""
    settings = httpx.get(str(service.prefect.base_url.join("/ui-settings")), trust_env=False, timeout=120)
    assert settings.json()["api_url"] == "/api"


def _other_than_wav(folder: str, names: list[str]) -> list[str]:
    """Name what other packages have put beside the prompts: `make eval` needs one of them."""
    return [name for name in names if Path(folder, name).is_file() and not name.endswith(".wav")]


def _has_asked(service: Service) -> bool:
    """Say whether the API has had ingest run, beside its schedule."""
    return any("upload" in run["tags"] for run in service.runs("ingest", "COMPLETED"))


def _with_reference(service: Service, file_id: str) -> dict | None:
    file = service.file(file_id, min_confidence=0)
    return file if file["reference"] else None


def changed_copy(source: Path, target: Path) -> Path:
    """The same sound in a file of other bytes: one more chunk, which decoders pass over, at the end."""
    content = bytearray(source.read_bytes())
    content += b"junk" + (8).to_bytes(4, "little") + os.urandom(8)
    content[4:8] = (len(content) - 8).to_bytes(4, "little")
    target.write_bytes(content)
    return target


def test_what_cannot_be_decoded_is_rejected_with_a_reason_and_stops_nothing(service: Service, predicted) -> None:
    answer = service.api.post("/api/files/upload", files={"file": ("rubbish.wav", b"RIFF\x40\0\0\0WAVEand no chunk")})
    file_id = answer.json()["id"]
    file = service.wait("the rejection", 120, lambda: (f := service.file(file_id))["status"] == "rejected" and f)
    assert "cannot be decoded" in file["reason"]
    assert file["confidences"] == []


def test_ctrl_c_ends_every_process_and_a_restart_loses_nothing(service: Service, predicted) -> None:
    before = {file["id"]: file for file in service.files(min_confidence=0)}
    assert service.stop() == []
    service.start()
    after = {file["id"]: file for file in service.files(min_confidence=0)}
    assert after == before


def test_a_service_that_is_killed_goes_on_after_a_restart(service: Service, predicted, tmp_path: Path) -> None:
    recording = changed_copy(asterisk.SOUNDS / "conf-thereare.wav", tmp_path / "last.wav")
    with recording.open("rb") as file:
        file_id = service.api.post("/api/files/upload", files={"file": file}).json()["id"]
    for process in service.processes():
        with contextlib.suppress(psutil.NoSuchProcess):  # some end with what started them
            process.kill()
    service.process.wait()
    service.start()
    service.wait("predictions of the upload", 300, lambda: _with_reference(service, file_id))


def test_a_cycle_that_has_nothing_to_do_never_imports_torch(service: Service, predicted) -> None:
    """Its cost is measured by `make bench BENCH=idle`."""
    flows = next(process for process in service.processes() if "flows.serve" in " ".join(process.cmdline()))
    (warm,) = flows.children()  # it starts the runs
    since, torch = datetime.now(UTC), dict[str, bool]()

    def idle(flow: str) -> set[str]:
        """Return the runs that began later, were seen, and had nothing to do."""
        found = [run for run in service.runs(flow, "COMPLETED") if run["id"] in torch]
        nothing = [run for run in found if run["state"]["message"] in ("Nothing is missing", "Nothing new")]
        return {run["id"] for run in nothing if datetime.fromisoformat(run["start_time"]) > since}

    def one_cycle() -> bool:
        for process in warm.children():
            with contextlib.suppress(psutil.Error, OSError):
                for run in marks(Path(f"/proc/{process.pid}/fd")):
                    loaded = [has_loaded(each, "libtorch") for each in (process, *process.children(recursive=True))]
                    torch[str(run)] = any(loaded) or torch.get(str(run), False)
        return all(idle(flow) for flow in ("ingest", "infer"))

    service.wait("a run of each flow that has nothing to do", 600, one_cycle, every_s=0.2)
    assert not any(torch[run] for flow in ("ingest", "infer") for run in idle(flow))
