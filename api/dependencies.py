"""What every route needs, made once when the API starts."""

import logging
import math
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

from api.news import News
from api.trigger import IngestTrigger
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
    trigger: IngestTrigger
    news: News = field(default_factory=News)
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

    def follow(self) -> None:
        """Keep the index caught up, until the API ends; an error of the store is logged once, and tried again."""
        failure, pause_s = "", POLL_BUCKET_S if self.lake.place.is_s3 else POLL_S
        heard_seq = self.index.applied_seq
        while not self._stop.wait(pause_s):
            started_s = time.monotonic()
            try:
                self.index.catch_up()
                self._looked_at_s = started_s
                if self.index.applied_seq != heard_seq:  # whoever caught up
                    heard_seq = self.index.applied_seq
                    self.news.ring()
                self.index.rebase()
                failure = ""
            except StorageError as error:
                if str(error) != failure:
                    failure = str(error)
                    log.error("the index cannot be caught up: %s", failure)

    def stop(self) -> None:
        """End `follow`."""
        self._stop.set()


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


ServiceDep = Annotated[Service, Depends(_service)]
