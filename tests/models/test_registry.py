"""From a line of the group to a loaded model: nothing is loaded but the weights that the group names."""

import hashlib
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.errors import ModelUnavailableError
from models.group import ModelSpec
from models.registry import FAMILIES, load_model, verified_folder

ROOT = Path(__file__).parents[2]
FILES = ("encoder_model.ort", "decoder_model_merged.ort", "tokenizer.bin")


def refusal(spec: ModelSpec) -> str:
    with pytest.raises(ModelUnavailableError) as error:
        load_model(spec)
    assert spec.name in str(error.value)
    return str(error.value)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: Path) -> Path:
    """A package that must never be run, with a copy of the weights' names and not of their content."""
    folder = tmp_path / "weights_of_ours"
    (folder / "tiny").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('a package of weights was run')")
    for name in FILES:
        (folder / "tiny" / name).write_bytes(b"not " + name.encode())
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder / "tiny"


def test_the_projects_own_weights_are_what_the_group_names(spec: ModelSpec, weights: Path) -> None:
    assert verified_folder(spec) == weights


def test_a_loaded_model_knows_its_name_and_its_version(spec: ModelSpec) -> None:
    model = load_model(spec)
    assert (model.name, model.version, model.task, model.sample_rate, model.wants) == (
        spec.name,
        spec.version,
        "phrases",
        16_000,
        "utterances",
    )


@pytest.mark.parametrize("name", FILES)
def test_a_wrong_sha256_names_the_file_and_both_digests(spec: ModelSpec, name: str) -> None:
    reason = refusal(replace(spec, sha256=dict(spec.sha256) | {name: "0" * 64}))
    assert name in reason
    assert "0" * 64 in reason
    assert spec.sha256[name] in reason


def test_weights_of_a_wrong_sha256_are_not_loaded(spec: ModelSpec, package: Path) -> None:
    reason = refusal(replace(spec, source="package:weights_of_ours/tiny"))
    assert "sha256" in reason  # and not that onnxruntime cannot read them
    assert "cannot be loaded" not in reason


def test_weights_that_onnxruntime_cannot_read_are_refused_with_their_folder(spec: ModelSpec, package: Path) -> None:
    digests = {name: hashlib.sha256((package / name).read_bytes()).hexdigest() for name in FILES}
    reason = refusal(replace(spec, source="package:weights_of_ours/tiny", sha256=digests))
    assert f"cannot be loaded from {package}" in reason


def test_weights_are_checked_and_found_without_running_their_package(spec: ModelSpec, package: Path) -> None:
    digests = {name: hashlib.sha256((package / name).read_bytes()).hexdigest() for name in FILES}
    assert verified_folder(replace(spec, source="package:weights_of_ours/tiny", sha256=digests)) == package


def test_loading_moonshine_does_not_import_its_package() -> None:
    code = (
        "import sys; from models.group import load_group; from models.registry import load_model; "
        "load_model(load_group(('yes',)).models[0]); print({'moonshine_voice', 'torch'} & set(sys.modules) or 'none')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "none"


@pytest.mark.parametrize("name", FILES)
def test_weights_without_a_sha256_in_the_group_are_not_loaded(spec: ModelSpec, name: str) -> None:
    digests = {other: digest for other, digest in spec.sha256.items() if other != name}
    assert name in refusal(replace(spec, sha256=digests))


def test_a_missing_file_of_weights_is_named_with_a_remedy(spec: ModelSpec) -> None:
    reason = refusal(replace(spec, sha256=dict(spec.sha256) | {"vocoder.ort": "0" * 64}))
    assert "vocoder.ort is not there" in reason
    assert "install" in reason


@pytest.mark.parametrize("package", ["no_such_package", "no_such_package/assets", "no_such.package/assets"])
def test_a_missing_package_is_named_with_a_remedy(spec: ModelSpec, package: str) -> None:
    reason = refusal(replace(spec, source=f"package:{package}"))
    assert repr(package.partition("/")[0]) in reason
    assert "not installed" in reason


def test_a_module_without_a_folder_is_no_package(spec: ModelSpec) -> None:
    assert "'json.decoder' is not installed" in refusal(replace(spec, source="package:json.decoder/assets"))


@pytest.mark.parametrize(
    "source",
    ["", "moonshine_voice/assets/tiny-en", "/weights", "folder:", "folder:weights"],
)
def test_a_source_of_another_kind_is_refused_by_its_value(spec: ModelSpec, source: str) -> None:
    reason = refusal(replace(spec, source=source))
    assert repr(source) in reason
    assert "`package:`" in reason
    assert "`folder:`" in reason


def test_weights_may_be_in_any_folder_and_are_checked_there_too(spec: ModelSpec, weights: Path, tmp_path: Path) -> None:
    placed = replace(spec, source=f"folder:{tmp_path}")
    reason = refusal(placed)
    assert f"{tmp_path / FILES[0]} is not there" in reason
    assert "fill the folder" in reason
    for name in FILES:
        (tmp_path / name).write_bytes((weights / name).read_bytes())
    assert verified_folder(placed) == tmp_path
    (tmp_path / FILES[-1]).write_bytes(b"something else")
    assert "sha256" in refusal(placed)


def test_an_unknown_family_is_refused_with_those_that_are_known(spec: ModelSpec) -> None:
    reason = refusal(replace(spec, family="parakeet"))
    assert "'parakeet'" in reason
    assert all(family in reason for family in FAMILIES)


@pytest.mark.parametrize("table", ["settings", "search"])
def test_an_unknown_setting_is_refused_by_its_name(spec: ModelSpec, table: str) -> None:
    assert "temperature" in refusal(replace(spec, **{table: dict(getattr(spec, table)) | {"temperature": 0.7}}))


SETTINGS = ["peak", "silence_s", "tokens_per_s", "denoise_below_db", "denoise_by_db", "denoiser_sha256"]
SEARCH = ["phrases", "least_confidence", "calibration"]


@pytest.mark.parametrize(
    ("table", "name"), [("settings", name) for name in SETTINGS] + [("search", name) for name in SEARCH]
)
def test_a_missing_setting_is_refused_by_its_name(spec: ModelSpec, table: str, name: str) -> None:
    rest = {other: value for other, value in getattr(spec, table).items() if other != name}
    assert f"'{name}'" in refusal(replace(spec, **{table: rest}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("peak", "x"),
        ("peak", 0),
        ("peak", True),
        ("tokens_per_s", math.inf),
        ("silence_s", -1),
        ("denoise_below_db", "no"),
        ("denoise_by_db", math.nan),
        ("denoiser_sha256", 3),
    ],
)
def test_an_impossible_setting_is_refused_by_its_name_and_value(spec: ModelSpec, name: str, value: object) -> None:
    reason = refusal(replace(spec, settings=dict(spec.settings) | {name: value}))
    assert "its settings in the group file are wrong" in reason
    assert f"`{name}`" in reason
    assert repr(value) in reason


def test_an_impossible_search_is_refused_by_its_name_and_value(spec: ModelSpec) -> None:
    reason = refusal(replace(spec, search=dict(spec.search) | {"least_confidence": 5}))
    assert "its settings in the group file are wrong: `least_confidence` must be from 0 to 1, not 5" in reason


def test_a_denoiser_of_other_weights_is_refused(spec: ModelSpec) -> None:
    reason = refusal(replace(spec, settings=dict(spec.settings) | {"denoiser_sha256": "0" * 64}))
    assert "DeepFilterNet3" in reason
    assert "run `make up` again" in reason


def test_settings_that_change_the_output_reach_the_model(spec: ModelSpec) -> None:
    silent = load_model(replace(spec, settings=dict(spec.settings) | {"tokens_per_s": 0}))
    assert silent.predict(np.zeros(16_000, np.float32)).text == ""


def test_every_family_says_whether_it_is_given_utterances() -> None:
    from models import moonshine, scenes, speechbrain_models, whisper

    wants = {
        "moonshine": moonshine.Moonshine.wants,
        "whisper": whisper.Whisper.wants,
        "callscene": scenes.Scenes.wants,
        "speechbrain-asr": speechbrain_models.Recogniser.wants,
        "speechbrain-classifier": speechbrain_models.Classifier.wants,
        "speechbrain-speaker": speechbrain_models.Speaker.wants,
        "speechbrain-vad": speechbrain_models.Speech.wants,
    }
    assert {name: family.utterances for name, family in FAMILIES.items()} == {
        name: want == "utterances" for name, want in wants.items()
    }
