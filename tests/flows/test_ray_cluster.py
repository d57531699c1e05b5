"""Shards on a real Ray cluster of two nodes, with the lake on a real S3 server."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State

from flows.errors import StartError
from flows.infer import infer
from flows.ingest import ingest
from flows.ray_cluster import Cluster, _require_usable, ray_cluster
from flows.shards import Scored, Shard
from flows.up import require_ray
from flows.workers import Outcome
from storage.errors import SettingsError
from storage.lake import Lake
from storage.place import Place
from storage.recordings import predictions, recordings
from storage.settings import get_settings, read_settings
from tests import asterisk
from tests.flows.ray_work import FAILING_S, KILLER_S, SLEEPER_S, job, refresh, told
from tests.ray_nodes import PROJECT, RayNodes, ray_nodes
from tests.s3 import S3Server
from tests.waiting import wait_for

# A thread of gRPC's may still look at a connection that has been closed, as it was lost.
pytestmark = pytest.mark.filterwarnings("ignore:Exception in thread:pytest.PytestUnhandledThreadExceptionWarning")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the cluster's hosts."""
    return tmp_path_factory.mktemp("ray-host")


# Ends the next process that a head starts for a client, while there is a file that says so.
END_THE_NEXT = """
import os, pathlib, sys
if "--mode=specific-server" in sys.orig_argv:
    try:
        pathlib.Path(__file__).with_name("end-the-next").unlink()
    except FileNotFoundError:
        pass
    else:
        os._exit(1)
"""


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that every interpreter of the cluster's looks into first."""
    folder = tmp_path_factory.mktemp("ray-faults")
    (folder / "sitecustomize.py").write_text(END_THE_NEXT)
    return folder


@pytest.fixture(scope="module")
def nodes(own: Path, faults: Path) -> Iterator[RayNodes]:
    with ray_nodes(AUDIOPHILE_LOCAL=str(own), PYTHONPATH=f"{PROJECT}{os.pathsep}{faults}") as running:
        yield running


def ended(nodes: RayNodes, shards: list[Shard], tmp_path: Path, on_scored: Callable[[Scored], None] = id) -> State:
    told[:] = [on_scored]
    return refresh.with_options(validate_parameters=False)(nodes.address, str(tmp_path), shards, return_state=True)


def run(nodes: RayNodes, shards: list[Shard], tmp_path: Path, on_scored: Callable[[Scored], None] = id) -> Outcome:
    return ended(nodes, shards, tmp_path, on_scored).result()


def test_real_recordings_are_scored_on_the_cluster_and_published_as_one_reference(
    nodes: RayNodes,
    own: Path,
    prefect_url: str,
    s3_server: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asterisk.require()
    values = s3_server.settings | {
        "AUDIOPHILE_DATA": s3_server.lake_url(),
        "AUDIOPHILE_LOCAL": str(tmp_path / "own"),
        "AUDIOPHILE_DEMO": "0",
        "AUDIOPHILE_RUNNER": nodes.address,
        "INGEST_SETTLE_S": "0.1",
        "PHRASES": "goodbye,messages",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    get_settings.cache_clear()
    settings = get_settings()
    settings.watched_folder.mkdir(parents=True)
    for name in ("vm-goodbye", "vm-instructions"):
        (settings.watched_folder / f"{name}.wav").write_bytes((asterisk.SOUNDS / f"{name}.wav").read_bytes())
    try:
        ingest()
        first = infer(return_state=True)
        assert first.message.startswith("Reference ")
        assert infer(return_state=True).message == "Nothing is missing"
        with Lake.open(settings.place).index() as index:
            assert {f"Reference {recording.reference}" for recording in recordings(index)} == {first.message}
            assert {row.label for row in predictions(index, model="moonshine-tiny-en")} == {"goodbye", "messages"}
    finally:
        get_settings.cache_clear()
    assert (own / "staging").is_dir(), "a host of the cluster has a folder of its own"


def test_a_recording_that_kills_its_process_is_found_and_processes_are_used_again(
    nodes: RayNodes, prefect_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.ray_cluster.MOST_SHOWN", 2)  # so that most shards are no tasks of Prefect's
    jobs = [job() for _ in range(9)] + [job(KILLER_S)]
    shards = [Shard(number, tuple(jobs[at : at + 2])) for number, at in enumerate(range(0, len(jobs), 2))]
    state = ended(nodes, shards, tmp_path)
    outcome = state.result()
    assert outcome.error is None
    of_run = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
    with get_client(sync_client=True) as server:
        shown = wait_for("tasks", lambda: server.read_task_runs(flow_run_filter=of_run))
    assert len(shown) <= 2
    assert [shard.jobs for shard in outcome.killers] == [(jobs[-1],)]
    assert sum(scored.recordings for scored in outcome.scored) == 9
    assert len(outcome.loaded) <= 3, "one process a CPU, and one after the death of another"


def test_sigterm_gives_up_what_is_under_way_on_the_cluster_and_keeps_what_is_done(
    nodes: RayNodes, prefect_url: str, tmp_path: Path
) -> None:
    def end(scored: Scored) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    try:
        outcome = run(nodes, [Shard(0, (job(),)), *(Shard(n, (job(SLEEPER_S),)) for n in (1, 2, 3))], tmp_path, end)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert len(outcome.scored) == 1
    assert (outcome.killers, outcome.error) == ([], None)


def test_an_error_is_told_alike_whether_its_shard_is_a_task_or_not(
    nodes: RayNodes, prefect_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for most in (1, 0):
        monkeypatch.setattr("flows.ray_cluster.MOST_SHOWN", most)
        outcome = run(nodes, [Shard(0, (job(FAILING_S),))], tmp_path)
        assert (type(outcome.error), str(outcome.error)) == (ValueError, "the disk is full")


def test_a_head_whose_process_for_the_run_dies_at_once_is_asked_again(
    nodes: RayNodes, faults: Path, tmp_path: Path
) -> None:
    """As those of Ray do at times: https://github.com/ray-project/ray/issues/63202."""
    fault = faults / "end-the-next"
    fault.touch()
    with ray_cluster(nodes.address, Place.of(tmp_path)) as cluster:
        assert cluster.cpus == 2
    assert not fault.exists()


def test_a_cluster_that_is_lost_in_the_middle_is_a_message_and_what_is_done_is_kept(
    nodes: RayNodes, prefect_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last test of this cluster."""
    monkeypatch.setenv("RAY_CLIENT_RECONNECT_GRACE_PERIOD", "5")
    shards = [Shard(0, (job(),)), *(Shard(n, (job(SLEEPER_S),)) for n in (1, 2, 3))]
    outcome = run(nodes, shards, tmp_path, lambda _: nodes.kill_head())
    assert len(outcome.scored) == 1
    assert isinstance(outcome.error, StartError)
    assert f"AUDIOPHILE_RUNNER={nodes.address}: the cluster was lost" in str(outcome.error)


def test_a_cluster_that_is_not_there_is_a_message_with_its_address(tmp_path: Path) -> None:
    message = r"AUDIOPHILE_RUNNER=ray://127.0.0.1:9: cannot be used.*`GRPC_ENABLE_FORK_SUPPORT=0 ray start --head"
    with pytest.raises(StartError, match=message), ray_cluster("ray://127.0.0.1:9", Place.of(tmp_path)):
        pass


@pytest.mark.parametrize("value", ["dask://here:1", "ray://", "ray://host", "ray://host:0", "ray://host:70000", "ray"])
def test_a_runner_that_is_none_is_refused_with_what_is_allowed(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIOPHILE_RUNNER", value)
    with pytest.raises(SettingsError, match=r"AUDIOPHILE_RUNNER='.*`processes`.*ray://host:port"):
        read_settings()


def test_a_cluster_of_other_hosts_needs_the_lake_in_a_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIOPHILE_RUNNER", "ray://cluster.example.org:10001")
    with pytest.raises(SettingsError, match=r"cannot reach the folder.*s3://bucket/prefix"):
        read_settings()
    monkeypatch.setenv("AUDIOPHILE_DATA", "s3://bucket/lake")
    assert read_settings().runner == "ray://cluster.example.org:10001"
    monkeypatch.delenv("AUDIOPHILE_DATA")
    monkeypatch.setenv("AUDIOPHILE_RUNNER", "ray://[::1]:10001")
    assert read_settings().runner.startswith("ray://")


@pytest.mark.parametrize("address", ["http://127.0.0.1:4200/api", "http://localhost:4200/api"])
def test_a_cluster_of_other_hosts_needs_a_prefect_that_they_can_reach(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, place = Cluster("ray://head:10001", None, 2), Place("s3://bucket/lake", tmp_path)
    here, there = ({"NodeManagerHostname": name} for name in (socket.gethostname(), "elsewhere.example.org"))
    monkeypatch.setenv("PREFECT_API_URL", address)
    _require_usable(cluster, [here], place)
    with pytest.raises(StartError, match=r"PREFECT_API_URL=http://.*elsewhere\.example\.org.*<head>:4200/api"):
        _require_usable(cluster, [here, there], place)
    monkeypatch.setenv("PREFECT_API_URL", "http://head:4200/api")
    _require_usable(cluster, [here, there], place)


def test_without_the_extra_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    require_ray("processes")
    require_ray("ray://127.0.0.1:10001")
    monkeypatch.setattr("flows.up.find_spec", lambda name: None)
    require_ray("processes")
    with pytest.raises(
        StartError, match=r"AUDIOPHILE_RUNNER=ray://127.0.0.1:10001: Ray is not installed. Run `make ray`"
    ):
        require_ray("ray://127.0.0.1:10001")
