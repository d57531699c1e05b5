"""Verifies a whole lake: `python -m storage.verify [--no-audio]`. It reads, and repairs nothing.

Writers may go on meanwhile: what maintenance removed while this looked is no problem where the log says so by then.
"""

import argparse
import contextlib
import sys
import tempfile
from pathlib import Path
from typing import Final

from storage.compare import differences
from storage.errors import MissingError, StorageError, StoreError
from storage.index import ALL_TABLES, PLANNING_TABLES, Index
from storage.lake import Lake
from storage.live import LiveFiles, look_for_erased_rows, state
from storage.manifest import newest_seq
from storage.objects import look_at_inbox, look_at_media, look_at_peaks, look_at_snapshots, look_for_erased_objects
from storage.place import Place
from storage.replay import Replay
from storage.report import Findings, Progress, Report
from storage.settings import get_settings
from storage.ticker import Ticker

MAX_ROWS_IN_MEMORY: Final = 20_000_000
"""Of all references. Above it, an index of the whole log is made without predictions and utterances."""

LOOKS: Final = 20  # at files that maintenance replaces faster than they are read

_ANEW: Final = "Remove the folder index of each host, which is made anew; if it comes back, report this as a bug"


def verify(lake: Lake, *, audio: bool = True, progress: Progress | None = None) -> Report:
    """Look at everything in a lake; problems are noted, and none ends it.

    Args:
        lake: Which.
        audio: Hash every recording, rather than look only that it is there in its size.
        progress: Is told how far it is.

    Raises:
        StoreError: The store cannot be read at all.
    """
    findings, replay, live = Findings(progress), Replay(), LiveFiles()
    replay.read_all(lake.store, findings)
    read_live_files(lake, replay, live, findings)
    head = replay.head
    if replay.is_whole and live.is_whole:
        _compare_indexes(lake, replay, live, findings)
    else:
        findings.skipped.append("what indexes show, because they are made of what is damaged")
    shown = state(live, replay, findings)
    look_for_erased_rows(live, replay, findings)
    look_at_snapshots(lake, replay, findings)
    look_at_media(lake, shown.files, replay, findings, audio=audio)
    if audio:
        look_at_peaks(lake, findings)
    look_at_inbox(lake, replay, findings, audio=audio)
    look_for_erased_objects(lake, replay, findings)
    if not audio:
        findings.skipped.append("whether recordings' bytes hash to their names")
    return findings.report(max(head, replay.head))


def read_live_files(lake: Lake, replay: Replay, live: LiveFiles, findings: Findings) -> None:
    """Read what is live; where something is gone, ask the log once more what has taken its place."""
    for _ in range(LOOKS):
        if live.read(lake.store, replay, findings):
            return
        before = replay.head
        replay.catch_up(lake.store, findings)
        if replay.head == before:
            break
    live.give_up_missing(replay, findings)


def _compare_indexes(lake: Lake, replay: Replay, live: LiveFiles, findings: Findings) -> None:
    everything = sum(findings.looked_at[f"rows of {name}"] for name in ("predictions", "utterances"))
    tables = ALL_TABLES
    if everything > MAX_ROWS_IN_MEMORY:
        tables = PLANNING_TABLES
        findings.skipped.append(f"predictions in an index of the whole log: there are {everything:,} rows")
    with Index(lake.store, tables) as index:
        _compare(lake, index, tables, "the index of the whole log", replay, live, findings)
    if 0 < newest_seq(lake.store) <= replay.head:
        with (
            tempfile.TemporaryDirectory(prefix="audiophile-verify-") as folder,
            Index(lake.store, ALL_TABLES, Path(folder)) as index,
        ):
            _compare(lake, index, ALL_TABLES, "the index from a snapshot", replay, live, findings)


def _compare(
    lake: Lake,
    index: Index,
    tables: frozenset[str],
    subject: str,
    replay: Replay,
    live: LiveFiles,
    findings: Findings,
) -> None:
    """Bring an index and the view by brute force to one log entry, and compare them."""
    findings.at(subject, 0, 1)
    try:
        if not _at_one_entry(lake, index, replay, live, findings):
            findings.skipped.append(f"{subject}: files went away while they were read")
            _look_for_gone(lake, replay, findings)
            return
        wrong = differences(index, tables, state(live, replay, Findings()), replay)
    except StorageError as error:
        findings.add("index", subject, f"it cannot be made: {error}", _ANEW)
        return
    findings.add_some("index", subject, wrong, _ANEW)
    findings.looked_at["indexes compared"] += 1
    findings.at(subject, 1, 1)


def _at_one_entry(lake: Lake, index: Index, replay: Replay, live: LiveFiles, findings: Findings) -> bool:
    """Bring an index, the log's replay and what was read of live files to one log entry; False: it did not work out."""
    for _ in range(LOOKS):
        with contextlib.suppress(MissingError):  # replaced since the log was read
            index.catch_up()
            replay.catch_up(lake.store, findings, until=index.applied_seq)
            if live.read(lake.store, replay, findings) and replay.head == index.applied_seq:
                return True
        head = replay.head
        replay.catch_up(lake.store, findings)
        if replay.head == head:
            return False
    return False


def _look_for_gone(lake: Lake, replay: Replay, findings: Findings) -> None:
    """Name the live files that were there and went away, unless the log says by now that they count no more."""
    gone = [path for path in replay.live if lake.store.stat(path) is None]
    replay.catch_up(lake.store, findings)
    for path in gone:
        if path in replay.live:
            findings.add("parquet", path, "it went away, and the log does not say so", "Restore it from a copy")


def require_lake(place: Place) -> None:
    """Refuse a place where nothing is, which is a wrong setting rather than an empty lake.

    Raises:
        StoreError: There is no such folder.
    """
    if not place.is_s3 and not Path(place.url).is_dir():
        raise StoreError(f"AUDIOPHILE_DATA={place.url}: there is no such folder; set it to where the lake lies")


def main(arguments: list[str] | None = None) -> int:
    """Verify the lake of the settings; return 0 where all is well, 1 where not, 2 where it cannot be looked at."""
    parser = argparse.ArgumentParser(prog="python -m storage.verify", description="Verify the lake at AUDIOPHILE_DATA.")
    parser.add_argument("--no-audio", action="store_true", help="do not read the recordings, only look for them")
    options = parser.parse_args(arguments)
    ticker = Ticker()
    try:
        place = get_settings().place
        require_lake(place)
        report = verify(Lake.open(place), audio=not options.no_audio, progress=ticker)
    except StorageError as error:
        ticker.close()
        sys.stderr.write(f"audiophile: {error}\n")
        return 2
    ticker.close()
    sys.stdout.write(f"{place.url}\n\n{report}\n")
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
