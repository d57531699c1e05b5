"""Writers and readers whose way to a real S3 server drops, delays, answers 500 after the fact, and truncates."""

import dataclasses
from pathlib import Path

from storage.place import Place
from tests.chaos.crowd import Plan, gather, judged
from tests.chaos.faulty import FAULTS, Proxy, running
from tests.chaos.result import Result
from tests.s3 import s3_server

RATE = 0.12


def run(seed: int, folder: Path, *, quick: bool) -> Result:
    plan = Plan({}, 2 if quick else 20, 120 if quick else 600, at_least_s=15 if quick else 150, max_life_s=60)
    result = Result("proxy", seed)
    with s3_server(folder / "server") as server:
        direct = Place(server.lake_url(), folder / "auditor", server.access)
        proxy = Proxy(server.endpoint, seed, RATE)
        with running(proxy) as address:
            access = dataclasses.replace(server.access, endpoint_url=address)
            crowd = gather(Place(direct.url, folder / "host", access), folder / "journals", plan, seed, {})
            crowd.run()
        result = judged(result, direct, crowd, faults=True)
    result.figures |= {"requests": proxy.requests, "faults": dict(proxy.faults)}
    result.problems += [f"no request was ever {fault}" for fault in FAULTS if not proxy.faults[fault]]
    return result
