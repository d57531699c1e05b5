"""Serves an application as a real server on a free port, in a thread of the tests."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import uvicorn
from fastapi import FastAPI

from api.server import server_config


@contextlib.contextmanager
def serving(app: FastAPI) -> Iterator[httpx.Client]:
    """Serve `app`; yield a client of it."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(server_config(app, log_config=None))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        try:
            with httpx.Client(base_url=address, timeout=30, trust_env=False) as http:
                yield http
        finally:
            server.should_exit = True
            thread.join()
