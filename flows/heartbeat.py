"""Tells Prefect's server every half minute that a run goes on, and at its end that it has ended.

Prefect's own heartbeats (PREFECT_FLOWS_HEARTBEAT_FREQUENCY, 3.8.8) begin at once, and its server tells of ends itself.
But to its automations the end of a run that the schedule made is unknown for a quarter of an hour: they wait for the
event before it, which there is none of. So each short run would be taken for one whose process is gone.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Final

from prefect.events import emit_event
from prefect.runtime import flow_run

HEARTBEAT: Final = "audiophile.run.heartbeat"
ENDED: Final = "audiophile.run.ended"
FIRST_AFTER_S = 10.0
"""A run that has nothing to do has ended by then."""
EVERY_S = 30.0


@contextmanager
def heartbeat() -> Iterator[None]:
    """Tell that the run under way goes on, as long as the context lasts."""
    ended = threading.Event()
    context = copy_context()  # of the run: its tags are in it
    threading.Thread(target=context.run, args=[_beat, ended], name="heartbeat", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _beat(ended: threading.Event) -> None:
    resource = {"prefect.resource.id": f"prefect.flow-run.{flow_run.get_id()}"}
    if ended.wait(FIRST_AFTER_S):
        return
    emit_event(HEARTBEAT, resource=resource)
    while not ended.wait(EVERY_S):
        emit_event(HEARTBEAT, resource=resource)
    emit_event(ENDED, resource=resource)
