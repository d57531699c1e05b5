"""The model group as its file describes it. Reading it imports no model and no torch."""

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from features.descriptors import REVISION as DESCRIPTORS_REVISION
from models.bounds import check_number, shown
from models.errors import GroupError
from models.phrases import MAX_CHARACTERS

GROUP_FILE: Final = Path(__file__).parent / "group.toml"

_UTTERANCE_BOUNDS: Final = {  # seconds, but for the threshold
    "threshold": (0.01, 0.99),
    "min_silence_s": (0.0, 60.0),
    "min_speech_s": (0.0, 60.0),
    "pad_s": (0.0, 10.0),
    "max_s": (1.0, 600.0),
}
_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_FIELDS: Final = {"name": str, "family": str, "task": str, "enabled": bool, "source": str}
_OPTIONAL: Final = {"revision": str, "trusted": bool}


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model of the group: everything that is needed to load it, and what its output depends on."""

    name: str
    family: str
    task: str
    enabled: bool
    source: str
    sha256: Mapping[str, str]  # of each file of weights
    settings: Mapping[str, Any]
    search: Mapping[str, Any]  # what it looks for in a text, and how: "phrases" and settings of its own
    utterances: Mapping[str, float]  # how the speech that it is given was cut
    version: str
    text_version: str  # of the texts: that of the model before it looks for anything
    revision: str = ""  # of the source, where that has revisions; what is loaded is what `sha256` says all the same
    trusted: bool = False  # what its files may do when they are loaded is the user's own concern

    @property
    def entry(self) -> str:
        """A hash of all that its loading depends on: more than its version, which is of its answers."""
        parts = [self.version, self.source, self.revision, self.trusted]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Group:
    """The models and how utterances are cut for them."""

    models: tuple[ModelSpec, ...]
    utterances: Mapping[str, float]

    @property
    def enabled(self) -> tuple[ModelSpec, ...]:
        """The models that score."""
        return tuple(model for model in self.models if model.enabled)


def load_group(phrases: tuple[str, ...], path: Path = GROUP_FILE) -> Group:
    """Read the group.

    Args:
        phrases: What models with the task "phrases" look for; part of their version.
        path: The group file.

    Raises:
        GroupError: The file is wrong, or a phrase is too long.
    """
    for phrase in phrases:
        if len(phrase) > MAX_CHARACTERS:
            raise GroupError(f"phrase {shown(phrase)} has more than {MAX_CHARACTERS} characters: shorten it")
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise GroupError(f"{path}: {error}") from error
    except RecursionError as error:
        raise GroupError(f"{path}: tables or lists are nested too deep: flatten them") from error
    utterances = _utterances(raw.get("utterances", {}), path)
    entries = raw.get("model", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise GroupError(f"{path}: `model` must be tables, each headed [[model]]")
    models = tuple(_spec(entry, utterances, phrases, path) for entry in entries)
    names = [model.name for model in models]
    if len(set(names)) != len(names):
        raise GroupError(f"{path}: two models have the same name, of {', '.join(names)}: rename one")
    return Group(models, utterances)


def _spec(entry: Mapping[str, Any], utterances: Mapping[str, float], phrases: tuple[str, ...], path: Path) -> ModelSpec:
    name = shown(entry["name"]) if "name" in entry else "(without a name)"
    for field, kind in _FIELDS.items():
        if not isinstance(entry.get(field), kind):
            raise GroupError(
                f"{path}: model {name}: `{field}` must be a {kind.__name__}, not {shown(entry.get(field))}"
            )
    if not _NAME.fullmatch(entry["name"]):
        raise GroupError(f"{path}: model {name}: a name is made of letters, digits, `.`, `_` and `-`: rename it")
    for field, kind in _OPTIONAL.items():
        if not isinstance(entry.get(field, kind()), kind):
            raise GroupError(f"{path}: model {name}: `{field}` must be a {kind.__name__}, not {shown(entry[field])}")
    for field in ("settings", "search", "sha256"):
        if not isinstance(entry.get(field, {}), dict):
            raise GroupError(f"{path}: model {name}: `{field}` must be a table, headed [model.{field}]")
    settings, search = dict(entry.get("settings", {})), dict(entry.get("search", {}))
    for field, value in [*settings.items(), *search.items()]:
        try:
            _check(field, value)
        except (TypeError, ValueError) as error:
            raise GroupError(f"{path}: model {name}: setting {error}") from error
    if entry["task"] == "phrases":
        search["phrases"] = list(phrases)
    sha256 = _sha256(entry.get("sha256", {}), name, path)
    return ModelSpec(
        **{field: entry[field] for field in _FIELDS},
        sha256=sha256,
        settings=settings,
        search=search,
        utterances=utterances,
        version=version_of(entry["family"], sha256, settings, utterances, search),
        text_version=version_of(entry["family"], sha256, settings, utterances),
        **{field: entry[field] for field in _OPTIONAL if field in entry},
    )


def _check(field: str, value: object) -> None:
    """Refuse what no version can be made of, however deep in a setting it is."""
    if isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            _check(f"{field}.{key}", each)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        check_number(field, value)
    elif not isinstance(value, str | bool):
        raise TypeError(f"`{field}` must not be {shown(value)}: put it in quotes")


def _sha256(raw: Mapping[str, Any], name: str, path: Path) -> dict[str, str]:
    for file, digest in raw.items():
        if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
            raise GroupError(
                f"{path}: model {name}: `sha256` of {file} must be 64 hexadecimal digits in lower case, not "
                f"{shown(digest)}: see what `sha256sum` prints"
            )
    return dict(raw)


def _utterances(raw: object, path: Path) -> Mapping[str, float]:
    known = ", ".join(sorted(_UTTERANCE_BOUNDS))
    if not isinstance(raw, dict):
        raise GroupError(f"{path}: `utterances` must be a table, headed [utterances]")
    for field, value in raw.items():
        if field not in _UTTERANCE_BOUNDS:
            raise GroupError(f"{path}: utterances: no setting `{field}`; known are {known}")
        try:
            check_number(field, value, *_UTTERANCE_BOUNDS[field])
        except (TypeError, ValueError) as error:
            raise GroupError(f"{path}: utterances: {error}") from error
    return raw


def version_of(
    family: str,
    sha256: Mapping[str, str],
    settings: Mapping[str, Any],
    utterances: Mapping[str, float],
    search: Mapping[str, Any] | None = None,
) -> str:
    """Return the version of a model: 12 hexadecimal digits of a hash over all that its output depends on.

    Without `search` it is the version of the texts that the model reads, which outlast a change of what is looked for.
    """
    from models.registry import FAMILIES  # noqa: PLC0415  the registry needs ModelSpec

    known = FAMILIES.get(family)
    revision: Any = 0 if known is None else known.revision
    if known is not None and not known.utterances:
        utterances = {}
    elif search is not None:
        revision = (revision, known.search_revision if known else 0, DESCRIPTORS_REVISION)
    parts = [family, revision, dict(sha256), _canonical(settings), _canonical(utterances), _canonical(search or {})]
    content = json.dumps(parts, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def _canonical(value: object) -> object:
    """Return a setting in the one form that is hashed: 30 and 30.0 are the same."""
    if isinstance(value, Mapping):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if isinstance(value, bool | str):
        return value
    return float(value) if isinstance(value, int | float) else str(value)
