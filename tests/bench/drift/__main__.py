"""Measures drift on real recordings: `make bench-drift` → build/drift.json, build/drift.md, plots in build/drift.

What the models make of the recordings is kept in build/drift, so that only the first run takes long.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any, Final

from tests.bench.drift import costs, plots, power, silence
from tests.bench.drift.expected import EXPECTED
from tests.bench.drift.heard import heard
from tests.bench.drift.recordings import CONDITIONS, require_recordings
from tests.bench.drift.trials import Pool
from tests.bench.measures import Figures, say, timed
from tests.eval.tables import table

BUILD: Final = Path("build")
AT_LEAST: Final = {"null_windows": 3_000, **{f"power_{name}": 0.95 for name in EXPECTED}}
AT_MOST: Final = {
    "null_insufficient": 0,
    "null_alarms_per_month": 1.0,
    "null_alarms_per_month_high": 1.0,
    "model_change_alarms": 0,
    "cost_300_1000_cpu_s": 3.0,
}
NAMED_AT_LEAST: Final = {f"named_{name}": 0.95 for name in EXPECTED}


def main() -> None:
    import torch

    torch.set_num_threads(1)
    asked = parser().parse_args()
    require_recordings()
    began, load_before = time.perf_counter(), os.getloadavg()
    clean = Pool.of(heard("clean"))
    with timed("replays without drift"):
        null = silence.replay(clean, asked.baselines, asked.windows, "en")
        other = silence.replay(Pool.of(heard("spanish")), max(2, asked.baselines // 10), asked.windows, "es")
    with timed("listening"):
        conditions = {name: heard(name) for name in CONDITIONS}
        after = heard("clean", change_model=True)
    with timed("changes"):
        changed = {name: Pool.of(each) for name, each in conditions.items() if name != "clean"}
        trials = power.power(clean, changed, asked.trials)
    figures = silence.figures(null) | {
        "plain_ks_alarms": int(null.plain.sum()),
        "plain_ks_uncorrected_alarms": int(null.uncorrected.sum()),
    }
    figures |= silence.figures(other, "null_es") | power.figures(trials)
    with timed("a changed model"):
        figures |= power.changed_model(conditions["clean"], after)
    with timed("costs"):
        figures |= costs.measure(conditions["clean"], conditions["noise10"])
    pictures = plots.draw(null, trials, BUILD)
    machine = {
        "cores": os.cpu_count(),
        "load_average_before": load_before,
        "load_average_after": os.getloadavg(),
        "took_s": round(time.perf_counter() - began),
    }
    report(figures, machine, pictures)


def report(figures: Figures, machine: Figures, pictures: dict[str, str]) -> None:
    """Write what was measured, against the targets."""
    against = [_row(name, f"≥ {least}", figures[name], figures[name] >= least) for name, least in AT_LEAST.items()]
    against += [
        _row(name, f"≥ {least}", figures[name], (figures[name] or 0) >= least) for name, least in NAMED_AT_LEAST.items()
    ]
    against += [_row(name, f"≤ {most}", figures[name], figures[name] <= most) for name, most in AT_MOST.items()]
    written = {**figures, "targets": against, "machine": machine}
    (BUILD / "drift.json").write_text(json.dumps(written, indent=1) + "\n")
    parts = [
        "# Drift: silent where there is none, found where it is\n",
        table(against),
        "What may be named first was written down beforehand (tests/bench/drift/expected.py).\n",
        *(f"![{title}](drift/{name})\n" for title, name in pictures.items()),
        table([{"figure": name, "value": json.dumps(value)} for name, value in [*figures.items(), *machine.items()]]),
    ]
    (BUILD / "drift.md").write_text("\n".join(parts), encoding="utf-8")
    print(table(against))
    say("build/drift.json, build/drift.md")


def _row(name: str, target: str, figure: Any, met: bool) -> dict[str, Any]:
    return {"name": name, "target": target, "figure": figure, "met": bool(met)}


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="python -m tests.bench.drift", description=__doc__)
    options.add_argument("--baselines", type=int, default=1_600, help="of the replays without drift")
    options.add_argument("--windows", type=int, default=10, help="of each, which have it in common")
    options.add_argument("--trials", type=int, default=100, help="of each change")
    return options


if __name__ == "__main__":
    main()
