"""Three writers and two readers over a lake on this machine's disk, killed at random and inside every step."""

from pathlib import Path

from storage.place import Place
from storage.steps import COMMIT_STEPS
from tests.chaos.crowd import Plan, gather, judged
from tests.chaos.result import Result

NTH = {"bytes written": 8, "bytes synced": 8, "bytes placed": 8}
"""Within how many occurrences a step kills: those of every file come more often than those of a commit."""


def run(seed: int, folder: Path, *, quick: bool) -> Result:
    plan = Plan(
        dict.fromkeys(COMMIT_STEPS, 1 if quick else 22), 10 if quick else 100, 120 if quick else 900, max_life_s=8
    )
    place = Place.of(folder / "lake")
    crowd = gather(place, folder / "journals", plan, seed, NTH)
    crowd.run()
    return judged(Result("local", seed), place, crowd)
