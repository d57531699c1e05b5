"""A model that hangs, crashes or eats the memory when it is loaded takes none of the others with it."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import models.group
from flows import trials
from flows.infer import infer
from flows.ingest import ingest
from flows.trials import refused_at_first
from models.group import GROUP_FILE, ModelSpec, load_group
from storage.availability import read_tried
from storage.lake import Lake
from tests import asterisk, checkpoints
from tests.flows.test_unavailable_models import ENTRY, covered

CRASHES = "x: !apply:os._exit [137]"
HANGS = "x: !apply:time.sleep [600]"
GROWS = "x: !new:torch.nn.Embedding {num_embeddings: 4000000, embedding_dim: 1024}"


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has much else to do takes its time to load what does load."""
    monkeypatch.setattr(trials, "LIMIT_S", 600.0)


@pytest.fixture
def group_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModelSpec]:
    """Adds a trusted model, whose hyperparameters end with a line, to the group."""

    def make(line: str) -> ModelSpec:
        folder = tmp_path / "checkpoint"
        checkpoints.classifier(folder)
        with (folder / "hyperparams.yaml").open("a") as file:
            file.write(f"\n{line}\n")
        digests = "".join(f'"{name}" = "{digest}"\n' for name, digest in checkpoints.digests(folder).items())
        entry = ENTRY.format(folder=folder).replace("enabled = true", "enabled = true\ntrusted = true")
        path = tmp_path / "group.toml"
        path.write_text(GROUP_FILE.read_text(encoding="utf-8") + entry + digests)
        monkeypatch.setattr(models.group.load_group, "__defaults__", (path,))
        return next(spec for spec in load_group(("goodbye",)).enabled if spec.name == "commands")

    return make


@pytest.mark.parametrize(
    ("line", "why"),
    [(CRASHES, "ends the process that loads it"), (HANGS, "not loaded after 10 s"), (GROWS, "GiB|memory")],
    ids=["crashes", "hangs", "grows"],
)
def test_what_does_not_load_is_refused_with_the_reason(
    group_with: Callable[[str], ModelSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, why: str
) -> None:
    if line == HANGS:
        monkeypatch.setattr(trials, "LIMIT_S", 10.0)
    spec = group_with(line)
    (reason,) = refused_at_first([spec], tmp_path / "models").values()
    assert re.search(why, reason), reason
    assert not list((tmp_path / "models").glob("loaded/*"))


def test_what_was_loaded_once_is_not_tried_again_until_its_entry_changes(
    group_with: Callable[[str], ModelSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = group_with("x: 1")
    tried: list[str] = []
    load = trials._load_apart
    monkeypatch.setattr(trials, "_load_apart", lambda spec, cache: tried.append(spec.name) or load(spec, cache))
    every: list[Any] = [*load_group(("goodbye",)).enabled]
    assert refused_at_first(every, tmp_path / "models") == {}
    assert refused_at_first(every, tmp_path / "models") == {}
    assert tried == [spec.name], "and none that came with an installed package"
    assert refused_at_first([group_with("x: 2")], tmp_path / "models") == {}
    assert tried == [spec.name] * 2


def test_the_others_are_published_without_it(
    prefect_url: str, lake: Lake, incoming: Path, group_with: Callable[[str], ModelSpec]
) -> None:
    asterisk.require()
    shutil.copy(asterisk.SOUNDS / "vm-goodbye.wav", incoming)
    ingest()
    group_with(CRASHES)
    assert infer(return_state=True).message.startswith("Reference ")
    assert covered(lake) == {"moonshine-tiny-en": {"computed"}, "callscene": {"computed"}}
    tried = read_tried(lake.store)
    assert tried["callscene"].reason is None
    assert "ends the process that loads it" in (tried["commands"].reason or "")
