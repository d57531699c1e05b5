"""A real browser for tests: Chromium without a window, asked over its DevTools protocol.

https://chromedevtools.github.io/devtools-protocol/: plain JSON over a WebSocket, so nothing but Chromium is needed.
"""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final

import httpx
from websockets.sync.client import ClientConnection, connect

from tests.waiting import wait_for

FLAGS: Final = (
    "--headless",
    "--no-sandbox",  # which root cannot have
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--window-size=1400,1600",
    "--remote-debugging-port=0",  # one that is free
)
START_S: Final = 60.0
PATIENCE_S: Final = 60.0


class Page:
    """One tab."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection, self._numbers = connection, count(1)

    def open(self, url: str) -> None:
        self.ask("Page.navigate", url=url)

    def value(self, script: str) -> Any:
        """Return what a script's last expression is; it may be a promise."""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, script: str) -> Any:
        """Return the value of a script as soon as it is true."""
        end = time.monotonic() + PATIENCE_S
        while not (found := self.value(script)):
            assert time.monotonic() < end, f"{script} is {found!r}: {self.value('document.body.innerText')}"
            time.sleep(0.2)
        return found

    def picture(self, path: Path) -> None:
        """Write what it looks like, from its top to its bottom, as PNG."""
        answer = self.ask("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(answer["data"]))

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._connection.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:  # events come in between
            answer = json.loads(self._connection.recv(timeout=PATIENCE_S))
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]


@contextmanager
def browser() -> Iterator[Page]:
    """A page of a browser that knows nothing yet."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    assert chromium, "this test needs Chromium: apt-get install chromium"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen(
            [chromium, *FLAGS, f"--user-data-dir={folder}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"HOME": folder},
        )
        try:
            port = _port(process, Path(folder) / "DevToolsActivePort")
            address = wait_for("page", lambda: _page(port), START_S)
            with connect(address, max_size=None, proxy=None, open_timeout=START_S) as connection:
                yield Page(connection)
        finally:
            process.kill()  # it has nothing to keep
            process.wait()


def _page(port: int) -> str | None:
    """Return the address of the first tab, once there is one."""
    targets = httpx.get(f"http://127.0.0.1:{port}/json/list", trust_env=False, timeout=START_S).json()
    return next((each["webSocketDebuggerUrl"] for each in targets if each["type"] == "page"), None)


def _port(process: subprocess.Popen[bytes], file: Path) -> int:
    """Return the port that Chromium chose: it writes it down once it listens."""
    end = time.monotonic() + START_S
    while not (file.exists() and file.read_text().count("\n")):
        assert process.poll() is None, f"Chromium ended with {process.returncode}"
        assert time.monotonic() < end, f"Chromium did not start within {START_S:.0f} s"
        time.sleep(0.1)
    return int(file.read_text().splitlines()[0])
