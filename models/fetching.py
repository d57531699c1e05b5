"""Bytes from elsewhere: URLs of files, and what they consist of, with time limits. It must not know whose they are."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from queue import Empty, Queue
from threading import Event, Thread
from typing import Any, BinaryIO, Final

BLOCK_BYTES: Final = 2**20  # read at a time
CONNECT_S: Final = 10.0
SILENCE_S: Final = 60.0  # without a byte
FETCH_S: Final = 3600.0  # for all files of a model
HUB: Final = re.compile(r"hf://(?P<repository>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)/?")

_URL: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^?#]+")  # a file's name is put behind it


def is_remote(source: str) -> bool:
    """Say whether a source is fetched: `hf://org/name`, or a URL of a folder that fsspec knows."""
    return _URL.fullmatch(source) is not None and "::" not in source


def address(source: str, revision: str, name: str) -> tuple[str, dict[str, Any]]:
    """Return the URL of a file, and what fsspec needs to open it. Keys to buckets come from the environment."""
    headers: Mapping[str, str] = {}
    if found := HUB.fullmatch(source):
        from huggingface_hub import constants, hf_hub_url, utils  # noqa: PLC0415  only where something is fetched

        if constants.HF_HUB_OFFLINE:
            raise OSError("HF_HUB_OFFLINE is set")
        url = hf_hub_url(found["repository"], name, revision=revision)
        headers = utils.build_hf_headers()  # type: ignore[attr-defined]
    else:
        url = f"{source.rstrip('/')}/{name}"
    if not url.startswith(("http://", "https://")):
        return url, {}
    import aiohttp  # noqa: PLC0415  likewise

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S)
    client = {"timeout": timeout, "trust_env": True, "headers": dict(headers)}
    return url, {"block_size": 0, "client_kwargs": client}  # one request, read from its start to its end


def blocks(opened: Callable[[], AbstractContextManager[BinaryIO]], deadline_s: float) -> Iterator[bytes]:
    """Yield what a file consists of, read by a thread of its own: few protocols can be told when to give up.

    Args:
        opened: Opens it, in that thread.
        deadline_s: By `time.monotonic`.

    Raises:
        TimeoutError: It has not arrived by then.
    """
    arrived: Queue[bytes | Exception] = Queue(maxsize=4)  # of which one that gives up may leave three
    given_up = Event()

    def read() -> None:
        try:
            with opened() as remote:
                while not given_up.is_set() and (block := remote.read(BLOCK_BYTES)):
                    arrived.put(block)
        except Exception as error:  # is raised by who waits for the block
            arrived.put(error)
        arrived.put(b"")

    Thread(target=read, daemon=True).start()
    try:
        while True:
            try:
                block = arrived.get(timeout=max(0.0, deadline_s - time.monotonic()))
            except Empty:
                raise TimeoutError(f"a model's files have {FETCH_S:g} s to arrive") from None
            if isinstance(block, Exception):
                raise block
            if not block:
                return
            yield block
    finally:
        given_up.set()
        while not arrived.empty():  # or it would wait for ever to put the next one
            arrived.get()
