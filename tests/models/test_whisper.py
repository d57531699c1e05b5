"""Whisper without its weights: what it takes to load, and phrases in what it reads. `make eval` runs the real one."""

import hashlib
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from models.confidence import Calibration, Search
from models.errors import ModelUnavailableError
from models.group import ModelSpec, load_group
from models.phrases import words_of
from models.registry import FAMILIES, load_model
from models.whisper import Reading, Said, evidence_of, find, places

ROOT = Path(__file__).parents[2]
CERTAIN = Calibration(0.0, {"log_odds": 1.0, "quality": 0.0})
READING = Reading(
    (
        Said(" Please", 0.2, 0.5, 0.9),
        Said(" leave", 0.5, 0.8, 0.8),
        Said(" twenty", 0.8, 1.1, 0.5),
        Said("-five", 1.1, 1.4, 0.6),
        Said(" messages,", 1.4, 2.0, 0.7),
        Said(" please.", 2.1, 2.6, 0.3),
    ),
    quality=-0.2,
)


@pytest.fixture
def whisper(tmp_path: Path) -> ModelSpec:
    """The project's own entry, with a folder that has the files' names and not their content."""
    (found,) = (spec for spec in load_group(("please",)).models if spec.family == "whisper")
    for name in found.sha256:
        (tmp_path / name).write_text(f"not {name}")
    digests = {name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in found.sha256}
    return replace(found, source=f"folder:{tmp_path}", sha256=digests)


def refusal(spec: ModelSpec) -> str:
    with pytest.raises(ModelUnavailableError) as error:
        load_model(spec)
    assert spec.name in str(error.value)
    return str(error.value)


def looked_for(*phrases: str, least_confidence: float = 0.0) -> Search:
    return Search(phrases, least_confidence, CERTAIN)


def test_the_projects_own_entry_is_disabled_and_names_every_file_to_load(whisper: ModelSpec) -> None:
    assert not whisper.enabled
    assert set(whisper.sha256) == {*FAMILIES["whisper"].files, "vocabulary.txt"}


def test_without_faster_whisper_the_remedy_is_the_extra(whisper: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_whisper", None)  # as if it were not installed
    assert "pip install 'audiophile[whisper]'" in refusal(whisper)


def test_weights_that_faster_whisper_cannot_read_are_refused_with_their_folder(
    whisper: ModelSpec, tmp_path: Path
) -> None:
    assert f"cannot be loaded from {tmp_path}" in refusal(whisper)


def test_weights_of_a_wrong_sha256_are_not_loaded(whisper: ModelSpec, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_text("something else")
    assert "model.bin has sha256" in refusal(whisper)


@pytest.mark.parametrize("name", ["vocabulary.json", "preprocessor_config.json"])
def test_a_file_that_would_be_read_and_has_no_sha256_is_refused(whisper: ModelSpec, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{}")
    assert name in refusal(whisper)


@pytest.mark.parametrize("table", ["settings", "search"])
def test_an_unknown_setting_is_refused_by_its_name(whisper: ModelSpec, table: str) -> None:
    changed = dict(getattr(whisper, table)) | {"temperature": 0.7}
    assert "temperature" in refusal(replace(whisper, **{table: changed}))


@pytest.mark.parametrize(
    ("table", "name"),
    [("settings", name) for name in ("language", "beam_size", "tokens_per_s", "compute_type")]
    + [("search", name) for name in ("phrases", "least_confidence", "calibration")],
)
def test_a_missing_setting_is_refused_by_its_name(whisper: ModelSpec, table: str, name: str) -> None:
    rest = {other: value for other, value in getattr(whisper, table).items() if other != name}
    assert f"'{name}'" in refusal(replace(whisper, **{table: rest}))


@pytest.mark.parametrize(
    ("name", "value"),
    [("language", 3), ("compute_type", ""), ("beam_size", 0), ("beam_size", 2.5), ("tokens_per_s", math.nan)],
)
def test_an_impossible_setting_is_refused_by_its_name_and_value(whisper: ModelSpec, name: str, value: object) -> None:
    reason = refusal(replace(whisper, settings=dict(whisper.settings) | {name: value}))
    assert "its settings in the group file are wrong" in reason
    assert f"`{name}`" in reason
    assert repr(value) in reason


def test_importing_the_family_imports_neither_faster_whisper_nor_torch() -> None:
    code = "import sys, models.whisper; print({'faster_whisper', 'ctranslate2', 'torch'} & set(sys.modules) or 'none')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "none"


def test_the_text_of_a_reading_is_its_words_without_a_space_before_them() -> None:
    assert READING.text == "Please leave twenty-five messages, please."
    assert Reading((), 0.0).text == ""


def test_a_phrase_is_found_at_each_of_its_places_and_in_order_of_time() -> None:
    found = find(READING, looked_for("messages", "please"), 3.0)
    assert [(each.label, each.start_s, each.end_s) for each in found] == [
        ("please", 0.2, 0.5),
        ("messages", 1.4, 2.0),
        ("please", 2.1, 2.6),
    ]


@pytest.mark.parametrize("phrase", ["twenty five messages", "25 messages", "Twenty-Five messages"])
def test_a_phrase_lasts_from_its_first_word_to_its_last_and_is_as_probable_as_all_together(phrase: str) -> None:
    (found,) = find(READING, looked_for(phrase), 3.0)
    assert (found.start_s, found.end_s) == (0.8, 2.0)
    assert found.confidence == pytest.approx(0.5 * 0.6 * 0.7, abs=1e-4)


def test_words_that_whisper_does_not_part_are_given_together() -> None:
    reading = Reading((Said(" voice-mail", 0.0, 0.6, 0.9), Said(" box", 0.6, 1.0, 0.8)), -0.1)
    assert len(words_of(reading.text)) == 3
    ((phrase, said),) = places(reading, ["voice mail"])
    assert (phrase, said) == ("voice mail", [reading.words[0]])


def test_what_is_less_likely_than_asked_for_is_no_detection() -> None:
    (found,) = find(READING, looked_for("please", least_confidence=0.5), 3.0)
    assert found.start_s == 0.2


def test_no_phrase_leaves_the_utterance() -> None:
    found = find(READING, looked_for("please"), 2.5)
    assert max(each.end_s for each in found) == 2.5


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_a_word_of_any_probability_has_a_confidence(probability: float) -> None:
    reading = Reading((Said(" please", 0.0, 1.0, probability),), -0.2)
    (found,) = find(reading, looked_for("please"), 1.0)
    assert found.confidence == pytest.approx(probability, abs=0.01)


def test_the_probability_of_a_phrase_is_that_of_all_its_words_and_the_quality_that_of_the_text() -> None:
    evidence = evidence_of(READING.words[2:4], READING)
    assert evidence["log_odds"] == pytest.approx(math.log(0.3 / 0.7))
    assert evidence["quality"] == READING.quality
