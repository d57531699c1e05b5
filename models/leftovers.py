"""What lies in the cache of models' files and belongs to no entry of the group. It must not know how it got there."""

import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from models.group import ModelSpec
from models.sources import DIGEST, FOLDERS, folder_of

GRACE_S: Final = 86_400.0  # what is younger may be of a model that is being fetched


def clear(cache: Path, specs: Iterable[ModelSpec]) -> int:
    """Remove files and folders that none of the models names, what a killed process left among them.

    Args:
        cache: The folder that `models.sources` keeps files in; it need not be there.
        specs: All models of the group, enabled or not.

    Returns:
        How many were removed. What cannot be removed stays, for the next time.
    """
    named = set[Path]()
    for spec in specs:
        named |= {folder_of(spec, cache), *(cache / digest for digest in spec.sha256.values())}
    removed = 0
    for path in (*filter(_is_of_sources, cache.glob("*")), *(cache / FOLDERS).glob("*")):
        try:
            if path in named or time.time() - path.lstat().st_mtime < GRACE_S:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        except OSError:
            continue
        removed += 1
    return removed


def _is_of_sources(path: Path) -> bool:
    """Say whether a name is one of those that `models.sources` gives: others keep things beside its files."""
    return path.name.startswith(".") or DIGEST.fullmatch(path.name) is not None
