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
from storage.store import LocalStore


@dataclass(frozen=True, slots=True)
class Lake:
    """The parts of a lake. Opening one writes nothing."""

    store: LocalStore
    media: Media
    inbox: Inbox

    @classmethod
    def open(cls, root: Path) -> "Lake":
        """Open the lake that lies in `root`; an empty or missing folder is an empty lake."""
        store = LocalStore(root)
        return cls(store, Media(store), Inbox(store))

    def index(self, tables: frozenset[str] = ALL_TABLES) -> Index:
        """Return an index of `tables`, caught up."""
        index = Index(self.store, tables)
        index.catch_up()
        return index

    def commit(self, index: Index, *, op: str, key: UUID, plan: Plan, started_at: datetime) -> LogEntry | None:
        """Publish what `plan` drafts, once; see `storage.commit.commit`."""
        return commit(self.store, index, op=op, key=key, plan=plan, started_at=started_at)
