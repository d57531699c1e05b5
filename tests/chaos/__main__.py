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

from tests.chaos.result import Result, machine

BUILD = Path("build")
SCENARIOS = ("local", "on_s3", "maintenance", "proxy", "disk_full", "unconditional", "power")


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
    before, results = machine(folder), []
    for name in options.scenarios or SCENARIOS:
        result = ran(name, seed, (folder / name).resolve(), quick=options.quick)
        results.append(result)
        print(name, json.dumps(result.as_json(), indent=1), flush=True)
        write(results, before, machine(folder), quick=options.quick)
        if result.passed:
            shutil.rmtree(folder / name, ignore_errors=True)
    return 0 if all(result.passed for result in results) else 1


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


def write(results: list[Result], before: object, after: object, *, quick: bool) -> None:
    """Write what is known so far."""
    found = {
        "quick": quick,
        "machine": {"before": before, "after": after},
        "scenarios": {result.scenario: result.as_json() for result in results},
    }
    (BUILD / "chaos.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
