"""The deployments of prefect.yaml, as this process can serve them."""

import importlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import yaml
from prefect import Flow
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.deployments.runner import RunnerDeployment
from prefect.schedules import Interval
from prefect.types.entrypoint import EntrypointType
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flows.errors import DeploymentError

PREFECT_FILE: Final = Path(__file__).parent.parent / "prefect.yaml"
FIRST_RUN_AFTER: Final = timedelta(seconds=30)
"""When the first scheduled runs start after `make up`: after what waited has been taken in."""

AT_ONCE: Final = "ingest"
"""The deployment that a start runs at once, and whose schedule is counted from there: so a tick of infer finds what the
tick of ingest has just taken in, and their processes do not need memory at the same time."""

FIRST_RARE_RUN_AFTER: Final = timedelta(minutes=10)
"""Likewise, of schedules with an hour or more in between: a start has enough to do."""
RARE_S: Final = 3600


class Schedule(BaseModel):
    """One schedule of a deployment."""

    model_config = ConfigDict(extra="forbid")

    interval: int = Field(ge=1)  # seconds


class Deployment(BaseModel):
    """One entry of prefect.yaml, as far as Audiophile uses it."""

    model_config = ConfigDict(extra="ignore")

    name: str
    entrypoint: str = Field(pattern=r"^\w+(\.\w+)+$")
    description: str
    tags: list[str] = []
    schedules: list[Schedule] = []
    concurrency_limit: ConcurrencyLimitConfig | None = None


def read_deployments(path: Path = PREFECT_FILE) -> list[Deployment]:
    """Return the deployments of `path`.

    Raises:
        DeploymentError: The file is wrong.
    """
    try:
        raw: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        return [Deployment.model_validate(entry) for entry in raw["deployments"]]
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValidationError) as error:
        raise DeploymentError(f"{path}: {error}") from error


def runner_deployment(deployment: Deployment, started_at: datetime | None = None) -> RunnerDeployment:
    """Return what Prefect's runner serves, its schedules counted from now on."""
    module, _, name = deployment.entrypoint.rpartition(".")
    flow: Flow[..., Any] = getattr(importlib.import_module(module), name)
    started_at = started_at or datetime.now(UTC)
    served = flow.to_deployment(
        deployment.name,
        description=deployment.description,
        tags=deployment.tags,
        schedules=[
            Interval(
                schedule.interval,
                anchor_date=started_at + _first_run_after(deployment.name, schedule.interval),
            )
            for schedule in deployment.schedules
        ],
        concurrency_limit=deployment.concurrency_limit,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    if not isinstance(served, RunnerDeployment):  # `to_deployment` is a coroutine inside an event loop
        raise DeploymentError(f"{deployment.name}: cannot be made inside a running event loop")
    served.work_pool_name = served.work_queue_name = None  # said, or the server keeps the pool of `prefect deploy`
    return served


def _first_run_after(name: str, interval_s: float) -> timedelta:
    if name == AT_ONCE:
        return timedelta()
    return FIRST_RARE_RUN_AFTER if interval_s >= RARE_S else FIRST_RUN_AFTER
