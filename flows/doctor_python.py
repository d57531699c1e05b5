"""Compares Python and the installed packages with those that are known to work together.

It must not import any of them.
"""

import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from flows.diagnosis import Finding, fail, ok, warn

OLDEST, NEWEST = (3, 11), (3, 12)
WHY: Final = {
    "sqlalchemy": "with 2.1 Prefect's server looks healthy, and no schedule ever fires",
    "fastapi": "0.151 breaks Prefect's server",
    "pyarrow": "26 needs numpy 2, which alibi-detect excludes",
    "numpy": "alibi-detect needs numpy 1",
    "moonshine-voice": "later releases come without the weights",
}
AGAIN: Final = "Install them again: rm -f .venv/installed && make up (or `pip install -c constraints.txt -e .`)"


def look_at_python(version: tuple[int, int] = sys.version_info[:2]) -> Iterator[Finding]:
    """Look at the version of the interpreter."""
    if OLDEST <= version <= NEWEST:
        yield ok("python", f"{sys.version.split()[0]} at {sys.executable}")
        return
    yield fail(
        "python",
        f"{version[0]}.{version[1]} at {sys.executable}: needs 3.11 or 3.12 (numba, which alibi-detect needs, has no "
        "other). Make it anew: make clean && make up PYTHON=python3.12",
    )


def look_at_packages(project: Path) -> Iterator[Finding]:
    """Compare what is installed with pyproject.toml, which says what works, and constraints.txt, which was tried."""
    pinned = _pinned(project / "constraints.txt")
    wanted = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    problems = [found for text in wanted if (found := _look_at(Requirement(text), pinned)) is not None]
    yield from problems or [ok("packages", f"{len(wanted)} that matter are installed as pinned")]


def _look_at(requirement: Requirement, pinned: dict[str, str]) -> Finding | None:
    name = canonicalize_name(requirement.name)
    subject, expected = "packages", pinned.get(name)
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        return fail(subject, f"{name} is not installed, and {expected or requirement} is needed. {AGAIN}")
    if not requirement.specifier.contains(found, prereleases=True):
        why = f"; {WHY[name]}" if name in WHY else ""
        return fail(subject, f"{name} {found}: needs {requirement.specifier}{why}. {AGAIN}")
    if expected is not None and found != expected:
        return warn(subject, f"{name} {found}: tried was {expected}. {AGAIN}")
    return None


def _pinned(path: Path) -> dict[str, str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==", 1) for line in lines if "==" in line and not line.startswith("#")]
    return {canonicalize_name(name): version.strip() for name, version in pairs}
