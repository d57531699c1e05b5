"""What every route needs, made once when the API starts."""

import logging
import threading
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from api.trigger import IngestTrigger
from storage.errors import StorageError
from storage.index import Index
from storage.lake import Lake
from storage.settings import Settings

log = logging.getLogger(__name__)

POLL_S = 0.25


@dataclass(slots=True)
class Service:
    """The parts that routes work with."""

    settings: Settings
    lake: Lake
    index: Index
    trigger: IngestTrigger
    _stop: threading.Event = field(default_factory=threading.Event)

    def follow(self) -> None:
        """Keep the index caught up, until the API ends; an error of the store is logged once, and tried again."""
        failure = ""
        while not self._stop.wait(POLL_S):
            try:
                self.index.catch_up()
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
