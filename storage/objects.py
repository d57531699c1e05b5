"""Looks at what is no table for verification: recordings' bytes, receipts, snapshots, and leftovers of the erased."""

import hashlib
import re
from typing import Final

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from storage.errors import LogError, MissingError, StoreError
from storage.lake import Lake
from storage.live import ids_with_seq, named, older_rows
from storage.manifest import SnapshotFile, decode, manifest_path, manifest_seqs
from storage.media import PEAKS, TRASH, file_id_of, media_path
from storage.peaks import decode as decode_peaks
from storage.replay import Replay
from storage.report import Findings
from storage.store import Store
from storage.tables import OF_FILES

_HEX: Final = re.compile(r"(?:.*/)?([0-9a-f]{32})[^/]*")
_RESTORE: Final = "Restore it from a copy of the lake"
_FOLD: Final = (
    "Remove the snapshot's manifest: an older one or the log takes its place, and maintenance makes a new one"
)


def look_at_media(lake: Lake, files: pl.DataFrame, replay: Replay, findings: Findings, *, audio: bool) -> None:
    """Look for the bytes of each accepted recording, and hash them where `audio` says so."""
    accepted = files.filter(pl.col("status") == "accepted")
    missing: list[tuple[str, int]] = []
    for number, row in enumerate(accepted.select("file_id", "seq", "sha256", "size_bytes").iter_rows(), 1):
        file_id, seq, sha256, size_bytes = row
        if file_id_of(sha256).bytes != file_id:
            findings.add("media", media_path(sha256), f"the log has it as recording {named([file_id])}", _RESTORE)
        if not _look_at_blob(lake, sha256, size_bytes, findings, audio=audio):
            missing.append((sha256, seq))
        findings.at("recordings", number, accepted.height)
    replay.catch_up(lake.store, findings)
    for sha256, seq in missing:
        tombstone = replay.tombstones.get(file_id_of(sha256))
        if tombstone is None or tombstone.seq < seq:  # or else it was erased meanwhile
            findings.add("media", media_path(sha256), "the recording was accepted, and its bytes are gone", _RESTORE)


def look_at_peaks(lake: Lake, findings: Findings) -> None:
    """Look at each file of peaks; there need not be any."""
    for stored in lake.store.found("media"):
        if not stored.path.endswith(PEAKS):
            continue
        try:
            content = lake.store.read(stored.path)
            if content is not None:  # or else it was erased meanwhile
                decode_peaks(content)
        except (StoreError, ValueError) as error:
            remedy = "Remove it; the recording has none then until it is sent again under another name"
            findings.add("media", stored.path, f"these peaks cannot be used: {error}", remedy)
        findings.looked_at["files of peaks"] += 1


def look_at_inbox(lake: Lake, replay: Replay, findings: Findings, *, audio: bool) -> None:
    """Look at each receipt, and for the bytes that it acknowledged, unless they were erased since."""
    receipts = lake.inbox.receipts()
    readable = {receipt.path for receipt in receipts}  # others may come while this looks
    for path in [f"inbox/{name}" for name in lake.store.names("inbox")]:
        if path not in readable and path not in _readable(lake) and lake.store.stat(path) is not None:
            findings.add("inbox", path, "it is damaged", f"{_RESTORE}, or remove it to give the upload up")
    for number, receipt in enumerate(receipts, 1):
        tombstone = replay.tombstones.get(receipt.file_id)
        erased = tombstone is not None and not tombstone.lifted
        there = _look_at_blob(lake, receipt.sha256, receipt.size_bytes, findings, audio=audio)
        if not there and not erased and lake.store.stat(receipt.path) is not None:
            remedy = "Ask for the upload once more, or restore its bytes from a copy of the lake"
            findings.add("inbox", receipt.path, f"its bytes are not at {media_path(receipt.sha256)}", remedy)
        findings.looked_at["receipts"] += 1
        findings.at("receipts", number, len(receipts))


def look_at_snapshots(lake: Lake, replay: Replay, findings: Findings) -> None:
    """Look at each snapshot's files, and for rows of recordings of which nothing should be left."""
    seqs = manifest_seqs(lake.store)
    replay.catch_up(lake.store, findings)
    for number, seq in enumerate(seqs, 1):
        wrong = _wrong_in_snapshot(lake.store, seq, replay)
        if wrong and lake.store.stat(manifest_path(seq)) is not None:  # maintenance has not removed it meanwhile
            for path, what in wrong:
                findings.add("snapshot", path, what, _FOLD)
        findings.looked_at["snapshots"] += 1
        findings.at("snapshots", number, len(seqs))


def look_for_erased_objects(lake: Lake, replay: Replay, findings: Findings) -> None:
    """Look for audio and receipts of recordings of which nothing should be left; what came again since may be there."""
    findings.looked_at["erased recordings"] += len(replay.tombstones)
    gone = {id_.hex: stone.purged_at for id_, stone in replay.tombstones.items() if not stone.lifted}
    for folder in ("media", TRASH, "inbox") if any(gone.values()) else ():
        for stored in lake.store.found(folder):
            match = _HEX.fullmatch(stored.path)
            purged_at = gone.get(match[1]) if match else None
            if purged_at is not None and stored.modified_at < purged_at:
                remedy = f"Remove it, and everything else that has {match[1] if match else ''} in its name"
                findings.add("erasure", stored.path, "the recording was erased, and this is still here", remedy)


def _readable(lake: Lake) -> set[str]:
    return {receipt.path for receipt in lake.inbox.receipts()}


def _look_at_blob(lake: Lake, sha256: str, size_bytes: int, findings: Findings, *, audio: bool) -> bool:
    """Look at a recording's bytes, in the trash too, from where whoever needs them takes them; False: not there."""
    for path in (media_path(sha256), *_trashed(lake.store, sha256), media_path(sha256)):
        try:
            stored = lake.store.stat(path)
            if stored is None:
                continue
            if stored.size_bytes != size_bytes:
                findings.add("media", path, f"it has {stored.size_bytes} bytes, and must have {size_bytes}", _RESTORE)
            elif audio and _hash(lake.store, path) != sha256:
                findings.add("media", path, "its bytes do not hash to its name: they have changed", _RESTORE)
        except MissingError:  # moved since
            continue
        except StoreError as error:
            findings.add("media", path, str(error), _RESTORE)
        findings.looked_at["recordings' bytes hashed" if audio else "recordings' bytes found"] += 1
        return True
    return False


def _trashed(store: Store, sha256: str) -> list[str]:
    if store.stat(media_path(sha256)) is not None:
        return []
    return [f"{TRASH}/{name}" for name in store.names(TRASH) if name.startswith(sha256)]


def _wrong_in_snapshot(store: Store, seq: int, replay: Replay) -> list[tuple[str, str]]:
    path = manifest_path(seq)
    content = store.read(path)
    if content is None:
        return []
    try:
        manifest = decode(content, seq)
    except LogError as error:
        return [(path, str(error))]
    wrong = []
    if seq > replay.head:
        wrong.append((path, f"the log ends at entry {replay.head}, before it: entries are lost"))
    for name, file in manifest.tables.items():
        try:
            wrong += [(file.path, what) for what in _wrong_in_file(store, name, file, replay)]
        except MissingError:
            wrong.append((file.path, "its manifest names it, and it is not there"))
        except (StoreError, pa.ArrowException, OSError) as error:
            wrong.append((file.path, f"it cannot be read: {error}"))
    return wrong


def _wrong_in_file(store: Store, name: str, file: SnapshotFile, replay: Replay) -> list[str]:
    """Say what is wrong with one file of a snapshot."""
    with store.on_disk(file.path) as place:
        size_bytes = place.stat().st_size
        if size_bytes != file.size_bytes:
            return [f"it has {size_bytes} bytes, and its manifest says {file.size_bytes}"]
        with place.open("rb") as opened:
            if hashlib.file_digest(opened, "sha256").hexdigest() != file.sha256:
                return ["its sha256 is not the one in its manifest: bytes of it have changed"]
        rows = pq.read_metadata(place).num_rows
        if rows != file.rows:
            return [f"it has {rows} rows, and its manifest says {file.rows}"]
        erased = {file_id: stone.seq for file_id, stone in replay.tombstones.items() if stone.purged_at}
        if name not in OF_FILES or not erased:
            return []
        keys = pl.DataFrame(pl.from_arrow(pq.read_table(place, columns=["file_id", "seq"])))
    left = older_rows(keys, ids_with_seq(erased))
    return [f"it holds rows of erased recordings: {named(left)}"] if left else []


def _hash(store: Store, path: str) -> str:
    with store.on_disk(path) as place, place.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
