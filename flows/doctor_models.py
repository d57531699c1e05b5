"""Looks at the enabled models: weights as pinned, and what came of loading them last.

It fetches nothing, unless a model is to be loaded whose files are not here yet.
"""

import time
from collections.abc import Iterator
from pathlib import Path

from flows.diagnosis import Finding, fail, ok, warn
from flows.shards import MODELS
from flows.trials import refused_at_first
from models.errors import GroupError, ModelUnavailableError
from models.fetching import is_remote
from models.group import GROUP_FILE, ModelSpec, load_group
from models.registry import load_model, verified_folder
from models.sources import require_pinned, sha256_of
from storage.availability import Tried, read_tried
from storage.errors import StorageError
from storage.lake import open_store
from storage.settings import Settings


def look_at_models(settings: Settings, *, load: bool, group_file: Path = GROUP_FILE) -> Iterator[Finding]:
    """Look at each enabled model.

    Args:
        settings: Where the lake lies, and what is looked for.
        load: Load them, rather than look at their weights only.
        group_file: Of the models.
    """
    try:
        group = load_group(settings.searched_phrases, group_file)
    except GroupError as error:
        yield fail("models", str(error))
        return
    if not group.enabled:
        yield fail("models", f"{group_file}: no model is enabled. Set `enabled = true` for one")
    cache = settings.local / MODELS
    tried = {} if load else _tried(settings)
    for spec in group.enabled:
        yield look_at_model(spec, cache, tried.get(spec.name), load=load)


def look_at_model(spec: ModelSpec, cache: Path, tried: Tried | None, *, load: bool) -> Finding:
    """Look at one model.

    Args:
        spec: Of the group.
        cache: This host's own folder of models.
        tried: What came of loading it last.
        load: Load it now.
    """
    subject = "model"
    try:
        if load:
            return ok(subject, f"{spec.name}: loaded in {_load(spec, cache):.1f} s")
        absent = _not_fetched(spec, cache)
        if not absent and not is_remote(spec.source):
            verified_folder(spec, cache)
    except ModelUnavailableError as error:
        return fail(subject, str(error))
    if tried is not None and tried.entry == spec.entry and tried.reason is not None:
        return fail(subject, f"{tried.reason} (since {tried.since:%F %T} UTC). `make doctor MODELS=1` tries it again")
    if absent:
        return warn(subject, f"{spec.name}: {', '.join(absent)} of {spec.source} will be fetched when there is work")
    return ok(subject, f"{spec.name}: {len(spec.sha256)} files as pinned")


def _not_fetched(spec: ModelSpec, cache: Path) -> list[str]:
    """Return which files of a remote source are not on this host; they may be damaged here, too."""
    if not is_remote(spec.source):
        return []
    require_pinned(spec)
    kept = {name: cache / digest for name, digest in spec.sha256.items()}
    return [name for name, path in kept.items() if not path.is_file() or sha256_of(path) != spec.sha256[name]]


def _load(spec: ModelSpec, cache: Path) -> float:
    started = time.monotonic()
    for reason in refused_at_first([spec], cache).values():
        raise ModelUnavailableError(reason)
    load_model(spec, cache)
    return time.monotonic() - started


def _tried(settings: Settings) -> dict[str, Tried]:
    try:
        return read_tried(open_store(settings.place))
    except StorageError:  # the store has a finding of its own
        return {}
