"""Runs, the service and Prefect's server are killed, stopped and away: nothing is lost or done twice, and work goes on.

Real processes, the real schedule of two minutes, real recordings with the models of the group, and one process that
scores. The cases that mostly wait run beside the others, over a lake and a server of their own.
"""

import math
import os
import signal
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.states import Pending

from tests.chaos.orchestra import Orchestra, now, playing
from tests.chaos.repeated import scored_again
from tests.chaos.result import Result
from tests.system.service import Service, ask_for_run

RECORDINGS = 16  # four shards
AWAY_S = 600.0
ASLEEP_S = 290.0  # more than two intervals
HANDOVER_S = 30.0
LONG_S = 120.0
HUNG_S = 240.0


def run(seed: int, folder: Path, *, quick: bool) -> Result:
    result = Result("orchestration", seed)
    result.figures["cases"] = {}
    struck = [KILLS[0], told_to_end] if quick else [*KILLS[:3], told_to_end, pending, *KILLS[3:]]

    def one_by_one() -> None:
        _lane(result, folder / "struck", seed, struck)
        _caught(result, lambda: ctrl_c(result, folder / "up"))
        if not quick:
            _lane(result, folder / "long", seed + 2, [long_refresh], REFRESH_BUDGET_S=str(5 * LONG_S))

    lanes = [one_by_one]
    if not quick:
        lanes.append(lambda: _lane(result, folder / "waiting", seed + 1, [asleep, server_hung, server_away]))
    threads = [threading.Thread(target=lane) for lane in lanes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return result


Case = Callable[[Orchestra], dict[str, Any]]


def _lane(result: Result, folder: Path, seed: int, cases: list[Case], **settings: str) -> None:
    def play() -> None:
        with playing(folder, seed, **settings) as orchestra:
            for case in cases:
                _caught(result, lambda case=case: _hold(result, orchestra, case))  # type: ignore[misc]

    _caught(result, play)


def _caught(result: Result, work: Callable[[], None]) -> None:
    try:
        work()
    except Exception:
        result.problems.append(traceback.format_exc()[-1500:])


def _hold(result: Result, orchestra: Orchestra, case: Case) -> None:
    """Play one case, and hold the lake to what was acknowledged and committed before it and in it."""
    name = case.__name__
    before, again_before, started = _pairs(orchestra), scored_again(orchestra.lake), time.monotonic()
    figures = case(orchestra)
    kills = figures.pop("kills", 1)
    unanswered = orchestra.settle()
    after = _pairs(orchestra)
    lost = [*unanswered, *(before.keys() - after.keys())]
    twice = [pair for pair, times in after.items() if times > 1]
    shards = scored_again(orchestra.lake) - again_before + figures.pop("under_way", 0)
    figures |= {"lost": len(lost), "committed_twice": len(twice), "shards_repeated": shards}
    figures |= {"uploads": len(orchestra.sent), "seconds": round(time.monotonic() - started, 1)}
    result.figures["cases"][name] = figures
    result.acknowledged += len(orchestra.sent) + len(orchestra.entries())
    result.kills[name] += 1
    result.findings.lost += [f"{name}: {one}" for one in lost]
    result.findings.duplicated += [f"{name}: {pair}" for pair in twice]
    result.findings.damaged += [f"{name}: {problem}" for problem in orchestra.problems()]
    if shards > kills:  # one process scores
        result.problems.append(f"{name}: {shards} shards were scored again, by {kills} strikes")
    print(name, figures, flush=True)


def _pairs(orchestra: Orchestra) -> Counter[tuple[str, ...]]:
    return Counter(
        {(str(row["file_id"]), row["model"], row["model_version"]): row["times"] for row in orchestra.answers()}
    )


def _in_hand(orchestra: Orchestra) -> dict[str, Any]:
    """Send recordings, and return the run of infer once it has scored some of them."""
    orchestra.settle()
    sent = orchestra.send(RECORDINGS)
    orchestra.wait("all taken in", lambda: all(orchestra.file(one)["status"] == "accepted" for one in sent))
    ask_for_run(orchestra.prefect, "infer")
    return orchestra.scoring(orchestra.luck.randint(1, 2))


def run_killed(orchestra: Orchestra) -> dict[str, Any]:
    """Kill a run of infer while it scores."""
    _in_hand(orchestra)
    scored, since = orchestra.notes(), now()
    os.kill(orchestra.run_process().pid, signal.SIGKILL)
    return {"scored_before": scored, "under_way": 1, "resumed_after_s": orchestra.resumed(since)}


def run_killed_again(orchestra: Orchestra) -> dict[str, Any]:
    """Likewise, and the run that follows it as well."""
    figures = [run_killed(orchestra), run_killed(orchestra)]
    sums = {name: sum(each[name] for each in figures) for name in ("scored_before", "under_way")}
    return sums | {"resumed_after_s": max(each["resumed_after_s"] for each in figures), "kills": len(figures)}


def killed_early(orchestra: Orchestra) -> dict[str, Any]:
    """Kill a run of ingest and one of infer soon after the schedule has begun them, whatever they are at."""
    orchestra.settle()
    orchestra.send(RECORDINGS)
    for flow in ("ingest", "infer"):
        orchestra.kill_early(flow)
    return {"under_way": 1, "resumed_after_s": orchestra.resumed(now())}  # at most: it may have scored nothing yet


def serve_killed(orchestra: Orchestra) -> dict[str, Any]:
    """Kill flows.serve alone, and start it again, as a restart policy does: the run in hand outlives it."""
    _in_hand(orchestra)
    since = now()
    orchestra.strike("serve")
    orchestra.start("serve")
    return {"resumed_after_s": orchestra.resumed(since)}


def serve_and_runs_killed(orchestra: Orchestra) -> dict[str, Any]:
    """Kill flows.serve and all that it has started, as the end of a container does."""
    _in_hand(orchestra)
    since = now()
    orchestra.strike("serve", group=True)
    orchestra.start("serve")
    return {"under_way": 1, "resumed_after_s": orchestra.resumed(since)}


def server_killed(orchestra: Orchestra) -> dict[str, Any]:
    """Kill Prefect's server and start it again: the run in hand and flows.serve go on."""
    run = _in_hand(orchestra)
    since, serve = now(), orchestra.processes["serve"]
    orchestra.strike("prefect", group=True)
    time.sleep(2)
    orchestra.start("prefect")
    figures = {"resumed_after_s": orchestra.resumed(since)}
    (state,) = {one["state"]["type"] for one in orchestra.runs("infer") if one["id"] == run["id"]}
    return figures | {"run_in_hand": state, "serve_lived": serve.poll() is None}


KILLS: list[Case] = [run_killed, serve_and_runs_killed, server_killed, serve_killed, killed_early, run_killed_again]


def pending(orchestra: Orchestra) -> dict[str, Any]:
    """Leave a run in PENDING that nobody starts: it has the only slot of infer."""
    orchestra.settle()
    orchestra.strike("serve", signal.SIGSTOP)  # else it would start the run
    with SyncPrefectClient(orchestra.environment["PREFECT_API_URL"]) as client:
        deployment = client.read_deployment_by_name("infer/infer")
        stuck = client.create_flow_run_from_deployment(deployment.id)
        client.set_flow_run_state(stuck.id, Pending())
        since = now()
        orchestra.strike("serve", signal.SIGCONT)
        orchestra.send(4)
        cleared = lambda: client.read_flow_run(stuck.id).state_type.value == "CRASHED"  # noqa: E731
        orchestra.wait("cleared run", cleared, 400)
    cleared_after_s = round((now() - since).total_seconds(), 1)
    return {"cleared_after_s": cleared_after_s, "resumed_after_s": orchestra.resumed(since)}


def told_to_end(orchestra: Orchestra) -> dict[str, Any]:
    """Send SIGTERM to flows.serve with a run in hand: what was scored is published within half a minute."""
    _in_hand(orchestra)
    scored, references, since = orchestra.notes(), len(orchestra.entries("refresh")), now()
    orchestra.strike("serve", signal.SIGTERM)
    orchestra.processes["serve"].wait(60)
    ended_after_s = round((now() - since).total_seconds(), 1)
    published = len(orchestra.entries("refresh")) - references
    if ended_after_s > HANDOVER_S or published != 1 or orchestra.notes():
        raise AssertionError(f"ended after {ended_after_s} s, {published} references, {orchestra.notes()} notes left")
    orchestra.start("serve")
    figures = {"scored_before": scored, "ended_after_s": ended_after_s, "under_way": 1}
    return figures | {"resumed_after_s": orchestra.resumed(since)}


def asleep(orchestra: Orchestra) -> dict[str, Any]:
    """Stop everything for more than two intervals, with a run in hand: of the ticks that were missed one runs."""
    _in_hand(orchestra)
    trees = [each for name in ("serve", "api", "prefect") for each in orchestra.tree(name)]
    for each in trees:
        each.suspend()
    time.sleep(ASLEEP_S)
    woke = now()
    for each in reversed(trees):
        each.resume()
    figures: dict[str, Any] = {"resumed_after_s": orchestra.resumed(woke)}
    orchestra.settle()
    late = {
        flow: [
            run for run in orchestra.runs(flow) if run["auto_scheduled"] and _due(run) < woke and _is_later(run, woke)
        ]
        for flow in ("ingest", "infer")
    }
    for flow, runs in late.items():
        figures[f"late_{flow}"] = len(runs)
        figures[f"late_{flow}_executed"] = executed = sum(run["state_type"] != "CANCELLED" for run in runs)
        if executed > 1:
            raise AssertionError(f"{executed} late runs of {flow} were executed after waking")
    return figures


def _due(run: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(run["expected_start_time"])


def _is_later(run: dict[str, Any], since: datetime) -> bool:
    """Say whether a run ended, or began, later, or has not begun."""
    told = run["start_time"] or run["end_time"]
    return told is None or datetime.fromisoformat(told) > since


def long_refresh(orchestra: Orchestra) -> dict[str, Any]:
    """Have a refresh take longer than the interval: ticks meanwhile do nothing, and later ones go on."""
    orchestra.send(4)
    orchestra.settle()
    since, each_s = now(), orchestra.seconds_a_recording()  # with the loading of models, so too long
    orchestra.send(math.ceil(3 * LONG_S / each_s))
    orchestra.settle()
    runs = orchestra.runs("infer", "COMPLETED", since=since)
    longest = max(runs, key=lambda run: run["total_run_time"])
    ended = datetime.fromisoformat(longest["end_time"])
    if longest["total_run_time"] <= LONG_S:
        raise AssertionError(f"the longest refresh took {longest['total_run_time']:.0f} s: send more recordings")
    overlapping = [
        run for run in orchestra.runs("infer") if datetime.fromisoformat(longest["start_time"]) < _due(run) < ended
    ]
    ticks = Counter(run["state"]["type"] for run in overlapping)
    return {
        "refresh_s": round(longest["total_run_time"]),
        "ticks": dict(ticks),
        "resumed_after_s": orchestra.resumed(ended),
    }


def server_away(orchestra: Orchestra) -> dict[str, Any]:
    """Have no Prefect server for ten minutes, with a run in hand and uploads meanwhile."""
    _in_hand(orchestra)
    since, references = now(), len(orchestra.entries("refresh"))
    orchestra.strike("prefect", group=True)
    orchestra.wait("reference of the run in hand", lambda: len(orchestra.entries("refresh")) > references)
    published_after_s = round((now() - since).total_seconds(), 1)
    sent = 0
    while (now() - since).total_seconds() < AWAY_S:
        sent += len(orchestra.send(1))
        time.sleep(30)
    back = now()
    orchestra.start("prefect")
    figures = {"away_s": round((back - since).total_seconds()), "sent_meanwhile": sent}
    figures |= {"published_after_s": published_after_s, "serve_lived": orchestra.processes["serve"].poll() is None}
    figures["resumed_after_s"] = orchestra.resumed(back)
    orchestra.wait("health of what serves", orchestra.is_well, 120)
    return figures


def server_hung(orchestra: Orchestra) -> dict[str, Any]:
    """Stop Prefect's server, which then takes requests and answers none, with a run in hand."""
    _in_hand(orchestra)
    since, references = now(), len(orchestra.entries("refresh"))
    tree = orchestra.tree("prefect")
    for each in tree:
        each.suspend()
    try:
        orchestra.wait("reference of the run in hand", lambda: len(orchestra.entries("refresh")) > references, HUNG_S)
        figures = {"published_after_s": round((now() - since).total_seconds(), 1)}
    finally:
        for each in tree:
            each.resume()
    return figures | {"resumed_after_s": orchestra.resumed(now())}


def ctrl_c(result: Result, folder: Path) -> None:
    """Press Ctrl-C at `make up` with a run in hand: what was scored is published before everything ends."""
    folder.mkdir(parents=True)
    source = Orchestra(folder / "source", result.seed)
    source.folder.mkdir(exist_ok=True)
    service = Service(folder, AUDIOPHILE_DEMO="0", AUDIOPHILE_WORKERS="1", PHRASES="goodbye,messages")
    source.lake, source.data = source.lake.open(service.data), service.data
    service.start()
    try:
        source.api = service.api
        source.send(RECORDINGS)
        service.wait("two shards", 600, lambda: source.notes() >= 2)
        scored, since = source.notes(), time.monotonic()
    finally:
        left = service.stop()
    figures = {"scored_before": scored, "ended_after_s": round(time.monotonic() - since, 1), "left": len(left)}
    figures["references"] = len(source.entries("refresh"))
    result.figures["cases"]["ctrl_c"] = figures
    if left or figures["references"] != 1 or source.notes() or scored_again(source.lake):
        result.problems.append(f"ctrl_c: {figures}, {source.notes()} notes left")
