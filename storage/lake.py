"""A lake: everything that Audiophile stores in one place, opened together."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import UUID

from storage.commit import Plan, commit
from storage.inbox import Inbox
from storage.index import ALL_TABLES, Index
from storage.log import LogEntry
from storage.media import Media
from storage.place import Place
from storage.store import LocalStore, Store


@dataclass(frozen=True, slots=True)
class Lake:
    """The parts of a lake. Opening one writes nothing."""

    place: Place
    store: Store
    media: Media
    inbox: Inbox

    @classmethod
    def open(cls, place: Place | Path) -> "Lake":
        """Open the lake that lies at `place`; an empty or missing folder is an empty lake."""
        place = Place.of(place) if isinstance(place, Path) else place
        store = open_store(place)
        return cls(place, store, Media(store), Inbox(store))

    def index(self, tables: frozenset[str] = ALL_TABLES) -> Index:
        """Return an index of `tables`, caught up."""
        index = Index(self.store, tables, self.place.local / "index")
        index.catch_up()
        return index

    def commit(
        self,
        index: Index,
        *,
        op: str,
        key: UUID,
        plan: Plan,
        started_at: datetime,
        replanned_by: frozenset[str] | None = None,
    ) -> LogEntry | None:
        """Publish what `plan` drafts, once; see `storage.commit.commit`."""
        return commit(self.store, index, op=op, key=key, plan=plan, started_at=started_at, replanned_by=replanned_by)


def open_store(place: Place) -> Store:
    """Return the store at `place`."""
    if place.is_s3:
        from storage.s3 import S3Store  # noqa: PLC0415  s3fs takes a second to import

        return S3Store(place.url, place.access, place.local / "staging")
    return LocalStore(Path(place.url))
