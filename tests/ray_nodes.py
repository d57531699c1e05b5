"""A Ray cluster for tests: real nodes of one CPU on this machine, which end with the tests even if those are killed."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.loaded import has_loaded
from tests.ports import free_ports
from tests.wanted import wait_for_port, while_wanted

PROJECT = Path(__file__).parents[1]

# The second as the README says: without it a busy head kills processes of its own.
NODE = {"RAY_USAGE_STATS_ENABLED": "0", "GRPC_ENABLE_FORK_SUPPORT": "0", "PYTHONPATH": str(PROJECT)}


@dataclass
class RayNodes:
    """A running cluster: a head, and the nodes that have joined it, all of them with one CPU.

    Attributes:
        address: For clients.
        head: The node that clients are connected to.
        joined: The nodes beside the head.
    """

    address: str
    head: subprocess.Popen
    _gcs: str
    _folder: Path
    _stack: contextlib.ExitStack
    joined: list[subprocess.Popen] = field(default_factory=list)

    def join(self, **variables: str) -> int:
        """Start another node, which is there once a client sees it; return its number."""
        node = _node(["--address", self._gcs], self._folder / f"node-{len(self.joined)}.log", variables)
        self.joined.append(self._stack.enter_context(node))
        return len(self.joined) - 1

    def scores(self, number: int) -> bool:
        """Say whether a process of a node has begun to load models, so that it has a shard in hand."""
        processes = psutil.Process(self.joined[number].pid).children(recursive=True)
        return any(has_loaded(each, "onnxruntime") for each in processes)

    def kill(self, number: int) -> None:
        """End a node and all its processes, as a power cut would."""
        os.killpg(self.joined[number].pid, signal.SIGKILL)

    def kill_head(self) -> None:
        """Likewise the head, and so the cluster."""
        os.killpg(self.head.pid, signal.SIGKILL)


@contextlib.contextmanager
def ray_nodes(joined: int = 1, **variables: str) -> Iterator[RayNodes]:
    """Run a cluster with so many nodes beside the head, whose processes have `variables`."""
    gcs, clients, dashboard = free_ports(3)
    # Not pytest's folder: the path of a Unix socket has 107 characters at most.
    with (
        tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as name,
        contextlib.ExitStack() as stack,
    ):
        folder = Path(name)
        options = ["--head", f"--port={gcs}", f"--ray-client-server-port={clients}", f"--temp-dir={folder / 'r'}"]
        options += ["--include-dashboard=false", f"--dashboard-port={dashboard}"]
        head = stack.enter_context(_node(options, folder / "head.log", variables))
        nodes = RayNodes(f"ray://127.0.0.1:{clients}", head, f"127.0.0.1:{gcs}", folder, stack)
        wait_for_port(gcs, folder / "head.log")
        for _ in range(joined):
            nodes.join(**variables)
        wait_for_port(clients, folder / "head.log")
        wait_for_nodes(nodes, 1 + joined)
        yield nodes


def _node(
    options: list[str], log: Path, variables: dict[str, str]
) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    ray = Path(sys.executable).parent / "ray"
    common = ["--block", "--num-cpus=1", "--disable-usage-stats", "--object-store-memory=100000000"]
    command = [str(ray), "start", *options, *common, "--node-ip-address=127.0.0.1"]
    # Some times, as a machine that is busy may take longer than Ray waits for its own processes.
    return while_wanted(command, log, os.environ | NODE | variables, times=5)


def wait_for_nodes(nodes: RayNodes, count: int, wait_s: float = 180) -> None:
    """Return once a client sees so many living nodes; a process of its own asks, which leaves no trace in this one."""
    asking = (
        "import ray, sys, time\n"
        "ray.init(sys.argv[1], logging_level='ERROR')\n"
        "while sum(node['Alive'] for node in ray.nodes()) != int(sys.argv[2]): time.sleep(0.1)\n"
    )
    command = [sys.executable, "-c", asking, nodes.address, str(count)]
    give_up_at = time.monotonic() + wait_s
    while (asked := subprocess.run(command, timeout=wait_s, check=False, capture_output=True, text=True)).returncode:
        assert time.monotonic() < give_up_at, asked.stderr[-2000:]
