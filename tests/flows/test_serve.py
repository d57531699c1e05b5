"""A serving process that is told to end tells its runs, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
import uuid

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectNotFound

from flows.leftovers import runs_here
from flows.serve import welcome
from storage.settings import Settings
from tests.system.service import PROJECT
from tests.waiting import wait_for

SERVE = """
import asyncio, sys
from prefect.types.entrypoint import EntrypointType
from flows.serve import EndingRunner
from tests.flows.sleeping import sleeping
runner = EndingRunner(name="serving", pause_on_shutdown=False, query_seconds=0.5)
runner.add_deployment(sleeping.to_deployment(sys.argv[1], entrypoint_type=EntrypointType.MODULE_PATH))
asyncio.run(runner.serve())
"""


def is_registered(server: SyncPrefectClient, name: str) -> bool:
    try:
        server.read_deployment_by_name(name)
    except ObjectNotFound:
        return False
    return True


def test_what_a_user_reads_names_the_watched_folder_if_there_is_one() -> None:
    assert "Drop recordings into" in welcome(Settings(_env_file=None))
    assert "Drop recordings into" not in welcome(Settings(_env_file=None, AUDIOPHILE_WATCH="0"))


def test_sigterm_ends_the_run_in_hand_and_then_the_service(prefect_url: str) -> None:
    name = uuid.uuid4().hex
    serving = subprocess.Popen(
        [sys.executable, "-c", SERVE, name], cwd=PROJECT, env=os.environ | {"PREFECT_API_URL": prefect_url}
    )
    try:
        with get_client(sync_client=True) as server:
            wait_for("a deployment", lambda: is_registered(server, f"sleeping/{name}"))
            run = server.create_flow_run_from_deployment(server.read_deployment_by_name(f"sleeping/{name}").id)
            wait_for("a running run", lambda: server.read_flow_run(run.id).state_name == "Running")
            assert run.id in runs_here()
            serving.send_signal(signal.SIGTERM)
            assert serving.wait(60) == 0
            assert server.read_flow_run(run.id).state.is_cancelled()
            assert run.id not in runs_here()
    finally:
        serving.kill()
        serving.wait()
