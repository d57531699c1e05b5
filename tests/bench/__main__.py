"""Measures storage against its targets, on this machine's disk. `make bench` → build/bench.json, bench.md."""

import json
import os
import shutil
import tempfile
import time
from pathlib import Path

from tests.bench import commits, reading, upkeep, year
from tests.bench.measures import Figures, disk, folder_mb, say, timed

BUILD = Path("build")
TARGETS = {  # at most
    "commit_10k_ms": 25,
    "commit_ratio": 1.5,
    "apply_entry_ms": 10,
    "lookup_p50_ms": 3,
    "lookup_p99_ms": 25,
    "open_1y_s": 3,
}


def measured(root: Path) -> Figures:
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


def main() -> None:
    BUILD.mkdir(exist_ok=True)
    began, load_before = time.perf_counter(), os.getloadavg()
    root = Path(tempfile.mkdtemp(prefix="bench-", dir=BUILD)).absolute()
    try:
        machine = {"cores": os.cpu_count(), **disk(root), "load_average_before": load_before}
        figures = measured(root)
        took_s = round(time.perf_counter() - began)
        report(figures, machine | {"load_average_after": os.getloadavg(), "took_s": took_s})
    finally:
        with timed("removing it"):
            shutil.rmtree(root, ignore_errors=True)


def report(figures: Figures, machine: Figures) -> None:
    """Write what was measured, against the targets."""
    against = [
        {"name": name, "target": most, "figure": figures[name], "met": figures[name] <= most}
        for name, most in TARGETS.items()
    ]
    written = {**figures, "open_1y_no_snapshot_s": None, "targets": against, "machine": machine}
    (BUILD / "bench.json").write_text(json.dumps(written, indent=1) + "\n")
    rows = "".join(f"| {one['name']} | {one['target']} | {one['figure']} | {one['met']} |\n" for one in against)
    others = "".join(f"| {name} | {value} |\n" for name, value in [*figures.items(), *machine.items()])
    (BUILD / "bench.md").write_text(
        "# Storage against its targets\n\n| figure | target, at most | measured | met |\n|---|---|---|---|\n"
        f"{rows}\n| figure | value |\n|---|---|\n{others}"
    )
    print((BUILD / "bench.md").read_text())
    say("open_1y_no_snapshot_s is not measured: reading 262,800 entries one by one may take longer than 10 minutes")


if __name__ == "__main__":
    main()
