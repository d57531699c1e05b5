"""Strikes a lake with faults and writes what came of it to build/chaos.json. `make chaos`; `--quick` takes two minutes.

Exit code 1: something was lost, is there twice, was seen by halves, or a scenario could not be run.
"""

import argparse
import importlib
import json
import random
import shutil
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from tests.chaos.result import Result, machine

BUILD = Path("build")
SCENARIOS = ("local", "s3", "maintenance", "proxy", "disk_full", "unconditional", "power")
SCENARIOS += ("orchestration", "hosts", "ray")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="scenario", help=f"of {', '.join(SCENARIOS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="small counts")
    parser.add_argument("--seed", type=int, default=None, help="default: by chance, and printed")
    options = parser.parse_args()
    if unknown := set(options.scenarios) - set(SCENARIOS):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1_000_000)
    print(f"seed {seed}", flush=True)
    folder = BUILD / "chaos"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    failed = 0
    for name in options.scenarios or SCENARIOS:
        before = machine(folder)
        result = ran(name, seed, (folder / name).resolve(), quick=options.quick)
        figures = {"quick": options.quick, "machine": before} | result.as_json()
        print(name, json.dumps(figures, indent=1), flush=True)
        write(name, figures)
        failed += not result.passed
        if result.passed:
            shutil.rmtree(folder / name, ignore_errors=True)
    return 1 if failed else 0


def ran(name: str, seed: int, folder: Path, *, quick: bool) -> Result:
    """Run one scenario in a folder of its own."""
    folder.mkdir()
    started = time.monotonic()
    try:
        result = importlib.import_module(f"tests.chaos.{name}").run(seed, folder, quick=quick)
    except Exception:
        result = Result(name, seed, ran=False, problems=[traceback.format_exc()])
    result.seconds = time.monotonic() - started
    return result


def write(name: str, figures: dict[str, Any]) -> None:
    """Write one scenario's figures beside those that the others had last."""
    file = BUILD / "chaos.json"
    known = json.loads(file.read_text())["scenarios"] if file.exists() else {}
    found = {other: known[other] for other in SCENARIOS if other in known} | {name: figures}
    file.write_text(json.dumps({"scenarios": found}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
