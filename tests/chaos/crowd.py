"""A crowd of processes over one lake, killed at random and at chosen steps, and started again."""

import multiprocessing
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from storage.place import Place
from tests.chaos.journal import Journal, lines
from tests.chaos.reader import Reading, read
from tests.chaos.result import Result
from tests.chaos.truth import Acknowledged, Bytes, check, compare, read_all, verified
from tests.chaos.writer import Death, Work, Writer, write

PRELOADED = ["tests.chaos.writer", "tests.chaos.reader", "tests.chaos.maintainer", "storage.s3"]
TICK_S = 0.02
MAX_PROBLEMS = 10

OTHERWISE = "anywhere"


def processes() -> Any:
    """Return what starts processes quickly: each is forked from one that has imported all, and opened nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def started(target: Callable[[Any], None], work: object) -> Any:
    """Start a process, which ends with this one however that ends."""
    process = processes().Process(target=_with_parent, args=(target, work), daemon=True)
    process.start()
    return process


def _with_parent(target: Callable[[Any], None], work: object) -> None:
    def end() -> None:
        wait([multiprocessing.parent_process().sentinel])
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()
    target(work)


@dataclass(frozen=True)
class Plan:
    """How often who is killed.

    Attributes:
        at_steps: Kills inside each step, by the step.
        anywhere: Kills at random moments, of writers and readers.
        limit_s: When to give up.
        at_least_s: How long to go on in any case.
        max_life_s: After which a process is killed that has no step to be killed at.
    """

    at_steps: dict[str, int]
    anywhere: int
    limit_s: float
    at_least_s: float = 0.0
    max_life_s: float = 6.0
    writers: int = 3
    readers: int = 2


@dataclass
class Member:
    """One process of the crowd, through its lives."""

    journal: Path
    start: Callable[[int, Death | None], Any]
    steps: frozenset[str] = frozenset()  # at which it may be killed
    patience_s: float = 30.0  # with one that does not reach its step
    restless: float = 0.4  # in how many of its lives it is killed anywhere, although steps are left
    lives: int = 0
    process: Any = None
    death: Death | None = None
    born_at: float = 0.0
    doomed_at: float = 0.0  # when it is killed from outside


@dataclass
class Crowd:
    """The members, and what has become of them."""

    plan: Plan
    luck: random.Random
    nth: dict[str, int]  # how often a step is reached before the kill, at most
    members: list[Member] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Kill and restart until the plan is fulfilled, then kill all."""
        started = time.monotonic()
        try:
            while self._goes_on(time.monotonic() - started):
                for member in self.members:
                    self.attend(member)
                time.sleep(TICK_S)
        finally:
            for member in self.members:
                if member.process is not None:
                    member.process.kill()
                    member.process.join()
                    self.bury(member)
        if missed := self.wanted():
            self.problems.append(f"in {self.plan.limit_s} s these kills did not come about: {missed}")

    def _goes_on(self, seconds: float) -> bool:
        wanted = self.wanted() or seconds < self.plan.at_least_s
        return bool(wanted) and seconds < self.plan.limit_s and len(self.problems) < MAX_PROBLEMS

    def wanted(self) -> Counter[str]:
        """Return the kills that are still to come."""
        return Counter(self.plan.at_steps | {OTHERWISE: self.plan.anywhere}) - self.kills

    def attend(self, member: Member) -> None:
        """Start, kill or bury one member, as its time has come."""
        if member.process is None:
            steps = [step for step in self.wanted() if step in member.steps]
            member.death = self._death(steps, member.restless)
            member.lives += 1
            member.process = member.start(self.luck.getrandbits(32), member.death)
            member.born_at = time.monotonic()
            member.doomed_at = member.born_at + (
                member.patience_s if member.death else 0.05 + self.plan.max_life_s * self.luck.random() ** 2
            )
        elif not member.process.is_alive():
            self.bury(member)
        elif time.monotonic() > member.doomed_at:
            member.process.kill()
            member.process.join()
            self.kills[OTHERWISE] += not self._died_at(member)
            self.bury(member)

    def bury(self, member: Member) -> None:
        """Note how a member died."""
        if step := self._died_at(member):
            self.kills[step] += 1
        elif member.process.exitcode != -9:
            self.problems.append(f"{member.journal.name} ended by itself, with {member.process.exitcode}")
        member.process.close()
        member.process = None

    def _death(self, steps: Sequence[str], restless: float) -> Death | None:
        if not steps or (self.wanted()[OTHERWISE] and self.luck.random() < restless):
            return None
        step = self.luck.choice(steps)
        return Death(step, self.luck.randint(1, self.nth.get(step, 3)))

    def _died_at(self, member: Member) -> str | None:
        if member.death is None:
            return None
        last = None
        for line in lines(member.journal):
            last = line
        return last["step"] if last and last["kind"] == "died" else None


def gather(place: Place, folder: Path, plan: Plan, seed: int, nth: dict[str, int], **work: Any) -> Crowd:
    """Return a crowd of writers and readers over the lake at `place`, whose journals lie in `folder`."""
    crowd = Crowd(plan, random.Random(seed), nth)
    for number in range(plan.writers):
        journal = folder / f"writer-{number}"
        crowd.members.append(
            Member(
                journal,
                lambda luck, death, journal=journal: started(
                    write, Work(place, journal, journal.name, luck, death, **work)
                ),
                frozenset(plan.at_steps),
            )
        )
    for number in range(plan.readers):
        journal = folder / f"reader-{number}"
        crowd.members.append(
            Member(journal, lambda luck, _, journal=journal: started(read, Reading(place, journal, luck)))
        )
    return crowd


def judged(result: Result, place: Place, crowd: Crowd, *, faults: bool = False) -> Result:
    """Let a last writer finish the work, and hold the lake to the journals.

    Args:
        result: To fill.
        place: Where the lake lies.
        crowd: Which has ended.
        faults: The store was made to fail, so writers may have been refused.
    """
    journals = [member.journal for member in crowd.members]
    last = journals[0].with_name("settler")
    collect(result, journals, faults=faults)
    result.kills += crowd.kills
    result.problems += crowd.problems
    before = Acknowledged.by(journals)
    result.findings.add(check(read_all(place), before))
    settle(result, place, last)
    told = Acknowledged.by([*journals, last])
    result.acknowledged = told.count
    files = hold(result, place, told)
    result.figures |= {
        "commits": sum(path.startswith("log/") for path in files),
        "recordings": sum(path.startswith("media/") for path in files),
        "uploads": len(told.uploads),
        "answers_acknowledged": len(told.answers),
        "lives": sum(member.lives for member in crowd.members),
    }
    return result


def hold(result: Result, place: Place, told: Acknowledged) -> Bytes:
    """Look at a lake in every way there is; return it."""
    files = read_all(place)
    for findings in (check(files, told), compare(place, files), verified(place)):
        result.findings.add(findings)
    return files


def settle(result: Result, place: Place, journal: Path) -> None:
    """Show that the lake goes on: a new writer does all that is left."""
    writer = Writer(Work(place, journal, "settler", 0), Journal(journal))
    if not writer.settle():
        result.problems.append("a new writer could not finish the work in 60 s")
    for line in lines(journal):
        if line["kind"] == "lost":
            result.findings.lost.append(line["what"])


def collect(result: Result, journals: Sequence[Path], *, faults: bool = False) -> None:
    """Take over what processes have written of what they tried and saw."""
    refused: Counter[str] = Counter()
    reads = 0
    for journal in journals:
        for line in lines(journal):
            kind = line["kind"]
            result.tried += kind == "begin"
            reads += kind == "read"
            if kind == "lost":
                result.findings.lost.append(f"{journal.name}: {line['what']}")
            elif kind == "half-visible":
                result.findings.half_visible.append(f"{journal.name}: {line['what']}")
            elif kind == "crashed":
                result.problems.append(f"{journal.name}: {line['error'][-600:]}")
            elif kind == "refused":
                refused[f"{line['what']}: {line['error'].split(':')[0]}"] += 1
                if not faults:
                    result.problems.append(f"{journal.name}: {line['what']}: {line['error']}")
    result.figures |= {"reads": reads, "refused": dict(refused)}
