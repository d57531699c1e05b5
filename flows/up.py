"""Starts everything on one machine: looks at what a user can get wrong first, then hands over to flows.processes.

`python -m flows.up` with the name of a service becomes that service alone, as containers, the Procfile and hosts of a
cluster do.
"""

import logging
import os
import re
import shlex
import socket
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from flows.errors import StartError
from storage.errors import StorageError
from storage.lake import open_store
from storage.place import Place
from storage.probe import require_conditional_writes
from storage.settings import (
    PROCESSES,
    Settings,
    get_settings,
    is_loopback,
    read_settings,
    require_keys,
    require_writable,
)

LOCAL: Final = ("localhost", "127.0.0.1")  # no proxy of the user's is asked for these
SCHEME: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]{0,19}")
PROJECT: Final = Path(__file__).parent.parent
KEPT: Final = ("PREFECT_PORT", "PREFECT_LOGGING_LEVEL")
POOL: Final = "audiophile"  # of prefect.yaml
SERVICES: Final = {
    "prefect": [sys.executable, "-m", "prefect", "server", "start"],
    "flows": [sys.executable, "-m", "flows.serve"],
    "api": [sys.executable, "-m", "api"],
    "worker": [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL],
    "guard": [sys.executable, "-m", "flows.guard"],
}
ELSEWHERE: Final = ("worker", "guard")  # what serves a Prefect that may be any host's


def main() -> None:
    """Run the Procfile, or the service alone that an argument names."""
    os.chdir(PROJECT)  # `.env` and a relative data folder are the project's, wherever this is called
    try:
        settings = get_settings()
        if sys.argv[1:]:
            os.environ.update(alone(sys.argv[1], settings))
            if sys.argv[1] == "worker":  # whose runs would fail one by one
                require_writable(settings.local, local_setting(settings))
                settings = read_settings()  # as these variables have changed it
                require_watched(settings)
                require_ray(settings.runner)
                require_store(settings.place)
            _become(SERVICES[sys.argv[1]])
        require_keys(settings)
        require_writable(settings.local, local_setting(settings))
        require_watched(settings)
        require_notify_url(settings)
        require_ray(settings.runner)
        require_store(settings.place)
        if settings.api_port == settings.prefect_port:
            raise StartError(f"API_PORT and PREFECT_PORT are both {settings.api_port}: set one to another port")
        for name, host, port in (
            ("API_PORT", settings.api_host, settings.api_port),
            ("PREFECT_PORT", "127.0.0.1", settings.prefect_port),
        ):
            require_free(name, host, port)
    except (StorageError, StartError) as error:
        sys.exit(f"audiophile: {error}")
    for variable in [name for name in os.environ if name.startswith("PREFECT_") and name not in KEPT]:
        del os.environ[variable]  # of another Prefect that this user has
    os.environ.update(environment(settings))
    _become([sys.executable, "-m", "flows.processes"])


def alone(service: str, settings: Settings) -> dict[str, str]:
    """Return the variables that one service alone runs with: what is set already stays, but for what is empty.

    Raises:
        StartError: There is no such service, it is a Prefect without a password that other machines could reach, or it
            needs a Prefect of some other host and none is named.
    """
    if service not in SERVICES:
        raise StartError(f"{service!r} is none of the services: name one of {', '.join(SERVICES)}, or none for all")
    host = settings.prefect_host
    if service == "prefect" and not is_loopback(host) and not settings.prefect_auth.get_secret_value():
        raise StartError(
            f"PREFECT_SERVER_API_HOST={host}: whoever reaches that address could run anything, as there is no "
            "password. Set PREFECT_API_AUTH_STRING=<user>:<password>, or use 127.0.0.1"
        )
    if service in ELSEWHERE and not settings.prefect_api_url:
        raise StartError("PREFECT_API_URL is not set: name the head's Prefect server, as http://head:4200/api")
    ours = environment(settings) | {"PREFECT_API_URL": settings.prefect_url}
    if service == "worker" and "watch" not in settings.model_fields_set:
        ours |= {"AUDIOPHILE_WATCH": "0"}
    given = {name: value for name, value in os.environ.items() if value and name.lower() != "no_proxy"}
    return ours | (of_server(settings) if service == "prefect" else {}) | given


def of_server(settings: Settings) -> dict[str, str]:
    """Return the variables of Prefect's server alone: its port, its password, and its database if not SQLite."""
    variables = {
        "PREFECT_SERVER_API_HOST": settings.prefect_host,
        "PREFECT_SERVER_API_PORT": str(settings.prefect_port),
    }
    if settings.prefect_auth.get_secret_value():
        variables["PREFECT_SERVER_API_AUTH_STRING"] = settings.prefect_auth.get_secret_value()
    if settings.db_host:
        variables |= {
            "PREFECT_SERVER_DATABASE_DRIVER": "postgresql+asyncpg",
            "PREFECT_SERVER_DATABASE_HOST": settings.db_host,
            "PREFECT_SERVER_DATABASE_PORT": str(settings.db_port),
            "PREFECT_SERVER_DATABASE_NAME": settings.db_name,
            "PREFECT_SERVER_DATABASE_USER": settings.db_user,
            "PREFECT_SERVER_DATABASE_PASSWORD": settings.db_password.get_secret_value(),
        }
    return variables


def environment(settings: Settings) -> dict[str, str]:
    """Return the variables that the processes run with: Prefect's own data lies in this host's own folder."""
    auth = settings.prefect_auth.get_secret_value()
    home = settings.local / "prefect"
    no_proxy = ",".join(filter(None, [os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), *LOCAL]))
    return {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "NO_PROXY": no_proxy,
        "no_proxy": no_proxy,
        "PYTHONUNBUFFERED": "1",
        "DO_NOT_TRACK": "1",
        "PREFECT_HOME": str(home),
        "PREFECT_PROFILES_PATH": str(home / "profiles.toml"),
        "PREFECT_API_URL": f"http://127.0.0.1:{settings.prefect_port}/api",
        "PREFECT_UI_URL": f"http://localhost:{settings.prefect_port}/v2",
        "PREFECT_UI_API_URL": "/api",  # of whichever address the browser has
        "PREFECT_UI_STATIC_DIRECTORY": str(home / "ui"),  # by default among the packages, which may be another user's
        "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",  # which fails what begins while the server is away
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        "PREFECT_SERVER_LOG_RETRYABLE_ERRORS": "true",
        "PREFECT_LOGGING_LOGGERS_PREFECT_TASK_RUNS_LEVEL": "WARNING",  # or each shard is a line that says nothing
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "5",
        "PREFECT_RUNNER_POLL_FREQUENCY": "3",
        # Each look of these, and each poll, costs the server some hundredths of a CPU second, whatever there is to do.
        "PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS": "15",
        "PREFECT_SERVER_SERVICES_PAUSE_EXPIRATIONS_LOOP_SECONDS": "60",
        "PREFECT_SERVER_SERVICES_SCHEDULER_RECENT_DEPLOYMENTS_LOOP_SECONDS": "15",
        "PREFECT_SERVER_EVENTS_PROACTIVE_GRANULARITY": "PT15S",
        # In memory, as by default, leases end with the server, and runs that cannot renew theirs are cancelled.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    } | ({"PREFECT_API_AUTH_STRING": auth} if auth else {})


def require_watched(settings: Settings) -> None:
    """Make the watched folder, if it is the default one, and make sure that it can be read.

    Raises:
        StartError: FILE_PATH names a folder that is not there, cannot be read, or holds what Audiophile itself writes.
    """
    if not settings.is_watched:
        return
    watched = settings.watched_folder
    own = [settings.local] if settings.place.is_s3 else [Path(settings.data), settings.local]
    for folder in own if settings.file_path is not None else []:
        if folder.resolve().is_relative_to(watched.resolve()):
            raise StartError(
                f"FILE_PATH={watched}: holds the data folder {folder}, which would be taken in as "
                f"recordings. Watch another folder, or move {local_setting(settings)} out of it"
            )
    if settings.file_path is None:
        settings.watched_folder.mkdir(parents=True, exist_ok=True)
    elif not settings.file_path.is_dir() or not os.access(settings.file_path, os.R_OK | os.X_OK):
        raise StartError(f"FILE_PATH={settings.file_path}: is no folder that can be read. Make it, or correct it")


def require_notify_url(settings: Settings) -> None:
    """Make sure that Apprise can send to what NOTIFY_URL says.

    Raises:
        StartError: It cannot. Of the address only what is before `://` is shown: tokens may be anywhere behind it.
    """
    address = settings.notify_url.get_secret_value()
    if not address:
        return
    from apprise import Apprise  # noqa: PLC0415  a second of import, which most starts do not need

    log = logging.getLogger("apprise")
    log.disabled = True  # it writes the whole address that it refuses
    try:
        known = Apprise().add(address)
    finally:
        log.disabled = False
    if not known:
        scheme, _, rest = address.partition("://")
        shown = f"{scheme}://" if rest and SCHEME.fullmatch(scheme) else ""
        raise StartError(
            f"NOTIFY_URL={shown}**********: is no address that Apprise can send to. Write it as "
            "mailto://user:password@host?to=address, slack://token/token/token or json://host:port/path, or remove it"
        )


def require_ray(runner: str) -> None:
    """Make sure that what AUDIOPHILE_RUNNER names can be used: the default, or Ray where it is installed.

    Raises:
        StartError: It is not.
    """
    if runner != PROCESSES and find_spec("prefect_ray") is None:
        raise StartError(
            f"AUDIOPHILE_RUNNER={runner}: Ray is not installed. Run `make ray` (or `pip install -c constraints.txt -e "
            f"'.[ray]'`) on this host and on those of the cluster, or set AUDIOPHILE_RUNNER={PROCESSES}"
        )


def require_store(place: Place) -> None:
    """Make sure that commits are safe in the store at `place`.

    Raises:
        StorageError: It cannot be reached or written, or lets one writer overwrite another.
    """
    require_conditional_writes(open_store(place))


def local_setting(settings: Settings) -> str:
    """Return the name of the setting that decides where this host's own folder is."""
    return "AUDIOPHILE_DATA" if settings.local_folder is None and not settings.place.is_s3 else "AUDIOPHILE_LOCAL"


def require_free(name: str, host: str, port: int) -> None:
    """Make sure that a port can be listened on.

    Raises:
        StartError: Something has it.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise StartError(
                f"{name}={port}: cannot be listened on at {host} ({error.strerror}). "
                f"End what uses it, or set another: {name}={port + 1} make up"
            ) from error


def _become(command: list[str]) -> None:
    """Replace this process, so that signals reach the command and nothing in between."""
    print(f"audiophile: {shlex.join(command)}", flush=True)  # noqa: T201
    os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main()
