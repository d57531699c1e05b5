"""Proves at the start that a store can do what commits rest on. It must not know what is committed."""

import contextlib
import uuid
from typing import Final

from storage.errors import StoreError
from storage.store import Store

FOLDER: Final = "probe"

_FIRST: Final = b"first"
_SECOND: Final = b"second"
_WHY: Final = (
    "Two writers could overwrite each other's commits there. "
    "Set AUDIOPHILE_DATA to a bucket on a server with conditional writes (If-None-Match), as Amazon S3 has them, "
    "or to a folder on a disk with hard links"
)


def require_conditional_writes(store: Store) -> None:
    """Write something where nothing is, and make sure that a second write leaves it alone.

    Raises:
        StoreError: The store cannot be reached or written, or the second write replaced the first.
    """
    store.names(FOLDER)  # where the store is away, this says so, once and soon
    path = f"{FOLDER}/{uuid.uuid4().hex}"
    try:
        _probe(store, path)
    finally:
        with contextlib.suppress(StoreError):  # a leftover does no harm, and its own error would hide the other
            store.remove(path)


def _probe(store: Store, path: str) -> None:
    try:
        # A put that the client repeats, because the first one's answer was lost, finds its own content.
        first = store.write_if_absent(path, _FIRST) or store.read(path) == _FIRST
    except StoreError as error:
        store.write(path, _FIRST)  # fails likewise where nothing can be written at all
        raise StoreError(f"{store}: refuses to write only where nothing is ({error}). {_WHY}") from error
    second = store.write_if_absent(path, _SECOND)
    if not first or second or store.read(path) != _FIRST:
        raise StoreError(
            f"{store}: ignores that a write is only wanted where nothing is: a second one replaced the first. {_WHY}"
        )
