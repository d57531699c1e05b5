"""A Ray cluster as the pool that shards run on: each is a task of Prefect's, but for the many, on a CPU of the cluster.

Ray is imported by runs that score on it alone. It must not know what a shard is made of.
"""

import logging
import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import uuid4

from flows.errors import StartError
from flows.shards import Scored, Shard
from flows.up import require_ray
from flows.workers import MOST_SHOWN, ShardFuture, Submit
from storage.place import Place
from storage.settings import PROCESSES, is_loopback

log = logging.getLogger(__name__)

Parameters = Callable[[Shard], dict[str, Any]]
"""What the task is given to score a shard."""

_START_HEAD: Final = "GRPC_ENABLE_FORK_SUPPORT=0 ray start --head --disable-usage-stats"
"""How a head is started, without gRPC's care for forks: see `_connected`."""

_TRIES: Final = 3


@contextmanager
def ray_cluster(address: str, place: Place) -> Iterator["Cluster"]:
    """Yield the cluster behind `ray://host:port`, which ends what is under way when the context ends.

    Raises:
        StartError: Nothing answers there, or nothing there can score, or some of it cannot reach the lake.
    """
    require_ray(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"  # else Ray starts a cluster on this host in place of one that is lost
    try:
        _knock(address)  # Ray itself waits for 30 s
        runner = _connected(address)
    except (OSError, RuntimeError, ValueError) as error:
        raise StartError(
            f"AUDIOPHILE_RUNNER={address}: cannot be used ({_in_short(error)}). Start the cluster's head there, "
            f"`{_START_HEAD}`, from the same version of Audiophile, or set AUDIOPHILE_RUNNER={PROCESSES}"
        ) from error
    cluster = Cluster(address, runner, 0)
    try:
        nodes = living_nodes()
        cluster.cpus = sum(_cpus(node) for node in nodes)
        _require_usable(cluster, nodes, place)
        yield cluster
    finally:
        cluster.close()


@dataclass(slots=True)
class Cluster:
    """A cluster that is connected.

    Attributes:
        address: `ray://host:port`.
        cpus: How many shards it can score at a time.
    """

    address: str
    _runner: Any
    cpus: int
    _under_way: set["_OnRay"] = field(default_factory=set)
    _number: Iterator[int] = field(default_factory=count)  # of the shards that were submitted

    @contextmanager
    def pool(self, task: Any, parameters: Parameters) -> Iterator[Submit]:
        """Yield what submits a shard.

        Ray runs none of them twice by itself: whether a recording has killed its process is for `run_shards` to find.
        """
        from prefect_ray.context import remote_options  # noqa: PLC0415

        with remote_options(num_cpus=1, max_retries=0):
            yield lambda shard: self._submit(task, parameters(shard))

    def _submit(self, task: Any, parameters: dict[str, Any]) -> ShardFuture:
        try:
            if not any(_cpus(node) for node in living_nodes()):  # or it would wait for ever
                raise self._lost("no node with a CPU is left")
            shown = next(self._number) < MOST_SHOWN
            begun = self._runner.submit(task, parameters) if shown else _plain(task, parameters)
            future = _OnRay(begun, self)
        except Exception as error:  # of whatever kind, it is told by the future, so that what is scored is published
            failed: Future[Scored] = Future()
            failed.set_exception(self.of(error))
            return failed
        self._under_way.add(future)
        return future

    def of(self, error: Exception) -> Exception:
        """Return what an error is told as: one of the connection names the cluster."""
        from grpc import RpcError  # noqa: PLC0415
        from ray.util.client import ray as connection  # noqa: PLC0415

        if isinstance(error, RpcError):
            return self._lost(error.details())
        is_connected = connection.is_connected()  # type: ignore[no-untyped-call]
        return error if is_connected or isinstance(error, StartError) else self._lost(str(error))

    def _lost(self, why: str) -> StartError:
        return StartError(
            f"AUDIOPHILE_RUNNER={self.address}: the cluster was lost ({why}). What is scored is published, and the "
            f"next run goes on; start the cluster's nodes again, or set AUDIOPHILE_RUNNER={PROCESSES}"
        )

    def is_over(self, future: "_OnRay") -> None:
        """Take note that a shard is not under way any more."""
        self._under_way.discard(future)

    def give_up(self) -> None:
        """End the processes of the shards under way."""
        import ray  # noqa: PLC0415

        for future in list(self._under_way):
            with suppress(Exception):  # it is over, or the cluster is gone
                ray.cancel(future.reference, force=True)

    def close(self) -> None:
        """Leave the cluster, which then ends the processes that it has started for this run."""
        try:
            self._runner.__exit__(None, None, None)
        except Exception as error:  # results are here already
            log.warning("left the Ray cluster at %s untidily: %s", self.address, error)


class _OnRay:
    """A shard under way on a cluster; that its process or node died is told as a pool of processes tells it."""

    def __init__(self, future: Any, cluster: Cluster) -> None:
        self._future, self._cluster = future, cluster

    @property
    def reference(self) -> Any:
        """Ray's own name of it."""
        return self._future.wrapped_future

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        try:
            self._future.add_done_callback(lambda _: fn(self))
        except Exception:  # the connection is gone: `result` says so
            fn(self)

    def result(self) -> Scored:
        from ray import exceptions as ended  # noqa: PLC0415

        self._cluster.is_over(self)
        try:
            scored: Scored = self._future.result()
        except (
            ended.LocalRayletDiedError,
            ended.NodeDiedError,
            ended.ObjectLostError,
            ended.OutOfMemoryError,
            ended.TaskCancelledError,
            ended.WorkerCrashedError,
        ) as error:
            log.warning("a process of the Ray cluster ended in the middle: %s", type(error).__name__)
            raise BrokenProcessPool(str(error)) from error
        except ended.RayTaskError as error:  # whose text is a traceback of the other host
            raise error.cause from error
        except Exception as error:
            raise self._cluster.of(error) from error
        return scored


def _plain(task: Any, parameters: dict[str, Any]) -> Any:
    """Do what a task does without one: Ray alone knows of it."""
    import ray  # noqa: PLC0415
    from prefect_ray.task_runners import PrefectRayFuture  # noqa: PLC0415

    remote = ray.remote(num_cpus=1, max_retries=0)(task.fn)
    return PrefectRayFuture(task_run_id=uuid4(), wrapped_future=remote.remote(**parameters))


def _connected(address: str) -> Any:
    """Return Prefect's task runner for the cluster, connected.

    The head forks a process for each client while gRPC's threads are at work, and gRPC's care for forks kills some of
    them, more on a busy machine (https://github.com/ray-project/ray/issues/63202). The next may live.
    """
    from prefect_ray import RayTaskRunner  # noqa: PLC0415

    for tries_left in reversed(range(_TRIES)):
        runner: Any = RayTaskRunner(address, {"namespace": "audiophile"})
        try:
            runner.__enter__()
            break
        except ConnectionAbortedError as error:
            if not tries_left:
                raise
            log.warning("the Ray cluster at %s did not let us in (%s); trying again", address, _in_short(error))
    return runner


def _in_short(error: Exception) -> str:
    """Return what an error says, without the traceback of another host, whose last line says it."""
    first, *others = str(error).strip().splitlines() or [type(error).__name__]
    return f"{first} {others[-1]}" if others else first


def _knock(address: str) -> None:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def living_nodes() -> list[dict[str, Any]]:
    """Return what Ray knows of each node that is there."""
    import ray  # noqa: PLC0415

    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node for node in nodes if node["Alive"]]


def _cpus(node: dict[str, Any]) -> int:
    return int(node["Resources"].get("CPU", 0))


def _require_usable(cluster: Cluster, nodes: list[dict[str, Any]], place: Place) -> None:
    if not cluster.cpus:
        raise StartError(
            f"AUDIOPHILE_RUNNER={cluster.address}: no node of the cluster has a CPU. Join one: `ray start "
            "--address=<head>:6379`"
        )
    elsewhere = {node["NodeManagerHostname"] for node in nodes} - {socket.gethostname()}
    if elsewhere and not place.is_s3:
        raise StartError(
            f"AUDIOPHILE_DATA={place.url}: is a folder of this host, and the Ray cluster at {cluster.address} has "
            f"others ({', '.join(sorted(elsewhere))}). Keep the lake in a bucket: AUDIOPHILE_DATA=s3://bucket/prefix"
        )
    prefect = os.environ.get("PREFECT_API_URL", "")
    if elsewhere and is_loopback(urlsplit(prefect).hostname or ""):
        raise StartError(
            f"PREFECT_API_URL={prefect}: is this host alone, and the Ray cluster at {cluster.address} has others "
            f"({', '.join(sorted(elsewhere))}), whose shards tell Prefect how they are. Start the flows by "
            "`python -m flows.up worker` (or `flows`) with PREFECT_API_URL=http://<head>:4200/api"
        )
