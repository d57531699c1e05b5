"""Tells Prefect's server every half minute that a run goes on, and at its end that it has ended.

Prefect's own heartbeats (PREFECT_FLOWS_HEARTBEAT_FREQUENCY, 3.8.8) begin at once, and its server tells of ends itself.
But to its automations the end of a run that the schedule made is unknown for a quarter of an hour: they wait for the
event before it, which there is none of. So each short run would be taken for one whose process is gone.
"""

import threading
from collections.abc import Callable
from contextvars import copy_context
from functools import wraps
from typing import Final, ParamSpec, TypeVar

from prefect.events import emit_event
from prefect.runtime import flow_run

P = ParamSpec("P")
T = TypeVar("T")

HEARTBEAT: Final = "audiophile.run.heartbeat"
ENDED: Final = "audiophile.run.ended"
HEARTBEAT_S = 30.0


def with_heartbeat(run: Callable[P, T]) -> Callable[P, T]:
    """Have a flow tell that it goes on, from its first half minute on."""

    @wraps(run)
    def beating(*args: P.args, **kwargs: P.kwargs) -> T:
        ended = threading.Event()
        context = copy_context()  # of the run: its tags are in it
        thread = threading.Thread(target=context.run, args=[_beat, ended], name="heartbeat", daemon=True)
        thread.start()
        try:
            return run(*args, **kwargs)
        finally:
            ended.set()

    return beating


def _beat(ended: threading.Event) -> None:
    resource = {"prefect.resource.id": f"prefect.flow-run.{flow_run.get_id()}"}
    has_begun = False
    while not ended.wait(HEARTBEAT_S):
        emit_event(HEARTBEAT, resource=resource)
        has_begun = True
    if has_begun:
        emit_event(ENDED, resource=resource)
