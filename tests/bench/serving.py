"""Measures the API as real processes over a lake with a million files and ten million predictions, asked by wrk.

Another process commits every second, and changes some of the very files that are asked for.
"""

import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np

from storage.index import PLANNING_TABLES
from storage.lake import Lake
from tests.bench.commits import refresh
from tests.bench.measures import Figures, p50, say, timed
from tests.bench.wrk import Asked, wrk
from tests.ports import free_port

HOT: Final = 1_000  # often-asked files
CHANGED: Final = 10  # of them, by every commit
COLD: Final = 200_000
COMMIT_EVERY_S: Final = 1.0
ROUNDS: Final = 5
ROUND_S: Final = 6
CONNECTIONS: Final = 16
SEEN: Final = 20  # commits after which is looked how soon they are visible
STARTS_S: Final = 120


@contextlib.contextmanager
def process(*command: str, port: int, **settings: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Start a server and wait until it answers; give its address."""
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen([sys.executable, *command], env=os.environ | settings, stdout=subprocess.DEVNULL) as running:
        try:
            for _ in range(STARTS_S * 10):
                with contextlib.suppress(httpx.TransportError):
                    httpx.get(f"{url}/openapi.json", timeout=60)
                    break
                time.sleep(0.1)
            yield url, running
        finally:
            running.terminate()


def api(root: Path) -> Any:
    """Serve a lake, as a user does: with its access log."""
    port = free_port()
    settings = {"AUDIOPHILE_DATA": str(root), "API_PORT": str(port), "PREFECT_API_URL": "http://127.0.0.1:9/api"}
    return process("-m", "api", port=port, **settings)


def commit_on(root: Path, ids: list[bytes], commits: int, every_s: float, told: Any) -> None:
    """Commit one refresh after the other; tell when each began to count, its reference and one of its files."""
    lake, rng = Lake.open(root), np.random.default_rng(11)
    with lake.index(PLANNING_TABLES) as index:
        told.send(None)
        for _ in range(commits):
            due = time.monotonic() + every_s
            chosen = sorted(rng.choice(len(ids), min(CHANGED, len(ids)), replace=False))
            entry = refresh(
                lake, index, np.frombuffer(b"".join(ids[at] for at in chosen), np.uint8).reshape(-1, 16), rng
            )
            told.send((time.monotonic(), str(entry.reference), str(uuid.UUID(bytes=ids[chosen[0]]))))
            time.sleep(max(0.0, due - time.monotonic()))


@contextlib.contextmanager
def committing(
    root: Path, ids: list[bytes], commits: int = 1_000_000, every_s: float = COMMIT_EVERY_S
) -> Iterator[Any]:
    """Commit in another process meanwhile; give where it tells of its commits."""
    spawned = get_context("spawn")
    receiving, telling = spawned.Pipe(duplex=False)
    writer = spawned.Process(target=commit_on, args=(root, ids, commits, every_s, telling), daemon=True)
    writer.start()
    telling.close()
    receiving.recv()
    try:
        yield receiving
    finally:
        writer.terminate()
        writer.join()


def resident_mib(pid: int) -> float:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def measure_hot(root: Path, url: str, hot: list[bytes]) -> Figures:
    """Ask for the hot files here and at the bare route in turns, while commits change some of them."""
    paths = [f"/api/files/{uuid.UUID(bytes=one)}" for one in hot]
    held, port = root.parent / "answers.json", free_port()
    with httpx.Client(base_url=url) as http:
        held.write_text(json.dumps({path.rsplit("/", 1)[1]: http.get(path).text for path in paths}))
    asked: dict[str, list[Asked]] = {"api": [], "bare": []}
    with (
        process("-m", "tests.bench.bare", str(held), str(port), port=port) as (bare_url, _),
        committing(root, hot),
    ):
        for _ in range(ROUNDS):
            for name, at in (("bare", bare_url), ("api", url)):
                asked[name].append(wrk(at, paths, root.parent, seconds=ROUND_S, connections=CONNECTIONS))
    ratios = [one.a_second / other.a_second for one, other in zip(asked["api"], asked["bare"], strict=True)]
    return {
        "api_hot_ratio": p50(ratios),
        "api_hot_requests_a_second": round(p50([one.a_second for one in asked["api"]])),
        "api_bare_requests_a_second": round(p50([one.a_second for one in asked["bare"]])),
    }


def measure_cold(root: Path, url: str, ids: list[bytes], hot: list[bytes]) -> Figures:
    """Ask for files that nobody has asked for, one by one, while commits land."""
    paths = [f"/api/files/{uuid.UUID(bytes=one)}" for one in ids]
    with committing(root, hot):
        asked = wrk(url, paths, root.parent, seconds=15)
    if asked.requests > len(paths):
        raise SystemExit(f"{asked.requests} requests for {len(paths)} files: some were not cold")
    return {"api_cold_p50_ms": round(asked.p50_ms, 2), "api_cold_p99_ms": round(asked.p99_ms, 2)}


def measure_list(root: Path, url: str, ids: list[bytes], hot: list[bytes]) -> Figures:
    paths = [f"/api/files?limit=100&after={uuid.UUID(bytes=one)}" for one in ids[:10_000]]
    with committing(root, hot):
        asked = wrk(url, paths, root.parent, seconds=15)
    return {"api_list_p50_ms": round(asked.p50_ms, 2), "api_list_p99_ms": round(asked.p99_ms, 2)}


def measure_seen(root: Path, urls: list[str], hot: list[bytes]) -> Figures:
    """Commit, and look at every server until it shows it."""
    took: list[float] = []
    with contextlib.ExitStack() as stack:
        https = [stack.enter_context(httpx.Client(base_url=url)) for url in urls]
        told = stack.enter_context(committing(root, hot, commits=SEEN))
        for _ in range(SEEN):
            committed, reference, file_id = told.recv()
            for http in https:
                while http.get(f"/api/files/{file_id}").json()["reference"] != reference:
                    time.sleep(0.005)
            took.append(time.monotonic() - committed)
    return {"api_visible_p50_s": p50(took), "api_visible_max_s": round(max(took), 2)}


def measure_events(root: Path, url: str, hot: list[bytes]) -> Figures:
    """Listen to events, and compare when they come with when their commit began to count."""
    came: dict[str, float] = {}
    listening = threading.Event()

    def listen() -> None:
        with httpx.stream("GET", f"{url}/api/events", timeout=60) as answer:
            listening.set()
            for line in answer.iter_lines():
                if line.startswith("data:") and '"reference"' in line:
                    came[json.loads(line.removeprefix("data:"))["reference"]] = time.monotonic()
                if len(came) == SEEN:
                    return

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    listening.wait(30)
    with committing(root, hot, commits=SEEN) as told:
        committed = [told.recv() for _ in range(SEEN)]
        listener.join(10)
    took = [came[reference] - at for at, reference, _ in committed]
    return {"api_event_p50_s": p50(took), "api_event_max_s": round(max(took), 2)}


def measure_stream(url: str, pid: int, files: int) -> Figures:
    """Read all files as one array, as fast as they come, and look at what the server holds meanwhile."""
    before, most, size_bytes, found = resident_mib(pid), 0.0, 0, 0
    started = time.monotonic()
    with timed("streaming all files"), httpx.stream("GET", f"{url}/api/files", timeout=120) as answer:
        for block in answer.iter_bytes(1 << 20):
            size_bytes += len(block)
            found += block.count(b'"sample_rate"')
            most = max(most, resident_mib(pid))
    if abs(found - files) > files / 1000:  # a name may be cut in two by a block's border
        raise SystemExit(f"the stream had {found} of {files} files")
    return {
        "api_stream_grows_mib": round(most - before),
        "api_stream_s": round(time.monotonic() - started),
        "api_stream_mb": round(size_bytes / 1e6),
        "api_memory_mib": round(before),
    }


def measure(root: Path) -> Figures:
    """Measure over the lake at `root`."""
    lake = Lake.open(root)
    with lake.index() as index:
        every = [row["file_id"].bytes for row in index.query("SELECT file_id FROM base.files")]
    chance = random.Random(5)
    chance.shuffle(every)
    hot, cold = every[:HOT], every[HOT : HOT + COLD]
    figures: Figures = {"api_files": len(every), "api_measured_at": datetime.now(UTC).isoformat(timespec="seconds")}
    with api(root) as (url, running), api(root) as (other, _):
        figures["api_idle_memory_mib"] = round(resident_mib(running.pid))
        for name, step in (
            ("hot", lambda: measure_hot(root, url, hot)),
            ("cold", lambda: measure_cold(root, url, cold, hot)),
            ("list", lambda: measure_list(root, url, cold, hot)),
            ("visible", lambda: measure_seen(root, [url, other], hot)),
            ("events", lambda: measure_events(root, url, hot)),
            ("stream", lambda: measure_stream(url, running.pid, len(every))),
        ):
            with timed(f"asking the API: {name}"):
                found = step()
                say(str(found))
                figures |= found
    return figures
