"""Looks at what Audiophile needs to run, and says what to do about what is wrong. `python -m flows.doctor`.

It writes nothing but a probe that it removes, and with `--models` what loading them keeps. What it looks at is imported
late: any of it may be broken.
"""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flows.diagnosis import Finding, Level, fail, guarded, ok, show

if TYPE_CHECKING:
    from storage.settings import Settings

PROJECT: Final = Path(__file__).parent.parent
WAIT_S: Final = 180.0
"""How long a scheduled run is waited for, where the last minutes had none."""


def main(arguments: list[str] | None = None) -> int:
    """Look at everything; return 1 where something does not work, else 0."""
    parser = argparse.ArgumentParser(prog="python -m flows.doctor", description="Look at what Audiophile needs to run.")
    parser.add_argument("--models", action="store_true", help="load each enabled model, rather than hash its weights")
    parser.add_argument("--no-wait", action="store_true", help="do not wait for a scheduled run")
    options = parser.parse_args(arguments)
    os.chdir(PROJECT)  # `.env` and a relative data folder are the project's, as for `make up`
    found: Counter[Level] = Counter()
    for finding in findings(load_models=options.models, wait_s=0 if options.no_wait else WAIT_S):
        show(finding)
        found[finding.level] += 1
    sys.stdout.write(f"\n{found[Level.OK]} ok, {found[Level.WARN]} to know, {found[Level.FAIL]} to mend\n")
    return 1 if found[Level.FAIL] else 0


def findings(*, load_models: bool, wait_s: float) -> Iterator[Finding]:
    """Yield what is found, in the order in which it is best mended."""
    yield from guarded("python", _look_at_python)
    settings: list[Settings] = []
    yield from guarded("settings", partial(_look_at_settings, settings))
    if settings:
        yield from _look_further(settings[0], load_models=load_models, wait_s=wait_s)


def _look_at_python() -> Iterator[Finding]:
    from flows.doctor_python import look_at_packages, look_at_python  # noqa: PLC0415  any import may fail

    yield from look_at_python()
    yield from look_at_packages(PROJECT)


def _look_at_settings(read: "list[Settings]") -> Iterator[Finding]:
    from storage.errors import SettingsError  # noqa: PLC0415  likewise
    from storage.settings import ENV_FILE, get_settings, require_keys  # noqa: PLC0415  likewise

    file = os.environ.get(ENV_FILE, ".env")
    try:
        settings = get_settings()
        read.append(settings)
        require_keys(settings)
    except SettingsError as error:
        yield fail("settings", str(error))
        return
    if settings.api_port == settings.prefect_port:
        yield fail(
            "settings", f"API_PORT and PREFECT_PORT are both {settings.api_port}: set one of them to another port"
        )
        return
    source = f"the environment and {file}" if Path(file).is_file() else f"the environment; there is no {file}"
    yield ok("settings", f"read from {source}")


def _look_further(settings: "Settings", *, load_models: bool, wait_s: float) -> Iterator[Finding]:
    def host() -> Iterator[Finding]:
        from flows.asking import ask_as_set  # noqa: PLC0415  likewise
        from flows.doctor_host import look_at_host  # noqa: PLC0415  likewise

        ask_as_set(settings)
        yield from look_at_host(settings)

    def lake() -> Iterator[Finding]:
        from flows.doctor_lake import look_at_lake  # noqa: PLC0415  likewise

        yield from look_at_lake(settings.place)

    def models() -> Iterator[Finding]:
        from flows.doctor_models import look_at_models  # noqa: PLC0415  likewise

        yield from look_at_models(settings, load=load_models)

    def service() -> Iterator[Finding]:
        from flows.doctor_service import look_at_service  # noqa: PLC0415  likewise

        yield from look_at_service(settings, wait_s)

    for name, look in (("host", host), ("store", lake), ("models", models), ("service", service)):
        yield from guarded(name, look)


if __name__ == "__main__":
    sys.exit(main())
