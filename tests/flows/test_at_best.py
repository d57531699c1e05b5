"""What a run tells Prefect's server stops nothing, whatever becomes of the server."""

import socket
import time
from collections.abc import Iterator

import pytest
from prefect import flow
from prefect.client.orchestration import get_client

from flows import story
from flows.story import at_best
from tests.ports import free_port


@pytest.fixture
def hung() -> Iterator[str]:
    """A server that takes connections and answers nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/api"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(story, "REQUEST_S", 0.3)


def asking(url: str, told: list[str]):
    """What asks a server of its own, within a run that another server knows of."""

    def ask() -> str:
        told.append("asked")
        with get_client(sync_client=True) as client, pytest.MonkeyPatch.context() as patched:
            patched.setattr(client._client, "base_url", url)
            return str(client.api_version())

    return ask


def test_a_server_that_answers_nothing_is_given_up_soon_and_let_alone_for_a_while(prefect_url: str, hung: str) -> None:
    told: list[str] = []

    @flow
    def telling() -> None:
        began = time.monotonic()
        assert at_best(asking(hung, told)) is None
        assert time.monotonic() - began < 30, "Prefect's own limit is a minute, several times"
        assert at_best(asking(hung, told)) is None
        assert at_best(lambda: "sent", silent_s=0) == "sent", "what waits for nothing is told"

    telling()
    assert told == ["asked"], "the second time nobody waits"


def test_one_that_refuses_is_asked_the_next_time(prefect_url: str) -> None:
    told: list[str] = []

    @flow
    def telling() -> None:
        for _ in range(2):
            assert at_best(asking(f"http://127.0.0.1:{free_port()}/api", told)) is None

    telling()
    assert told == ["asked", "asked"]
