"""Runs shards on a pool of processes within a time budget, and finds the recording that kills its process.

It must not know what a shard is made of, nor which pool it runs on.
"""

import logging
import multiprocessing
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from typing import Any, Final, Protocol

from flows.ending import Ending, told_to_end
from flows.shards import Scored, Shard

log = logging.getLogger(__name__)

ALONE: Final = 1 / 3
"""Of the budget: what may have killed a process runs for so long before what waits."""
MOST_SHOWN: Final = 100
"""Shards of a pool that are shown as tasks: Prefect's server and UI are slow with more, and the others go as these."""
_TOLD: Final = -1  # in place of the number of a shard


class ShardFuture(Protocol):
    """A shard under way."""

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        """Call `fn` with this future once the shard is done."""

    def result(self) -> Scored:
        """Return what the shard came to, or raise what it raised."""


Submit = Callable[[Shard], ShardFuture]
Pool = Callable[[], AbstractContextManager[Submit]]
"""Makes a pool of processes, which ends with the context."""


def kill_children() -> None:
    """End the processes that this one has started."""
    for process in multiprocessing.active_children():
        process.kill()


@dataclass(slots=True)
class Outcome:
    """What became of the shards; those that the budget left out are in none of the lists."""

    scored: list[Scored] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)  # models that could not be loaded, and why
    killers: list[Shard] = field(default_factory=list)  # one recording and model a shard, whose process died
    error: Exception | None = None  # the first that is not a recording's fault
    is_ended: bool = False  # the run was told to end, and others do the rest

    @property
    def recordings(self) -> int:
        """How many recordings were scored."""
        return sum(part.recordings for part in self.scored)

    @property
    def scoring_s(self) -> float:
        """Seconds that processes have decoded and asked models, together."""
        return sum(part.scoring_s for part in self.scored)

    @property
    def loading_s(self) -> float:
        """Seconds that processes have loaded models, together."""
        return sum(part.loading_s for part in self.scored)

    @property
    def loaded(self) -> frozenset[str]:
        """Names of the models that some process has loaded."""
        return frozenset(name for part in self.scored for name in part.loaded)


def run_shards(
    shards: Iterable[Shard],
    suspects: Iterable[Shard],
    *,
    pool: Pool,
    workers: int,
    budget_s: float,
    on_scored: Callable[[Scored], object],
    worth: Callable[[Shard], bool] = lambda _: True,
    give_up: Callable[[], None] = kill_children,
) -> Outcome:
    """Run shards, and after them the suspects one at a time, until all are done or the budget is spent.

    A process that dies breaks its pool, and tells not which shard killed it: those that were under way run alone in a
    new pool, one recording each, and one that kills again model by model. They run before what waits, for a part of the
    budget: else one that never reaches them would have the next run begin with the same shards, and break on them,
    again and again.

    On SIGTERM no more is started and what is under way is given up, so that what is done can be published at once.

    Args:
        shards: Work, in the order of its importance.
        suspects: Shards of recordings that failed before.
        pool: Makes the processes.
        workers: How many shards run at a time.
        budget_s: No shard starts later than this; one at least is always run.
        on_scored: Called for each shard that is done. Where it says True, others do the rest, as after SIGTERM.
        worth: Asked before a shard starts; one of which nothing can come any more is passed over.
        give_up: Ends what is under way on the pool, as if its processes had died.
    """
    outcome = Outcome()
    lonely, waiting, last = queues = deque[Shard](), deque(shards), deque(suspects)
    shown = _Shown(on_scored, worth, give_up, lambda: any(queues))
    give_up_at, alone_s = time.monotonic() + budget_s, ALONE * budget_s
    first = True
    with told_to_end() as ending:
        while outcome.error is None and any(queues) and (first or time.monotonic() < give_up_at):
            first = False
            began = time.monotonic()
            goes_before = bool(lonely and waiting and alone_s > 0)
            queue = lonely if goes_before else waiting or lonely or last
            alone = queue is not waiting
            at_a_time, until = 1 if alone else workers, min(give_up_at, began + alone_s) if goes_before else give_up_at
            with pool() as submit:
                broken = _drain(queue, at_a_time, submit, until, outcome, shown, ending)
            alone_s -= (time.monotonic() - began) * goes_before
            if ending.is_wanted:
                outcome.is_ended = True
                log.warning("told to end: %d shards are left to the next run", sum(map(len, queues)) + len(broken))
                break
            for shard in broken:
                parts = shard.parts()
                if alone and not parts:
                    log.warning("recording %s ended the process that scored it", shard.jobs[0].file_id)
                    outcome.killers.append(shard)
                else:
                    lonely.extend(parts or [shard])
    return outcome


@dataclass(frozen=True, slots=True)
class _Shown:
    """Who is told of the work, and asked about it, and how it is given up."""

    on_scored: Callable[[Scored], object]
    worth: Callable[[Shard], bool]
    give_up: Callable[[], None]
    is_left: Callable[[], bool]  # whether anything waits


def _drain(
    queue: deque[Shard],
    at_a_time: int,
    submit: Submit,
    give_up_at: float,
    outcome: Outcome,
    shown: "_Shown",
    ending: Ending,
) -> list[Shard]:
    """Run what is in `queue`; return the shards that were under way when a process died."""
    running: dict[int, tuple[Shard, ShardFuture]] = {}
    done: SimpleQueue[int] = SimpleQueue()
    broken: list[Shard] = []
    is_broken, number = False, 0
    ending.wake = partial(done.put, _TOLD)
    while True:
        while (
            queue
            and not ending.is_wanted
            and len(running) < at_a_time
            and not is_broken
            and outcome.error is None
            and (number == 0 or time.monotonic() < give_up_at)
        ):
            shard = queue.popleft()
            if not shown.worth(shard):
                continue
            try:
                future = submit(shard)
            except BrokenProcessPool:  # a process has died just now, and nobody has told yet
                queue.appendleft(shard)
                is_broken = True
                break
            running[number] = (shard, future)
            future.add_done_callback(partial(_note, done, number))
            number += 1
        if not running:
            return broken
        ended = done.get()
        if ended == _TOLD:
            shown.give_up()
            continue
        shard, future = running.pop(ended)
        try:
            scored = future.result()
        except BrokenProcessPool:
            is_broken = True
            broken.append(shard)
        except Exception as error:
            outcome.error = outcome.error or error
        else:
            outcome.scored.append(scored)
            if shown.on_scored(scored) is True and (running or shown.is_left()):
                ending.want()


def _note(done: "SimpleQueue[int]", number: int, _: Any) -> None:
    done.put(number)
