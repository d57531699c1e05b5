"""Looks at this host: ports, folders, room on its disks. It must not know what lies in a lake."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from flows.asking import api_address, is_ours, is_prefect, prefect_is_here
from flows.diagnosis import Finding, fail, ok, warn
from flows.errors import StartError
from flows.up import local_setting, require_free, require_watched
from storage.settings import Settings

LITTLE_BYTES: Final = 5 << 30
TOO_LITTLE_BYTES: Final = 500 << 20


def look_at_host(settings: Settings) -> Iterator[Finding]:
    """Look at the ports, the folders and their disks."""
    yield from _look_at_ports(settings)
    folders = {settings.local: local_setting(settings)}
    if not settings.place.is_s3:
        folders[Path(settings.data)] = "AUDIOPHILE_DATA"
    for folder, setting in folders.items():
        yield look_at_folder(folder, setting)
        yield look_at_room(folder)
    yield _look_at_watched(settings)


def _look_at_ports(settings: Settings) -> Iterator[Finding]:
    ours = is_ours(api_address(settings))
    yield look_at_port("API_PORT", settings.api_host, settings.api_port, "Audiophile's API" if ours else None)
    if prefect_is_here(settings):
        ours = is_prefect(settings.prefect_url)
        yield look_at_port("PREFECT_PORT", "127.0.0.1", settings.prefect_port, "Prefect's server" if ours else None)


def look_at_port(setting: str, host: str, port: int, held_by: str | None) -> Finding:
    """Say who has a port: nobody, one of ours, or another program.

    Args:
        setting: What sets it.
        host: The address that is listened on.
        port: Which.
        held_by: The one of ours that answers there.
    """
    if held_by is not None:
        return ok("port", f"{setting}={port}: {held_by} has it")
    try:
        require_free(setting, host, port)
    except StartError as error:
        return fail("port", str(error))
    return ok("port", f"{setting}={port}: free")


def look_at_folder(folder: Path, setting: str) -> Finding:
    """Prove that files can be made in a folder; of one that is not there yet, in the one that it will be made in."""
    there = nearest(folder)
    try:
        with tempfile.NamedTemporaryFile(dir=there, prefix=".probe-"):
            pass
    except OSError as error:
        what = (
            "cannot be written" if there == folder else f"is not there, and cannot be made, as {there} is not writable"
        )
        return fail(
            "folder",
            f"{setting}={folder}: {what} ({error.strerror}). Make it writable for this user, or set {setting} to "
            "another folder",
        )
    if there != folder:
        return warn("folder", f"{setting}={folder}: not there yet; `make up` makes it")
    return ok("folder", f"{setting}={folder}: writable")


def look_at_room(folder: Path, little: int = LITTLE_BYTES, too_little: int = TOO_LITTLE_BYTES) -> Finding:
    """Say how much room is left on a folder's disk.

    Args:
        folder: It need not be there yet.
        little: Bytes below which it is worth knowing.
        too_little: Bytes below which uploads and commits will soon fail.
    """
    free = shutil.disk_usage(nearest(folder)).free
    text = f"{free / 2**30:.1f} GiB free at {folder}"
    if free >= little:
        return ok("disk", text)
    text += (
        f", and {little / 2**30:.1f} are wanted. Make room there, or let maintain expire: KEEP_REFERENCES, KEEP_DAYS"
    )
    return fail("disk", text) if free < too_little else warn("disk", text)


def nearest(folder: Path) -> Path:
    """Return the folder, or where that is not there the nearest one above it that is."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def _look_at_watched(settings: Settings) -> Finding:
    watched = settings.watched_folder
    if not settings.is_watched:
        return ok("folder", "none is watched, as AUDIOPHILE_WATCH says: uploads only")
    if settings.file_path is None and not watched.is_dir():
        return warn("folder", f"FILE_PATH={watched}: not there yet; `make up` makes it")
    try:
        require_watched(settings)
    except StartError as error:
        return fail("folder", str(error))
    but = "" if settings.file_path is not None else "; not by a worker of a pool, unless AUDIOPHILE_WATCH=1"
    return ok("folder", f"FILE_PATH={watched}: watched for recordings{but}")
