"""How the API is served: what a connection is like before any request is read."""

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest

from api.server import Protocol

if TYPE_CHECKING:
    from tests.api.conftest import Api


def test_an_answer_does_not_wait_for_the_client_to_acknowledge_its_head(
    api: "Api", monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[asyncio.Transport] = []
    begun = Protocol.connection_made

    def noted(protocol: Protocol, transport: asyncio.Transport) -> None:
        begun(protocol, transport)
        made.append(transport)

    monkeypatch.setattr(Protocol, "connection_made", noted)
    api.http.get("/healthz")
    assert made
    for transport in made:
        assert transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
