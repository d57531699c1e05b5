"""Sends uploads as bytes over a bare socket: what no HTTP client would send, and when."""

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import orjson

from tests.raw import connected

BOUNDARY = b"----a-boundary"
MULTIPART = f"multipart/form-data; boundary={BOUNDARY.decode()}"
END = b"\r\n--" + BOUNDARY + b"--\r\n"


def part(name: bytes = b"a.wav", field: bytes = b"file") -> bytes:
    """Return how a part with a file begins."""
    disposition = b'form-data; name="' + field + b'"; filename="' + name + b'"'
    return b"--" + BOUNDARY + b"\r\nContent-Disposition: " + disposition + b"\r\n\r\n"


def body(content: bytes, name: bytes = b"a.wav") -> bytes:
    """Return a body with one file."""
    return part(name) + content + END


def post(http: httpx.Client, content: bytes, path: str = "/api/files/upload") -> httpx.Response:
    """Post a body as it is."""
    return http.post(path, content=content, headers={"Content-Type": MULTIPART})


@dataclass
class Line:
    """A connection to a server."""

    socket: socket.socket

    def head(self, *headers: str, path: str = "/api/files/upload", media_type: str = MULTIPART) -> None:
        """Send how a POST begins."""
        lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Type: {media_type}", *headers, "", ""]
        self.socket.sendall("\r\n".join(lines).encode())

    def chunk(self, content: bytes) -> None:
        """Send a piece of a chunked body; an empty one ends it."""
        self.socket.sendall(b"%x\r\n%b\r\n" % (len(content), content))

    def answer(self) -> tuple[int, dict[str, str], dict]:
        """Read one answer: status, headers, and its JSON where it has some."""
        received = b""
        while b"\r\n\r\n" not in received:
            more = self.socket.recv(1)
            assert more, received
            received += more
        first, *lines = received.decode().split("\r\n")[:-2]
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        content = b""
        while len(content) < int(headers.get("content-length", 0)):
            content += self.socket.recv(65_536)
        return int(first.split()[1]), headers, orjson.loads(content) if content else {}


@contextlib.contextmanager
def line_to(http: httpx.Client) -> Iterator[Line]:
    """Open a connection to the server of `http`."""
    with connected(http) as connection:
        yield Line(connection)
