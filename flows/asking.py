"""Asks the API and Prefect's server over HTTP, without Prefect's own client, which may be what is broken."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from flows.up import environment
from storage.settings import Settings, is_loopback

TIMEOUT_S: Final = 5.0
MOST: Final = 200  # rows that Prefect gives at a time
AUTH: Final = "PREFECT_API_AUTH_STRING"  # "user:password", as Prefect's own client reads it


@dataclass(frozen=True, slots=True)
class Run:
    """A flow run, as far as the doctor looks."""

    name: str
    deployment_id: str
    state: str  # its type: SCHEDULED, PENDING, RUNNING, COMPLETED …
    state_name: str
    state_at: datetime
    message: str
    auto_scheduled: bool
    ended_at: datetime | None

    @classmethod
    def of(cls, raw: dict[str, Any]) -> "Run":
        """Return the run that Prefect describes."""
        state = raw["state"]
        return cls(
            name=raw["name"],
            deployment_id=raw["deployment_id"] or "",
            state=state["type"],
            state_name=state["name"],
            state_at=datetime.fromisoformat(state["timestamp"]),
            message=state["message"] or "",
            auto_scheduled=raw["auto_scheduled"],
            ended_at=datetime.fromisoformat(raw["end_time"]) if raw["end_time"] else None,
        )


def ask_as_set(settings: Settings) -> None:
    """Have no proxy of the user's asked for what runs here, and Prefect's password given, as `make up` does."""
    os.environ |= {
        name: value for name, value in environment(settings).items() if name in ("NO_PROXY", "no_proxy", AUTH)
    }


def client(base_url: str) -> httpx.Client:
    """Return a client for an address."""
    user, colon, password = os.environ.get(AUTH, "").partition(":")
    return httpx.Client(base_url=base_url, timeout=TIMEOUT_S, auth=(user, password) if colon else None)


def api_address(settings: Settings) -> str:
    """Return where the API answers on this host."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.api_host, settings.api_host)  # noqa: S104
    return f"http://[{host}]:{settings.api_port}" if ":" in host else f"http://{host}:{settings.api_port}"


def prefect_is_here(settings: Settings) -> bool:
    """Say whether the Prefect server of the settings is the one that `make up` starts."""
    address = urlsplit(settings.prefect_url)
    return is_loopback(address.hostname or "") and address.port == settings.prefect_port


def is_ours(address: str) -> bool:
    """Say whether Audiophile's API answers."""
    return _json(address, "/healthz") == {"status": "alive"}


def is_prefect(address: str) -> bool:
    """Say whether a Prefect server answers."""
    return _json(address, "/health") is True


def server_time(answer: httpx.Response) -> datetime | None:
    """Return the time that a server gave its answer at, by its own clock; to the second."""
    try:
        return parsedate_to_datetime(answer.headers["Date"]).astimezone(UTC)
    except (KeyError, ValueError):
        return None


def runs(prefect: httpx.Client, states: dict[str, Any], deployments: list[str], sort: str) -> list[Run]:
    """Return flow runs of deployments.

    Args:
        prefect: Its server.
        states: Prefect's filter for their states.
        deployments: Their names.
        sort: As Prefect names it.

    Raises:
        httpx.HTTPError: It cannot be asked.
    """
    body = {
        "deployments": {"name": {"any_": deployments}},
        "flow_runs": {"state": states},
        "sort": sort,
        "limit": MOST,
    }
    return [Run.of(raw) for raw in prefect.post("/flow_runs/filter", json=body).raise_for_status().json()]


def _json(address: str, path: str) -> object:
    try:
        with client(address) as asked:
            return asked.get(path).raise_for_status().json()
    except (httpx.HTTPError, ValueError):
        return None
