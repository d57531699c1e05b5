"""A flow that does nothing for long, for processes of runs that are killed."""

import time

from prefect import flow

import flows.heartbeat
from flows.heartbeat import heartbeat

flows.heartbeat.FIRST_AFTER_S = flows.heartbeat.EVERY_S = 1.0  # rather than half a minute


@flow(name="sleeping")
def sleeping(seconds: float = 300) -> None:
    with heartbeat():
        time.sleep(seconds)
