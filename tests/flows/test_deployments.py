"""Deployments are the same whether they are served or deployed to a work pool, whose workers run them."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.responses import DeploymentResponse

from flows.deployments import read_deployments, runner_deployment
from flows.serve import ingest_now
from storage.lake import Lake
from storage.recordings import recordings

PROJECT = Path(__file__).parents[2]
POOL = "audiophile"
SAME = ("name", "description", "tags", "entrypoint", "parameters", "parameter_openapi_schema")
SAME += ("enforce_parameter_schema", "paused", "concurrency_options")


def prefect(url: str, *arguments: str, cwd: Path = PROJECT) -> str:
    """Run what a user types, against the tests' server; return what it printed."""
    variables = os.environ | {"PREFECT_API_URL": url, "PYTHONPATH": str(PROJECT)}
    result = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
        check=False,
        cwd=cwd,
        env=variables,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def registered() -> dict[str, DeploymentResponse]:
    """What the server has."""
    with get_client(sync_client=True) as client:
        found = [client.read_deployment_by_name(f"{one.name}/{one.name}") for one in read_deployments()]
    return {one.name: one for one in found}


def serve() -> dict[str, DeploymentResponse]:
    """Register the deployments as what serves them does."""

    async def apply() -> None:
        for deployment in served:
            await deployment.aapply()

    served = [runner_deployment(one) for one in read_deployments()]
    asyncio.run(apply())
    return registered()


def told(one: DeploymentResponse) -> dict[str, Any]:
    """What a deployment says of itself, but for where and from when on it runs."""
    limit = one.global_concurrency_limit
    return {name: getattr(one, name) for name in SAME} | {
        "limit": limit.limit if limit else None,
        "intervals": [(each.schedule.interval, each.active) for each in one.schedules],
    }


@pytest.fixture(scope="module")
def both(prefect_url: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The deployments as they are served, and as `prefect deploy --all` makes them; the latter stay until the end."""

    as_served = serve()
    prefect(prefect_url, "work-pool", "create", POOL, "--type", "process")
    prefect(prefect_url, "deploy", "--all")
    yield as_served, registered()
    with get_client(sync_client=True) as client:
        for one in registered().values():
            client.delete_deployment(one.id)
        client.delete_work_pool(POOL)


def test_serving_and_deploying_register_the_same(both: tuple[dict[str, Any], dict[str, Any]]) -> None:
    served, deployed = both
    assert served.keys() == {"ingest", "infer", "drift", "maintain"} == deployed.keys()
    for name, one in served.items():
        assert told(one) == told(deployed[name]), name
        assert (one.work_pool_name, deployed[name].work_pool_name) == (None, POOL)
        assert told(one)["limit"] == 1
        assert one.description
        assert one.tags == ["audiophile"]
    assert [told(served[name])["intervals"][0][0].total_seconds() for name in ("ingest", "infer")] == [120, 120]


def test_a_worker_of_the_pool_runs_them_from_any_folder(
    both: tuple[dict[str, Any], dict[str, Any]], prefect_url: str, lake: Lake, incoming: Path, tone: Any, tmp_path: Path
) -> None:
    tone(incoming / "a.wav", 440)
    ingest_now()
    printed = prefect(prefect_url, "worker", "start", "--pool", POOL, "--run-once", "--limit", "1", cwd=tmp_path)
    with lake.index() as index:
        assert [one.name for one in recordings(index)] == ["a.wav"], printed


def test_serving_takes_them_back_from_the_pool(both: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """Or a worker and what serves would both take their runs."""
    _, deployed = both
    for name, one in serve().items():
        assert (one.id, one.work_pool_name, one.work_queue_name) == (deployed[name].id, None, None)
        assert told(one) == told(deployed[name])


def test_the_form_of_each_deployment_helps_with_its_parameters_and_bounds_them() -> None:
    for deployment in read_deployments():
        schema = runner_deployment(deployment)._parameter_openapi_schema.model_dump(by_alias=True)
        for name, parameter in schema["properties"].items():
            assert str(parameter.get("description", "")).endswith("."), (deployment.name, name)
            bounds = re.findall(r"'(maxItems|minimum|enum|\$ref)'", str(parameter))
            assert bounds, (deployment.name, name, parameter)
