"""What every route needs, made once when the API starts."""

import logging
import math
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

from api.news import News
from api.trigger import Trigger
from storage.errors import StorageError
from storage.index import Index
from storage.lake import Lake
from storage.settings import Settings
from storage.uploads import open_uploads

if TYPE_CHECKING:  # s3fs takes a second to import
    from storage.bucket import Bucket

log = logging.getLogger(__name__)

POLL_S = 0.25
CURRENT_S = 1.0  # for so long what was found in a bucket counts as what is there
POLL_BUCKET_S = 0.75  # every look is a request that Amazon charges for: 1.40 dollars a month


@dataclass(slots=True)
class Service:
    """The parts that routes work with."""

    settings: Settings
    lake: Lake
    index: Index
    trigger: Trigger
    news: News = field(default_factory=News)
    failure: str = ""  # why the index cannot be caught up
    _looked_at_s: float = -math.inf
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _uploads: "Bucket | None" = None

    def uploads(self) -> "Bucket | None":
        """Return the bucket of uploads, made once it is needed; None where it is not configured."""
        with self._lock:
            if self._uploads is None:
                self._uploads = open_uploads(self.settings)
            return self._uploads

    def is_current(self) -> bool:
        """Say whether the index has all that the log has: on a disk right now, of a bucket when it was last looked at.

        Raises:
            StoreError: The store cannot be asked.
        """
        if self.lake.place.is_s3:
            return time.monotonic() - self._looked_at_s < CURRENT_S
        return not self.index.is_behind()

    def lag_s(self) -> float:
        """Return how long ago the index was last seen to have all that the log has; infinity before the first time."""
        return time.monotonic() - self._looked_at_s

    def follow(self) -> None:
        """Keep the index caught up, until the API ends; an error is logged once, and it is tried again."""
        pause_s = POLL_BUCKET_S if self.lake.place.is_s3 else POLL_S
        heard_seq = self.index.applied_seq
        while not self._stop.wait(pause_s):
            started_s = time.monotonic()
            try:
                self.index.catch_up()
                if not self.lake.place.is_s3:  # a bucket does not vanish without an error
                    self.index.require_log()
                self._looked_at_s = started_s
                if self.index.applied_seq != heard_seq:  # whoever caught up
                    heard_seq = self.index.applied_seq
                    self.news.ring()
                self.index.rebase()
                self.failure = ""
            except Exception as error:  # whatever it is: without this thread nothing new would ever be shown
                if str(error) != self.failure:
                    self.failure = str(error) or type(error).__name__
                    known = isinstance(error, StorageError)
                    log.error("the index cannot be caught up: %s", self.failure, exc_info=None if known else error)

    def stop(self) -> None:
        """End `follow`."""
        self._stop.set()


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


ServiceDep = Annotated[Service, Depends(_service)]
