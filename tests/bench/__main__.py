"""Measures storage, the API, idling and orchestration against targets. `make bench` → build/bench.json, bench.md.

A part of it: `python -m tests.bench api`, or `storage`, `idle`, `orchestration`, `sizes`; what others came to stays.
"""

import json
import operator
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.bench import commits, idle, million, orchestration, reading, serving, sizes, upkeep, year
from tests.bench.measures import Figures, disk, folder_mb, say, timed

BUILD = Path("build")
AT_MOST, AT_LEAST = "at most", "at least"
TARGETS = {
    "commit_10k_ms": (AT_MOST, 25),
    "commit_ratio": (AT_MOST, 1.5),
    "apply_entry_ms": (AT_MOST, 10),
    "lookup_p50_ms": (AT_MOST, 3),
    "lookup_p99_ms": (AT_MOST, 25),
    "open_1y_s": (AT_MOST, 3),
    "api_hot_ratio": (AT_LEAST, 0.6),
    "api_cold_p50_ms": (AT_MOST, 4),
    "api_list_p50_ms": (AT_MOST, 10),
    "api_stream_grows_mib": (AT_MOST, 64),
    "api_visible_max_s": (AT_MOST, 1),
    "api_event_max_s": (AT_MOST, 1),
    "idle_cycle_cpu_s": (AT_MOST, 6),
    "idle_core_share": (AT_MOST, 0.08),
    "idle_pss_mib": (AT_MOST, 900),
    "overhead_share": (AT_MOST, 0.1),
    "scale_2": (AT_LEAST, 1.8),
    "scale_2_ray": (AT_LEAST, 1.6),
    "backlog_ticks": (AT_MOST, 3),
}
_MET = {AT_MOST: operator.le, AT_LEAST: operator.ge}


def measure_storage(root: Path) -> Figures:
    figures = commits.measure(root / "commits")
    shutil.rmtree(root / "commits")
    lake = root / "year"
    with timed("making the lake of a year") as making:
        year.make_year(lake)
    figures["year_made_s"] = making["s"]
    figures |= reading.measure_openings(lake)
    figures["disk_mb"] = {name: folder_mb(lake / name) for name in ("log", "data", "snap")} | {
        "base": folder_mb(lake / "index")
    }
    figures |= reading.measure_look_ups(lake)
    return figures | upkeep.measure(lake)


def measure_api(root: Path) -> Figures:
    lake = root / "million"
    with timed("making the lake of a million files"):
        million.make_million(lake)
    return serving.measure(lake)


PARTS = {
    "storage": measure_storage,
    "api": measure_api,
    "idle": idle.measure,
    "orchestration": orchestration.measure,
    "sizes": sizes.measure,
}


def main(parts: list[str]) -> None:
    BUILD.mkdir(exist_ok=True)
    began, load_before = time.perf_counter(), os.getloadavg()
    root = Path(tempfile.mkdtemp(prefix="bench-", dir=BUILD)).absolute()
    try:
        machine = {"cores": os.cpu_count(), **disk(root), "load_average_before": load_before}
        found = BUILD / "bench.json"
        written: Figures = json.loads(found.read_text()) if found.exists() else {}
        for part in parts:
            figures = PARTS[part](root)
            took_s = round(time.perf_counter() - began)
            written[part] = {**figures, "machine": machine | {"load_average_after": os.getloadavg(), "took_s": took_s}}
            report(written)
    finally:
        with timed("removing it"):
            shutil.rmtree(root, ignore_errors=True)


def report(written: Figures) -> None:
    """Write what was measured, against the targets."""
    figures = {name: value for part in PARTS for name, value in written.get(part, {}).items()}
    against = [
        {"name": name, "target": f"{bound} {limit}", "figure": figures[name], "met": _MET[bound](figures[name], limit)}
        for name, (bound, limit) in TARGETS.items()
        if name in figures
    ]
    written["targets"] = against
    (BUILD / "bench.json").write_text(json.dumps(written, indent=1) + "\n")
    rows = "".join(f"| {one['name']} | {one['target']} | {one['figure']} | {one['met']} |\n" for one in against)
    others = "".join(f"| {name} | {value} |\n" for name, value in figures.items())
    (BUILD / "bench.md").write_text(
        "# Figures against their targets\n\n| figure | target | measured | met |\n|---|---|---|---|\n"
        f"{rows}\n| figure | value |\n|---|---|\n{others}"
    )
    print((BUILD / "bench.md").read_text())
    if "storage" in written:
        say("open_1y_no_snapshot_s is not measured: reading 262,800 entries one by one may take more than 10 minutes")


if __name__ == "__main__":
    main(sys.argv[1:] or list(PARTS))
