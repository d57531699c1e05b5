"""Which models could be loaded when they were last tried, and why not: `state/models.json`.

It is no part of a lake's truth: without it every model is tried again. It must not know how a model is loaded.
"""

import dataclasses
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from storage.store import Store

PATH: Final = "state/models.json"
PAUSE: Final = timedelta(minutes=15)  # until a model that could not be loaded is tried again


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of loading a model.

    Attributes:
        name: Of the model.
        version: Of the model.
        entry: A hash of all that its loading depends on: where that changes, it is tried again at once.
        reason: Why it cannot be loaded; None where it can.
        since: When that began to be so.
        next_try_at: When it is tried again, where it cannot be loaded.
    """

    name: str
    version: str
    entry: str
    reason: str | None
    since: datetime
    next_try_at: datetime | None


def read_tried(store: Store) -> dict[str, Tried]:
    """Return what is known of the models, by name; nothing where the file is missing or damaged.

    Raises:
        StoreError: The store cannot be read.
    """
    content = store.read(PATH)
    try:
        rows = json.loads(content or b"[]")
        found = [
            Tried(
                **row
                | {
                    "since": datetime.fromisoformat(row["since"]),
                    "next_try_at": datetime.fromisoformat(row["next_try_at"]) if row["next_try_at"] else None,
                }
            )
            for row in rows
        ]
    except (AttributeError, KeyError, TypeError, ValueError):
        return {}
    return {tried.name: tried for tried in found}


def write_tried(store: Store, tried: Iterable[Tried]) -> None:
    """Write what is known of the models.

    Raises:
        StoreError: The store cannot be written.
    """
    rows = [dataclasses.asdict(each) for each in tried]
    store.write(PATH, json.dumps(rows, default=datetime.isoformat, indent=1).encode())


def resting(tried: Mapping[str, Tried], entries: Mapping[str, str], now: datetime) -> dict[str, str]:
    """Return which models are not to be tried yet, with why they cannot be loaded.

    Args:
        tried: What is known.
        entries: What the loading of each model depends on now, by its name.
        now: The time.
    """
    return {
        name: each.reason
        for name, each in tried.items()
        if each.reason is not None
        and each.next_try_at is not None
        and entries.get(name) == each.entry
        and now < each.next_try_at
    }


def after_trying(
    tried: Mapping[str, Tried],
    models: Mapping[str, tuple[str, str]],
    loaded: Collection[str],
    refused: Mapping[str, str],
    now: datetime,
) -> dict[str, Tried]:
    """Return what is known of the models after a run.

    Args:
        tried: What was known.
        models: Version and entry of each enabled model, by its name; the others are forgotten.
        loaded: Models that were loaded.
        refused: Models that some process could not load, and why.
        now: The time.
    """
    found = {}
    for name, (version, entry) in models.items():
        before = tried.get(name)
        if name not in refused and name not in loaded:
            if before is not None:
                found[name] = before
            continue
        reason = refused.get(name)
        same = before is not None and before.entry == entry and (before.reason is None) == (reason is None)
        since = before.since if before is not None and same else now
        found[name] = Tried(name, version, entry, reason, since, now + PAUSE if reason is not None else None)
    return found


def try_all_again(store: Store) -> None:
    """Have every model tried by the next run that needs it: a user who starts the service has mended something.

    Raises:
        StoreError: The store cannot be read or written.
    """
    tried, now = read_tried(store), datetime.now(UTC)
    if any(each.next_try_at is not None for each in tried.values()):
        write_tried(store, [dataclasses.replace(each, next_try_at=each.next_try_at and now) for each in tried.values()])
