"""A refresh on a Ray cluster of two nodes, over a bucket of a real S3 server; one node is killed in the middle."""

import logging
import os
import threading
import time
from collections import Counter
from pathlib import Path
from unittest.mock import patch

from prefect.testing.utilities import prefect_test_harness

from storage.lake import Lake
from storage.place import Place
from storage.settings import get_settings
from tests import asterisk
from tests.chaos.result import Result
from tests.chaos.truth import verified
from tests.ray_nodes import RayNodes, ray_nodes
from tests.s3 import s3_server

CALL_S = 25.0  # of which five make a shard
KILLED_AFTER = 2  # shards


class Told(logging.Handler):
    """What the cluster's side of a run has warned of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def run(seed: int, folder: Path, *, quick: bool) -> Result:
    result = Result("ray", seed)
    count = 30 if quick else 90
    with (
        s3_server(folder / "server") as server,
        ray_nodes(AUDIOPHILE_LOCAL=str(folder / "ray")) as nodes,
        patch.dict(os.environ),
    ):
        os.environ |= server.settings | {
            "AUDIOPHILE_DATA": server.lake_url(),
            "AUDIOPHILE_LOCAL": str(folder / "host"),
            "AUDIOPHILE_DEMO": "0",
            "AUDIOPHILE_RUNNER": nodes.address,
            "INGEST_SETTLE_S": "0.1",
            "REFRESH_BUDGET_S": "3600",
            "DO_NOT_TRACK": "1",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        }
        get_settings.cache_clear()
        asterisk.write_calls(get_settings().watched_folder, count, CALL_S)
        with prefect_test_harness(server_startup_timeout=300):
            refreshes(result, nodes)
        judge(result, get_settings().place, count)
    get_settings.cache_clear()
    return result


def refreshes(result: Result, nodes: RayNodes) -> None:
    """Take the recordings in, and refresh twice; a node dies during the first."""
    from flows.infer import infer
    from flows.ingest import ingest

    told = Told()
    logging.getLogger("flows.ray_cluster").addHandler(told)
    ingest()
    struck = threading.Thread(target=strike, args=(nodes, get_settings().place, result), daemon=True)
    struck.start()
    started = time.monotonic()
    first = infer(return_state=True)
    result.figures["refresh_s"] = round(time.monotonic() - started, 1)
    struck.join(1)
    if not first.is_completed() or not str(first.message).startswith("Reference "):
        result.problems.append(f"the refresh ended as {first.name}: {first.message}")
    if (second := infer(return_state=True)).message != "Nothing is missing":
        result.problems.append(f"something was left to the next run: {second.message}")
    result.figures["shards_repeated"] = len(told.lines)
    if len(told.lines) > 1:
        result.problems.append(f"{len(told.lines)} shards were computed again, for one node of one CPU")


def strike(nodes: RayNodes, place: Place, result: Result) -> None:
    """Kill a node that has a shard in hand, once some have been written."""
    store = Lake.open(place).store
    while len(list(store.found("data/coverage"))) < KILLED_AFTER or not nodes.scores(0):
        time.sleep(0.2)
    nodes.kill(0)
    result.kills["a node of the cluster"] += 1


def judge(result: Result, place: Place, count: int) -> None:
    """Hold the lake to what was put into it."""
    with Lake.open(place).index() as index:
        accepted = {row["file_id"] for row in index.query("SELECT file_id FROM files WHERE status = 'accepted'")}
        rows = index.query("SELECT file_id, model, seq, state FROM coverage")
    covered = Counter((row["file_id"], row["model"]) for row in rows if row["state"] == "computed")
    models = {row["model"] for row in rows}
    result.tried = result.acknowledged = len(accepted)
    if len(accepted) != count:
        result.findings.lost.append(f"{count} recordings were put in, and {len(accepted)} are there")
    result.findings.lost += [f"{one} by {name}" for one in accepted for name in models if not covered[one, name]]
    result.findings.duplicated += [f"{one} {times} times" for one, times in covered.items() if times > 1]
    result.figures["refreshes"] = len({row["seq"] for row in rows})
    if len({row["seq"] for row in rows}) != 1:
        result.problems.append("one refresh was to publish one reference")
    result.findings.add(verified(place))
