"""What a scenario came to, as build/chaos.json has it."""

import os
import platform
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.truth import Findings

EXAMPLES = 10


@dataclass
class Result:
    """Figures of one scenario.

    Attributes:
        tried: What writers began to do.
        acknowledged: What they were told is safe.
        kills: How many, by where they struck; of `power`: cuts, by what was left of what was not synced.
        problems: What else was wrong; of a scenario that could not run, why.
    """

    scenario: str
    seed: int
    tried: int = 0
    acknowledged: int = 0
    findings: Findings = field(default_factory=Findings)
    kills: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    ran: bool = True
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        return self.ran and self.findings.nothing and not self.problems

    def as_json(self) -> dict[str, Any]:
        found = self.findings
        return {
            "passed": self.passed,
            "ran": self.ran,
            "seed": self.seed,
            "tried": self.tried,
            "acknowledged": self.acknowledged,
            "lost": len(found.lost),
            "duplicated": len(found.duplicated),
            "half_visible": len(found.half_visible),
            "damaged": len(found.damaged),
            "kills": sum(self.kills.values()),
            "kills_by_step": dict(sorted(self.kills.items())),
            **self.figures,
            "examples": [*found.lost, *found.duplicated, *found.half_visible, *found.damaged][:EXAMPLES],
            "problems": self.problems[:EXAMPLES],
            "seconds": round(self.seconds, 1),
        }


def machine(folder: Path) -> dict[str, Any]:
    """Say on what the figures were taken."""
    return {
        "cores": os.cpu_count(),
        "load": [round(one, 2) for one in os.getloadavg()],
        "file_system": file_system(folder),
        "python": platform.python_version(),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def file_system(folder: Path) -> str:
    """Return the type of the file system that a folder is on."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    there = [(point, kind) for point, kind in mounts if folder.resolve().is_relative_to(point)]
    return max(there, key=lambda mount: len(mount[0]))[1] if there else "unknown"
