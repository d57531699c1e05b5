"""Maintenance killed inside each of its steps, while writers and readers go on; afterwards it completes."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from storage import rewrite
from storage.errors import StorageError
from storage.lake import Lake
from storage.place import Place
from storage.steps import MAINTENANCE_STEPS
from tests.chaos.crowd import Member, Plan, gather, hold, judged, started
from tests.chaos.maintainer import MUCH_LATER, SMALL_FILES, maintain, stages
from tests.chaos.result import Result
from tests.chaos.truth import Acknowledged, read_all, traces
from tests.chaos.writer import Death, Work

NTH = dict.fromkeys(MAINTENANCE_STEPS, 1) | {"file removed": 4, "rewritten": 3}
"""Within how many occurrences in one life a step kills."""

PAUSE_S = 0.3
"""Between two pieces of a writer's work, so that maintenance, which is killed again and again, can keep up."""


def run(seed: int, folder: Path, *, quick: bool) -> Result:
    at_steps = dict.fromkeys(MAINTENANCE_STEPS, 1 if quick else 5)
    plan = Plan(
        at_steps,
        8 if quick else 60,
        180 if quick else 1200,
        max_life_s=20,
        writers=2 if quick else 3,
        readers=1 if quick else 2,
    )
    place = Place.of(folder / "lake")
    crowd = gather(place, folder / "journals", plan, seed, NTH, new_versions=True, pause_s=PAUSE_S)
    for member in crowd.members:
        member.steps = frozenset()
    journal = folder / "journals" / "maintainer"

    def start(luck: int, death: Death | None) -> Any:
        return started(maintain, Work(place, journal, "maintainer", luck, death))

    crowd.members.append(Member(journal, start, frozenset(at_steps), patience_s=90, restless=0.15))
    crowd.run()
    result = judged(Result("maintenance", seed), place, crowd, faults=True)
    complete(result, place, [member.journal for member in crowd.members])
    return result


def complete(result: Result, place: Place, journals: list[Path]) -> None:
    """Run maintenance to its end, with nobody else there, and look at the lake once more."""
    lake = Lake.open(place)
    rewrite.MIN_SMALL_FILES = SMALL_FILES
    try:
        with lake.index() as index:
            for days in (1, 2, 3):
                stages(lake, index, now=datetime.now(UTC) + days * MUCH_LATER, fold_after=1)
            index.catch_up()
            unpurged = index.query("SELECT * FROM tombstones WHERE NOT purged")
            erased = len(index.erased())
    except StorageError as error:
        result.problems.append(f"maintenance could not be completed: {type(error).__name__}: {error}")
        return
    if unpurged:
        result.problems.append(f"{len(unpurged)} erased recordings were not purged")
    files = read_all(place)
    result.problems += [f"{path} still has something of an erased recording" for path in traces(files)]
    result.problems += [f"{path} was not removed" for path in files if path.startswith("trash/")]
    result.figures |= {"erased": erased, "expired": sum(b'"op": "expire"' in one for one in files.values())}
    hold(result, place, Acknowledged.by([*journals, journals[0].with_name("settler")]))
