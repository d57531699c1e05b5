"""The same crowd over a lake in a bucket of a real S3 server, which lives on while its clients are killed."""

from pathlib import Path

from storage.lake import Lake
from storage.place import Place
from storage.probe import require_conditional_writes
from storage.steps import COMMIT_STEPS
from tests.chaos.crowd import Plan, gather, judged
from tests.chaos.local import NTH
from tests.chaos.result import Result
from tests.s3 import s3_server

STEPS = tuple(step for step in COMMIT_STEPS if step != "bytes synced")  # which only a disk has


def run(seed: int, folder: Path, *, quick: bool) -> Result:
    plan = Plan(dict.fromkeys(STEPS, 1 if quick else 21), 8 if quick else 60, 120 if quick else 900, max_life_s=12)
    with s3_server(folder / "server") as server:
        place = Place(server.lake_url(), folder / "host", server.access)
        require_conditional_writes(Lake.open(place).store)
        crowd = gather(place, folder / "journals", plan, seed, NTH)
        crowd.run()
        return judged(Result("s3", seed), place, crowd)
