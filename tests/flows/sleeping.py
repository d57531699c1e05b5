"""A flow that does nothing for long, for processes of runs that are killed."""

import time

from prefect import flow

import flows.heartbeat
from flows.heartbeat import with_heartbeat

flows.heartbeat.HEARTBEAT_S = 1.0  # rather than half a minute


@flow(name="sleeping")
@with_heartbeat
def sleeping(seconds: float = 300) -> None:
    time.sleep(seconds)
