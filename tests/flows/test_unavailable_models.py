"""A model that cannot be loaded keeps nothing back, says why, and is made up for once it can be."""

import re
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import models.group
from api.app import create_app
from flows.infer import infer
from flows.ingest import ingest
from models.errors import ModelUnavailableError
from models.group import GROUP_FILE, Group, load_group
from storage.availability import read_tried, try_all_again
from storage.lake import Lake
from storage.recordings import predictions
from storage.settings import get_settings
from tests import asterisk, checkpoints
from tests.flows.conftest import run_python
from tests.flows.refreshing import refreshed
from tests.serving import serving

ENTRY = """
[[model]]
name = "commands"
family = "speechbrain-classifier"
task = "labels"
enabled = true
source = "folder:{folder}"
[model.settings]
top = 1
least_confidence = 0.0
softmax = true
scale = 1.0
[model.sha256]
"""

IDLE = """
import sys
from pathlib import Path
import models.group
models.group.load_group.__defaults__ = (Path({path!r}),)
from flows.infer import infer
if __name__ == "__main__":
    print("REFERENCE", infer(return_state=True).message)
    print("TORCH", "torch" in sys.modules)
"""


@pytest.fixture
def mend(tmp_path: Path) -> Path:
    """A checkpoint that is not where the group says; to mend it, move it there."""
    checkpoints.classifier(tmp_path / "elsewhere")
    return tmp_path / "elsewhere"


@pytest.fixture
def group_file(tmp_path: Path, mend: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project's group, and a model whose files are not there."""
    path = tmp_path / "group.toml"
    digests = "".join(f'"{name}" = "{digest}"\n' for name, digest in checkpoints.digests(mend).items())
    path.write_text(GROUP_FILE.read_text(encoding="utf-8") + ENTRY.format(folder=tmp_path / "there") + digests)
    monkeypatch.setattr(models.group.load_group, "__defaults__", (path,))
    return path


@pytest.fixture
def ingested(prefect_url: str, lake: Lake, incoming: Path) -> Lake:
    asterisk.require()
    for name in ("vm-goodbye", "vm-instructions"):
        shutil.copy(asterisk.SOUNDS / f"{name}.wav", incoming)
    ingest()
    return lake


OTHERS_CARRIED = {"moonshine-tiny-en": {"carried"}, "callscene": {"carried"}}


def refreshes(lake: Lake) -> int:
    with lake.index() as index:
        return len(index.query("SELECT * FROM entries WHERE op = 'refresh'"))


def covered(lake: Lake) -> dict[str, set[str]]:
    """Return the states of each model's answers in the latest references."""
    found: dict[str, set[str]] = {}
    with lake.index() as index:
        for row in index.query("SELECT model, state FROM coverage JOIN latest USING (file_id, seq)"):
            found.setdefault(row["model"], set()).add(row["state"])
    return found


def shown() -> dict[str, Any]:
    with serving(create_app(get_settings())) as http:
        return {row["name"]: row for row in http.get("/api/models").raise_for_status().json() if row["enabled"]}


def test_the_others_go_on_and_it_is_made_up_for_once_it_is_mended(
    prefect_url: str, ingested: Lake, group_file: Path, mend: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tables: list[list[dict[str, Any]]] = []
    monkeypatch.setattr("flows.infer_report.create_table_artifact", lambda **given: tables.append(given["table"]))
    assert infer(return_state=True).message.startswith("Reference ")
    with ingested.index() as index:
        assert {found.label for found in predictions(index)} >= {"goodbye", "messages", "speech"}
    assert covered(ingested) == {"moonshine-tiny-en": {"computed"}, "callscene": {"computed"}}
    why = f"{tmp_path / 'there' / 'classifier.ckpt'} is not there"
    assert why in tables[-1][0]["unavailable models"]
    answers = shown()
    assert answers["moonshine-tiny-en"]["available"] is True
    assert answers["commands"]["available"] is False
    assert why in answers["commands"]["reason"]
    assert datetime.fromisoformat(answers["commands"]["since"]) <= datetime.now(UTC)

    idle = run_python(IDLE.format(path=str(group_file)), prefect_url)
    assert "REFERENCE Nothing is missing, but for what cannot be loaded: commands" in idle.stdout, idle.stderr[-2000:]
    assert "TORCH False" in idle.stdout
    assert refreshes(ingested) == 1

    mend.rename(tmp_path / "there")
    try_all_again(ingested.store)
    assert infer(return_state=True).message.startswith("Reference ")
    assert covered(ingested) == OTHERS_CARRIED | {"commands": {"computed"}}
    assert shown()["commands"]["available"] is True
    assert tables[-1][0]["unavailable models"] == ""
    assert refreshes(ingested) == 2


def test_trying_again_in_vain_publishes_nothing(prefect_url: str, ingested: Lake, group_file: Path) -> None:
    infer()
    since = read_tried(ingested.store)["commands"].since
    try_all_again(ingested.store)
    assert "cannot be loaded: commands" in infer(return_state=True).message
    assert refreshes(ingested) == 1
    known = read_tried(ingested.store)["commands"]
    assert known.since == since
    assert known.next_try_at is not None
    assert known.next_try_at > datetime.now(UTC)


class Refresh:
    """A refresh without processes, of a group that may have a model which cannot be loaded."""

    def __init__(self, lake: Lake, group: Group) -> None:
        self.lake, self.group = lake, group

    def run(self, unavailable: frozenset[str] = frozenset()) -> tuple[set[str], bool]:
        """Return what was refused, and whether there is a new reference."""
        with self.lake.index() as index:
            done = refreshed(self.lake, index, self.group, unavailable)
        return done.refused, done.entry is not None


def test_answers_that_a_model_gave_before_are_kept_while_it_is_unavailable(
    ingested: Lake, group_file: Path, mend: Path, tmp_path: Path
) -> None:
    shutil.copytree(mend, tmp_path / "there")
    assert Refresh(ingested, load_group(("goodbye",))).run() == (set(), True)
    computed = {"computed"}
    assert covered(ingested) == {"moonshine-tiny-en": computed, "callscene": computed, "commands": computed}
    other = Refresh(ingested, load_group(("messages",)))
    assert other.run(frozenset({"commands"})) == (set(), True)
    assert covered(ingested) == OTHERS_CARRIED | {"moonshine-tiny-en": {"computed"}, "commands": {"carried"}}
    assert other.run(frozenset({"commands"})) == (set(), False)
    assert Refresh(ingested, load_group(("goodbye",))).run(
        frozenset({"commands", "moonshine-tiny-en", "callscene"})
    ) == (
        set(),
        True,
    ), "what is kept needs no model"
    assert covered(ingested) == OTHERS_CARRIED | {"commands": {"carried"}}


def test_a_group_of_which_nothing_can_be_loaded_fails_each_run(
    prefect_url: str, ingested: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "group.toml"
    text = GROUP_FILE.read_text(encoding="utf-8")
    text, changed = re.subn(r'^("(?:tokenizer\.bin|classifier\.ckpt)" = ")....', r"\g<1>0000", text, flags=re.MULTILINE)
    assert changed == 2
    path.write_text(text, encoding="utf-8")
    monkeypatch.setattr(models.group.load_group, "__defaults__", (path,))
    for _ in range(2):  # the second time it rests, and needs no process to know
        with pytest.raises(ModelUnavailableError, match=r"tokenizer\.bin"):
            infer()
    assert refreshes(ingested) == 0
