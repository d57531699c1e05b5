"""Up to which log entry somebody was told of drift: `state/drift.json`.

It is no part of a lake's truth: without it what came last is told again. It must not know who is told, nor how.
"""

import json
from typing import Final

from storage.store import Store

PATH: Final = "state/drift.json"


def read_told(store: Store) -> int | None:
    """Return the last log entry that was told; None where nobody knows.

    Raises:
        StoreError: The store cannot be read.
    """
    try:
        return int(json.loads(store.read(PATH) or b"{}")["told_seq"])
    except (KeyError, TypeError, ValueError):
        return None


def write_told(store: Store, seq: int) -> None:
    """Note that everything up to a log entry was told.

    Raises:
        StoreError: The store cannot be written.
    """
    store.write(PATH, json.dumps({"told_seq": seq}).encode())
