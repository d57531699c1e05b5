"""A receiver of notifications: a real HTTP server on a free port that keeps what is posted to it."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Receiver:
    """Keeps the JSON of each POST, with the path that it came to."""

    def __init__(self) -> None:
        self.received: list[tuple[str, dict[str, Any]]] = []
        self._arrived = threading.Condition()
        receiver = self

        class Keep(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                receiver.keep(self.path, body)  # before the answer, which may bring the next one
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Keep)

    def keep(self, path: str, body: dict[str, Any]) -> None:
        with self._arrived:
            self.received.append((path, body))
            self._arrived.notify_all()

    def address(self, path: str) -> str:
        """What NOTIFY_URL says."""
        return f"json://127.0.0.1:{self.server.server_port}{path}"

    def wait(self, count: int, seconds: float = 60) -> list[tuple[str, dict[str, Any]]]:
        """Return what has come once there are `count` of it."""
        give_up_at = time.monotonic() + seconds
        with self._arrived:
            while len(self.received) < count:
                if not self._arrived.wait(give_up_at - time.monotonic()):
                    raise AssertionError(f"{len(self.received)} of {count} came within {seconds} s: {self.received}")
            return list(self.received)


@contextlib.contextmanager
def receiver() -> Iterator[Receiver]:
    receiving = Receiver()
    thread = threading.Thread(target=receiving.server.serve_forever)
    thread.start()
    try:
        yield receiving
    finally:
        receiving.server.shutdown()
        thread.join()
        receiving.server.server_close()
