"""Stages of a run, each a task in Prefect's UI, and runs of other flows that a run asks for."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound

from flows.story import at_best

T = TypeVar("T")


@task(name="stage", task_run_name="{name}", cache_policy=NO_CACHE)
def run_stage(name: str, work: Callable[[], T]) -> T:
    """Run one stage, and say what it did, where it says that in words, and how long it took."""
    started = time.monotonic()
    result = work()
    did = f"{name}: {result}" if isinstance(result, str) else name
    get_run_logger().info("%s (%.1f s)", did, time.monotonic() - started)
    return result


def ask_for_run(name: str, *, otherwise: str, **arguments: Any) -> None:
    """Ask for a run of the flow `name`, and do not wait for it; a server that is away is not asked.

    Args:
        name: Of the flow, and of its deployment.
        otherwise: What it means that there is no such deployment.
        arguments: Of `run_deployment`.
    """

    def ask() -> None:
        try:
            run_deployment(f"{name}/{name}", timeout=0, as_subflow=False, **arguments)
        except ObjectNotFound:
            get_run_logger().warning("no deployment %s/%s: %s", name, name, otherwise)

    at_best(ask)
