"""Group files, the real Moonshine, and utterances of real recordings."""

import copy
import importlib.util
import itertools
import json
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from features.utterances import UtteranceSettings
from models.group import GROUP_FILE, ModelSpec, load_group
from models.moonshine import Moonshine
from models.registry import load_model
from tests.speech import find_utterances

PROMPTS = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
PHRASES = (
    "it was the best of times",
    "worst of times",
    "age of foolishness",
    "epoch",
    "we were all going direct",
    "your",
    "please",
    "pound key",
    "agent number",
    "password",
    "this conference",
    "currently the only person",
    "weather forecast",
    "refund",
)


@pytest.fixture(scope="session")
def group() -> Mapping[str, Any]:
    """What the project's group file says; not to be changed."""
    return tomllib.loads(GROUP_FILE.read_text(encoding="utf-8"))


@pytest.fixture
def draft(group: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of it, with its first model alone, that a test may change."""
    return copy.deepcopy({**group, "model": group["model"][:1]})


def as_toml(value: Any) -> str:
    """Write a value as inline TOML, which is JSON but for the tables."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {as_toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(as_toml(each) for each in value) + "]"
    return json.dumps(value) if isinstance(value, str | bool | int | float) else str(value)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Mapping[str, Any]], Path]:
    """Write a group to a new file, and return its path."""
    numbers = itertools.count()

    def write_group(content: Mapping[str, Any]) -> Path:
        path = tmp_path / f"group-{next(numbers)}.toml"
        path.write_text("".join(f"{key} = {as_toml(value)}\n" for key, value in content.items()), encoding="utf-8")
        return path

    return write_group


@pytest.fixture(scope="session")
def spec() -> ModelSpec:
    """Moonshine, looking for PHRASES."""
    (found,) = (model for model in load_group(PHRASES).models if model.family == "moonshine")
    return found


@pytest.fixture(scope="session")
def moonshine(spec: ModelSpec) -> Moonshine:
    """The real model, loaded once."""
    model = load_model(spec)
    assert isinstance(model, Moonshine)
    return model


@pytest.fixture(scope="session")
def weights() -> Path:
    """The folder of Moonshine's files in the moonshine-voice wheel."""
    found = importlib.util.find_spec("moonshine_voice")
    assert found is not None
    assert found.submodule_search_locations
    return Path(found.submodule_search_locations[0]) / "assets" / "tiny-en"


def heard(path: Path) -> list[NDArray[np.float32]]:
    """Return the waveforms of a recording's utterances. Shape (time,) each."""
    return [found.waveform for found in find_utterances(path, (0,), UtteranceSettings())]


@pytest.fixture(scope="session")
def two_cities(weights: Path) -> list[NDArray[np.float32]]:
    """The two utterances of the opening of A Tale of Two Cities."""
    return heard(weights.parent / "two_cities.wav")


@pytest.fixture(scope="session")
def prompts() -> dict[str, NDArray[np.float32]]:
    """Telephone prompts of one utterance each, by name."""
    names = (
        "agent-pass",
        "agent-alreadyon",
        "all-circuits-busy-now",
        "auth-thankyou",
        "conf-invalidpin",
        "conf-locked",
        "conf-onlyperson",
    )
    found = {}
    for name in names:
        (found[name],) = heard(PROMPTS / f"{name}.wav")
    return found
