"""What a verification found. It must not know how it was found."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

Progress = Callable[[str, int, int], None]
"""Is told what is looked at, how much of it is done, and how much there is."""

SHOWN: Final = 10  # problems of one kind with one thing; the rest is counted


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it must be."""

    kind: str  # log | parquet | rows | index | snapshot | media | inbox | erasure
    subject: str  # a path, or what else it is about
    wrong: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.subject}: {self.wrong}. {self.remedy}"


@dataclass(frozen=True, slots=True)
class Report:
    """What was looked at, and what was wrong.

    Attributes:
        head: The last log entry that was looked at.
        looked_at: How many of what.
        problems: In the order in which they were found.
        skipped: What could not be looked at, or was not asked for.
    """

    head: int
    looked_at: Mapping[str, int]
    problems: tuple[Problem, ...]
    skipped: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Say that nothing was wrong."""
        return not self.problems

    def __str__(self) -> str:
        width = max(map(len, self.looked_at), default=0)
        lines = [f"{name:<{width}}  {count:>12,}" for name, count in self.looked_at.items()]
        lines += [f"not looked at: {what}" for what in self.skipped]
        lines += [f"\n{problem}" for problem in self.problems]
        verdict = "everything is there and right" if self.ok else f"{len(self.problems)} problems"
        return "\n".join([*lines, "", f"up to log entry {self.head}: {verdict}"])


@dataclass(slots=True)
class Findings:
    """A report in the making."""

    progress: Progress | None = None
    looked_at: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def add(self, kind: str, subject: str, wrong: str, remedy: str) -> None:
        """Note a problem."""
        self.problems.append(Problem(kind, subject, wrong, remedy))

    def add_some(self, kind: str, subject: str, wrong: list[str], remedy: str) -> None:
        """Note the first of what may be many problems, and how many more there are."""
        for one in wrong[:SHOWN]:
            self.add(kind, subject, one, remedy)
        if len(wrong) > SHOWN:
            self.add(kind, subject, f"and {len(wrong) - SHOWN} more like it", remedy)

    def at(self, what: str, done: int, total: int) -> None:
        """Say how far it is."""
        if self.progress is not None:
            self.progress(what, done, total)

    def report(self, head: int) -> Report:
        """Return what was found."""
        return Report(head, dict(self.looked_at), tuple(self.problems), tuple(self.skipped))
