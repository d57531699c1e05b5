"""Loads a model from outside in a process of its own first: one that hangs or fills the memory ends that alone.

What has been loaded once on this host is not tried again. It must not know what is scored.
"""

import resource
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from flows.runs import end_with_parent
from models.errors import ModelUnavailableError
from models.group import ModelSpec
from models.registry import load_model, verified_folder

MEMORY_BYTES: Final = 8 << 30  # of data: libraries, which are mapped from files, do not count
LIMIT_S: Final = 120.0  # from the files being there to the model being loaded
OURS: Final = "package:"  # what is installed runs anyway
FOLDER: Final = "loaded"  # in the folder of models: a mark for each entry that has been


def refused_at_first(specs: Iterable[ModelSpec], cache: Path) -> dict[str, str]:
    """Return which models cannot be loaded, each with why; of those that were loaded before, none is tried.

    Args:
        specs: Of the group. Those whose files came with an installed package are passed over.
        cache: This host's own folder of models.
    """
    refused = {}
    for spec in specs:
        mark = cache / FOLDER / spec.entry
        if spec.source.startswith(OURS) or mark.exists():
            continue
        try:
            verified_folder(spec, cache)
            _load_apart(spec, cache)
        except ModelUnavailableError as error:
            refused[spec.name] = str(error)
        else:
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()
    return refused


def _load_apart(spec: ModelSpec, cache: Path) -> None:
    pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_begin)
    try:
        pool.submit(_load, spec, cache).result(LIMIT_S)
    except TimeoutError as error:
        for process in list((pool._processes or {}).values()):
            process.kill()
        raise ModelUnavailableError(
            f"{spec.name}: it was not loaded after {LIMIT_S:.0f} s: check its files, or use a smaller model"
        ) from error
    except BrokenProcessPool as error:
        raise ModelUnavailableError(
            f"{spec.name}: it ends the process that loads it, perhaps for more than {MEMORY_BYTES >> 30} GiB of "
            "memory: check its files, or use a smaller model"
        ) from error
    finally:
        pool.shutdown()


def _load(spec: ModelSpec, cache: Path) -> None:
    try:
        load_model(spec, cache)
    except MemoryError as error:
        raise ModelUnavailableError(
            f"{spec.name}: it needs more than {MEMORY_BYTES >> 30} GiB to be loaded: use a smaller model"
        ) from error


def _begin() -> None:
    end_with_parent()
    if sys.platform == "linux":  # elsewhere the limit is not of what is used
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
