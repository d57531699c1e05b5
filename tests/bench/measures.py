"""What every measurement needs: percentiles, a process of its own, and what machine and disk it ran on."""

import json
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

Figures = dict[str, Any]


def p50(values: Sequence[float]) -> float:
    return round(statistics.median(values), 2)


def percentile(values: Sequence[float], percent: float) -> float:
    return round(sorted(values)[min(len(values) - 1, int(len(values) * percent / 100))], 2)


def peak_memory_mb() -> int:
    """The most that this process has held; ru_maxrss would begin with what its parent had."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return round(int(line.split()[1]) / 1024)


def say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


@contextmanager
def timed(what: str) -> Iterator[dict[str, float]]:
    """Say what begins, and how long it took."""
    say(f"{what} ...")
    measured: dict[str, float] = {}
    started = time.perf_counter()
    yield measured
    measured["s"] = round(time.perf_counter() - started, 2)
    say(f"{what}: {measured['s']:.1f} s")


@contextmanager
def fresh_process() -> Iterator[Callable[..., "Future[Any]"]]:
    """Give what runs one function in a new process, which inherits nothing."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield pool.submit


def in_fresh_process(function: Callable[..., Figures], *args: object) -> Figures:
    with fresh_process() as submit:
        return submit(function, *args).result()


def folder_mb(folder: Path) -> float:
    """What a folder takes on the disk, in whole blocks."""
    total = sum(os.lstat(Path(at) / name).st_blocks for at, _, names in os.walk(folder) for name in names) * 512
    return round(total / 1e6, 1)


def disk(folder: Path) -> Figures:
    """Name the file system of `folder`."""
    found = subprocess.run(
        ["findmnt", "-J", "-o", "TARGET,SOURCE,FSTYPE,OPTIONS", "-T", folder],
        capture_output=True,
        text=True,
        check=True,
    )
    mount = json.loads(found.stdout)["filesystems"][0]
    return {
        "file_system": mount["fstype"],
        "mount_options": mount["options"],
        "free_gb": round(shutil.disk_usage(folder).free / 1e9),
    }
