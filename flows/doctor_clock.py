"""Looks at this host's clock: beside another host's, and beside what was written last."""

from datetime import UTC, datetime
from typing import Final

import httpx

from flows.asking import server_time
from flows.diagnosis import Finding, fail, ok, warn
from storage.log import LogEntry

SKEW_S: Final = 5.0  # what a busy host and full seconds explain
TOO_MUCH_SKEW_S: Final = 60.0


def look_at_clock(server: httpx.Client, address: str) -> Finding:
    """Compare this host's clock with a server's."""
    before = datetime.now(UTC)
    try:
        answer = server.get("/health")
    except httpx.HTTPError as error:
        return warn("clock", f"{address} was not asked for the time ({error or type(error).__name__})")
    after, theirs = datetime.now(UTC), server_time(answer)
    if theirs is None:
        return warn("clock", f"{address} does not say what time it is")
    # It is some time of the second that it names, and of the time that the answer took.
    ahead, behind = (theirs - after).total_seconds(), (before - theirs).total_seconds() - 1
    skew = max(ahead, behind, 0.0)
    if skew <= SKEW_S:
        return ok("clock", f"within {SKEW_S:g} s of that of {address}")
    return _wrong(
        skew,
        f"{skew:.0f} s {'behind' if ahead > 0 else 'ahead of'} that of {address}: schedules, pauses and signatures go "
        "by it. Let NTP set the clocks of both hosts: timedatectl set-ntp true",
    )


def look_at_time_of(newest: LogEntry) -> Finding:
    """Say whether this host's clock is before what was written last, by whichever host."""
    behind_s = (newest.committed_at - datetime.now(UTC)).total_seconds()
    if behind_s <= SKEW_S:
        return ok("clock", "not before the newest log entry")
    return _wrong(
        behind_s,
        f"{behind_s:.0f} s before log entry {newest.seq}, which was written already: schedules and what expires go by "
        "it. Let NTP set this host's clock, and that of whichever wrote the entry: timedatectl set-ntp true",
    )


def _wrong(skew_s: float, text: str) -> Finding:
    return fail("clock", text) if skew_s > TOO_MUCH_SKEW_S else warn("clock", text)
