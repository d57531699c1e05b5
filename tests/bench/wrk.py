"""Asks a server with wrk (Debian's package), one path after the other, and says how fast it answered."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SCRIPT: Final = """
local paths = {}
for line in io.lines(os.getenv("WRK_PATHS")) do paths[#paths + 1] = line end
local at = 0
request = function()
  at = at % #paths + 1
  return wrk.format("GET", paths[at])
end
done = function(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\\nFOUND {"requests": %d, "took_us": %d, "p50_us": %d, "p99_us": %d, "failed": %d}\\n', summary.requests,
    summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


@dataclass(frozen=True)
class Asked:
    """What came of it."""

    requests: int
    took_us: int
    p50_us: int
    p99_us: int
    failed: int

    @property
    def a_second(self) -> float:
        return self.requests / self.took_us * 1e6

    @property
    def p50_ms(self) -> float:
        return self.p50_us / 1000

    @property
    def p99_ms(self) -> float:
        return self.p99_us / 1000


def wrk(url: str, paths: list[str], folder: Path, *, seconds: int, connections: int = 1) -> Asked:
    """Ask for `paths` in turns, over so many connections, from one thread."""
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed: apt-get install wrk")
    script, listed = folder / "ask.lua", folder / "paths.txt"
    script.write_text(_SCRIPT)
    listed.write_text("\n".join(paths))
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(script), url]
    found = subprocess.run(
        command, env={"WRK_PATHS": str(listed), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=True
    )
    line = next(line for line in found.stdout.splitlines() if line.startswith("FOUND "))
    asked = Asked(**json.loads(line.removeprefix("FOUND ")))
    if asked.failed:
        raise SystemExit(f"{asked.failed} of {asked.requests} requests to {url} failed:\n{found.stdout}")
    return asked
