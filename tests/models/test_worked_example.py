"""The family that ARCHITECTURE.md adds as an example works as it stands there."""

import re
import sys
import textwrap
import types
from pathlib import Path

import numpy as np
import pytest

from models import registry
from models.group import GROUP_FILE, ModelSpec, load_group
from models.protocol import Model
from models.registry import Family, load_model
from tests.models.conftest import PROMPTS, heard

ARCHITECTURE = (Path(__file__).parents[2] / "ARCHITECTURE.md").read_text(encoding="utf-8")
MODULE, LINE, TABLE = (
    textwrap.dedent(block) for block in re.findall(r"^ *```(?:python|toml)\n(.*?)^ *```", ARCHITECTURE, re.M | re.S)
)


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelSpec:
    """The example's model, its file, line and table put where they say."""
    module = types.ModuleType("models.loudness")
    exec(compile(MODULE, "models/loudness.py", "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, "models.loudness", module)
    families = eval(f"{{{LINE}}}", {"Family": Family})
    monkeypatch.setattr(registry, "FAMILIES", registry.FAMILIES | families)
    group = tmp_path / "group.toml"
    group.write_text(GROUP_FILE.read_text(encoding="utf-8") + TABLE, encoding="utf-8")
    return load_group(("call",), group).models[-1]


def test_it_loads_and_answers(spec: ModelSpec) -> None:
    model: Model = load_model(spec)
    assert (model.name, model.version, model.task) == ("loudness", spec.version, "labels")
    for waveform in heard(PROMPTS / "vm-goodbye.wav"):
        (found,) = model.predict(waveform).detections
        assert (found.label, found.start_s, found.end_s) == ("loud", 0, len(waveform) / model.sample_rate)
        assert model.predict(waveform * np.float32(0.01)).detections == ()


def test_it_changes_no_other_model_and_its_setting_changes_its_version(spec: ModelSpec, tmp_path: Path) -> None:
    path = tmp_path / "group.toml"
    others = load_group(("call",)).models
    assert load_group(("call",), path).models[:-1] == others
    path.write_text(path.read_text().replace("above_dbfs = -12.0", "above_dbfs = -6.0"))
    assert load_group(("call",), path).models[-1].version != spec.version
