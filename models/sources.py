"""Where a model's files come from: from the `source` of the group file to a folder of this host with those files.

A file is what its sha256 says, wherever it was had from, and is kept under it: `<cache>/<sha256>`. What a model is
given is a folder of such files by their names, `<cache>/folders/<hash of both>`. It must not know what is in them.

`python -m models.sources pin <source>` prints the lines that pin a source in the group file.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import re
import shutil
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from models.errors import ModelUnavailableError
from models.fetching import BLOCK_BYTES, FETCH_S, HUB, address, blocks, is_remote

if TYPE_CHECKING:
    from models.group import ModelSpec

FOLDERS: Final = "folders"
DIGEST: Final = re.compile(r"[0-9a-f]{64}")  # the name of a file that is kept
MAX_BYTES: Final = 4 * 2**30  # of all files of a model
WEIGHTS: Final = frozenset(
    {".bin", ".ckpt", ".json", ".model", ".onnx", ".ort", ".pt", ".pth", ".safetensors", ".txt", ".yaml", ".yml"}
)
"""Endings of files that `pin` names, unless it is told which."""

_REVISION: Final = re.compile(r"[0-9a-f]{40}")
_PART: Final = r"[A-Za-z0-9_][A-Za-z0-9_.+-]*"
_NAME: Final = re.compile(rf"{_PART}(/{_PART})*")


def require_pinned(spec: "ModelSpec") -> None:
    """Make sure that a model's entry says exactly which files it means, and that their names are no paths elsewhere.

    Raises:
        ModelUnavailableError: It does not; the message says how to.
    """
    remedy = f"run `python -m models.sources pin {spec.source}`, and put what it prints into the group file"
    if spec.source.startswith("hf://"):
        if HUB.fullmatch(spec.source) is None:
            raise ModelUnavailableError(f"{spec.name}: source {spec.source!r} must be hf://organisation/name")
        if not _REVISION.fullmatch(spec.revision):
            raise ModelUnavailableError(
                f"{spec.name}: revision {spec.revision!r} is not a commit of 40 hexadecimal digits: {remedy}"
            )
    if is_remote(spec.source) and not spec.sha256:
        raise ModelUnavailableError(f"{spec.name}: the group file names no file's sha256: {remedy}")
    for name, digest in spec.sha256.items():
        if not _NAME.fullmatch(name):
            raise ModelUnavailableError(
                f"{spec.name}: {name!r} under [model.sha256] is no plain relative name: correct it"
            )
        # Becomes a path where files are kept by it. A folder of this host has been compared with it by then.
        if is_remote(spec.source) and not (isinstance(digest, str) and DIGEST.fullmatch(digest)):
            raise ModelUnavailableError(f"{spec.name}: the sha256 of {name} is {digest!r}, not 64 lower-case digits")


def local_folder(spec: "ModelSpec") -> Path:
    """Return where the files of a source on this host lie, whether they are there or not.

    Raises:
        ModelUnavailableError: The source is of another kind, or its package is not installed.
    """
    scheme, _, rest = spec.source.partition(":")
    if scheme == "folder" and Path(rest).is_absolute():
        return Path(rest)
    if scheme != "package":
        raise ModelUnavailableError(
            f"{spec.name}: source {spec.source!r} must start with `package:`, with `folder:` and an absolute path, "
            "or be a URL of a folder: `hf://org/name`, or one that fsspec knows, in lower case up to `://`, without a "
            "query and not chained with `::`"
        )
    package, _, inside = rest.partition("/")
    # Finds a package without running it; a dotted name would run the one above.
    found = importlib.util.find_spec(package) if package.isidentifier() else None
    if found is None or not found.submodule_search_locations:
        raise ModelUnavailableError(f"{spec.name}: top-level package {package!r} is not installed: run `make up` again")
    if inside and not _NAME.fullmatch(inside.rstrip("/")):
        raise ModelUnavailableError(
            f"{spec.name}: {inside!r} of source {spec.source!r} is no plain relative name of a folder in the package"
        )
    return Path(next(iter(found.submodule_search_locations))) / inside


def assembled(spec: "ModelSpec", cache: Path | None) -> Path:
    """Return a folder in `cache` with the files that a model names, and no others; what is there is not fetched again.

    Args:
        spec: A pinned model.
        cache: A folder of this host for files of models; made where it is not there.

    Raises:
        ModelUnavailableError: A file cannot be had, is another one, or cannot be kept.
    """
    if cache is None:
        raise ModelUnavailableError(f"{spec.name}: its files need a folder to be kept in, and none was given")
    folder = folder_of(spec, cache)
    room, deadline_s = MAX_BYTES, time.monotonic() + FETCH_S
    try:
        for name, digest in spec.sha256.items():
            kept = _kept(spec, name, digest, cache, room, deadline_s)
            room -= kept.stat().st_size
            _place(kept, folder / name)
    except OSError as error:
        raise ModelUnavailableError(
            f"{spec.name}: {cache} cannot be written: {error.strerror or error}. Make room there, or make it writable"
        ) from error
    return folder


def folder_of(spec: "ModelSpec", cache: Path) -> Path:
    """Return where in `cache` a model's files lie by their names, whether they are there or not."""
    names = json.dumps(sorted(spec.sha256.items())).encode()
    return cache / FOLDERS / hashlib.sha256(names).hexdigest()


def sha256_of(path: Path) -> str:
    """Return the hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _kept(spec: "ModelSpec", name: str, digest: str, cache: Path, room: int, deadline_s: float) -> Path:
    """Return the file in `cache` whose bytes hash to `digest`; it is fetched if it is not there, or damaged."""
    kept = cache / digest
    if kept.is_file() and kept.stat().st_size <= room and sha256_of(kept) == digest:
        return kept
    cache.mkdir(parents=True, exist_ok=True)
    with _staged(cache) as staged:
        with staged.open("xb") as file:
            found = _fetch(spec, name, file, room, deadline_s)
        if found != digest:
            raise ModelUnavailableError(
                f"{spec.name}: {name} of {spec.source} has sha256 {found}, and the group file names {digest}: "
                "pin it again, if you trust what is there now"
            )
        staged.replace(kept)
    return kept


def _fetch(spec: "ModelSpec", name: str, file: BinaryIO, room: int, deadline_s: float) -> str:
    """Write a file of a source to `file`, and return its hash."""
    digest = hashlib.sha256()
    try:
        for block in blocks(lambda: _opened(spec, name), deadline_s):
            room -= len(block)
            if room < 0:
                raise ModelUnavailableError(
                    f"{spec.name}: {name} of {spec.source} is too large: a model may have {MAX_BYTES} bytes"
                )
            digest.update(block)
            file.write(block)
    except ModelUnavailableError:
        raise
    except Exception as error:  # each protocol has errors of its own
        raise ModelUnavailableError(
            f"{spec.name}: {name} cannot be fetched from {spec.source} ({type(error).__name__}: {error}): look whether "
            f"this host reaches it, or put the files into a folder and name that: folder:/absolute/path"
        ) from error
    return digest.hexdigest()


@contextmanager
def _opened(spec: "ModelSpec", name: str) -> Iterator[BinaryIO]:
    if not is_remote(spec.source):
        with (local_folder(spec) / name).open("rb") as local:
            yield local
        return
    import fsspec  # noqa: PLC0415  only where something is fetched

    url, options = address(spec.source, spec.revision, name)
    with fsspec.open(url, "rb", **options) as remote:
        yield remote


@contextmanager
def _staged(folder: Path) -> Iterator[Path]:
    """Give a name for a file that is being written; `models.leftovers` clears those that a kill leaves."""
    staged = folder / f".{uuid.uuid4().hex}.tmp"
    try:
        yield staged
    finally:
        staged.unlink(missing_ok=True)


def _place(kept: Path, place: Path) -> None:
    """Make `place` a name of the file `kept`, whatever was there; a copy where a disk has no hard links."""
    with suppress(FileNotFoundError):
        if place.samefile(kept):
            return
    place.parent.mkdir(parents=True, exist_ok=True)
    with _staged(place.parent) as staged:
        try:
            os.link(kept, staged)
        except OSError:
            shutil.copyfile(kept, staged)
        staged.replace(place)


def pin(source: str, names: Sequence[str] = ()) -> str:
    """Return the lines of the group file that pin a source as it is now.

    Args:
        source: As the group file names it.
        names: Which of its files; none takes all whose endings are those of WEIGHTS.

    Raises:
        OSError: It cannot be read.
        ValueError: It has no such files.
    """
    lines, digests = [], dict[str, str]()
    if not source.startswith("folder:") and not is_remote(source):
        raise ValueError("it is no folder:/absolute/path, and no URL of a folder without a query, that is not chained")
    if found := HUB.fullmatch(source):
        from huggingface_hub import HfApi  # noqa: PLC0415  only where something is fetched

        info = HfApi().model_info(found["repository"], files_metadata=True)
        revision = str(info.sha)
        lines.append(f'revision = "{revision}"')
        listed = {file.rfilename: file.lfs.sha256 if file.lfs else "" for file in info.siblings or ()}
        for name in _chosen(listed, names):
            digests[name] = listed[name] or _sha256_at(*address(source, revision, name))
    else:
        import fsspec  # noqa: PLC0415  likewise

        source = f"file://{source.removeprefix('folder:')}" if source.startswith("folder:") else source
        files, root = fsspec.url_to_fs(source)
        root = root.rstrip("/")
        below = () if names else [path.removeprefix(f"{root}/") for path in files.find(root)]
        for name in _chosen(names or below, names):
            digests[name] = _sha256_at(*address(source, "", name))
    lines += ["", "[model.sha256]", *(f'"{name}" = "{digest}"' for name, digest in digests.items())]
    return "\n".join(lines).lstrip("\n")


def _chosen(listed: Sequence[str] | Mapping[str, str], names: Sequence[str]) -> list[str]:
    """Return the files to pin."""
    chosen = sorted(name for name in listed if (name in names if names else Path(name).suffix in WEIGHTS))
    if unusable := [name for name in chosen if not _NAME.fullmatch(name)]:
        raise ValueError(f"{', '.join(map(repr, unusable))}: no plain relative names: name the files to pin")
    if not chosen or len(chosen) < len(names):
        raise ValueError(f"it has no file {', '.join(names) or 'that ends like ' + ', '.join(sorted(WEIGHTS))}")
    return chosen


def _sha256_at(url: str, options: Mapping[str, Any]) -> str:
    import fsspec  # noqa: PLC0415  likewise

    digest = hashlib.sha256()
    with fsspec.open(url, "rb", **options) as remote:
        while block := remote.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what `pin` returns."""
    parser = argparse.ArgumentParser(prog="python -m models.sources", description="Pins the files of a model's source.")
    parser.add_argument("command", choices=["pin"])
    parser.add_argument("source", help="hf://org/name, folder:/absolute/path, or the URL of a folder")
    parser.add_argument("file", nargs="*", help="only these files")
    given = parser.parse_args(arguments)
    try:
        print(pin(given.source, given.file))  # noqa: T201  what a user reads
    except Exception as error:  # each protocol has errors of its own
        sys.exit(f"{given.source}: cannot be pinned: {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
