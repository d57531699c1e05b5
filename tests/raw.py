"""Talks to a server over a bare socket: what no HTTP client would send."""

import contextlib
import socket
from collections.abc import Iterator

import httpx


@contextlib.contextmanager
def connected(http: httpx.Client) -> Iterator[socket.socket]:
    """Open a connection to the server of `http`."""
    with socket.create_connection((http.base_url.host, http.base_url.port or 80), timeout=30) as connection:
        yield connection


def said(connection: socket.socket) -> bytes:
    """Read until the server closes."""
    content = b""
    with contextlib.suppress(ConnectionResetError):
        while more := connection.recv(65_536):
            content += more
    return content


def exchanged(http: httpx.Client, request: bytes) -> bytes:
    """Send bytes as they are; return all that comes back until the server closes."""
    with connected(http) as connection:
        connection.sendall(request)
        return said(connection)
