"""SpeechBrain's own loading and inference, on small checkpoints made here and on real speech."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models import registry
from models.errors import ModelUnavailableError
from models.group import ModelSpec, load_group
from models.protocol import Model
from models.registry import load_model
from models.speechbrain_loading import HYPERPARAMS
from tests import checkpoints
from tests.models.test_trust import HOSTILE, Hostile, hostile_checkpoints

ROOT = Path(__file__).parents[2]
CALLSCENE = ROOT / "models" / "callscene"
SECOND = 16_000
FAMILIES = ("speechbrain-asr", "speechbrain-classifier", "speechbrain-speaker", "speechbrain-vad")
Load = Callable[..., Any]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, two_cities: list[NDArray[np.float32]]) -> Path:
    """A folder with a checkpoint for each kind of model."""
    found = tmp_path_factory.mktemp("checkpoints")
    checkpoints.classifier(found / "classifier")
    checkpoints.ctc(found / "ctc", ["it ", "was ", "the ", "times ", "best "], said=4)
    checkpoints.seq2seq(found / "seq2seq")
    checkpoints.seq2seq(found / "greedy", checkpoints.GREEDY, end_bias=0.4)
    waveform, spoken = between_silence(two_cities[0])
    checkpoints.speech(found / "speech", waveform, spoken[::160])
    return found


def between_silence(utterance: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return three seconds of speech between two of near silence each, and which samples are speech."""
    said = utterance[SECOND : 4 * SECOND]
    quiet = np.random.default_rng(1).normal(0, 1e-4, 2 * SECOND).astype(np.float32)
    spoken = np.repeat([False, True, False], [2 * SECOND, len(said), 2 * SECOND])
    return np.concatenate([quiet, said, quiet]), spoken


@pytest.fixture
def entry(folder: Path, tmp_path: Path) -> Callable[..., ModelSpec]:
    """Makes the project's own entry of a family, with a checkpoint made here."""

    def make(family: str, kind: str, **changes: Any) -> ModelSpec:
        found = next(spec for spec in load_group(("times", "best of")).models if spec.family == family)
        digests = checkpoints.digests(folder / kind)
        return replace(found, source=f"folder:{folder / kind}", sha256=digests, revision="", **changes)

    return make


@pytest.fixture
def load(entry: Callable[..., ModelSpec], tmp_path: Path) -> Load:
    """Loads that entry."""

    def loaded(family: str, kind: str, **changes: Any) -> Model:
        return load_model(entry(family, kind, **changes), tmp_path / "cache")

    return loaded


def settings_of(family: str, **changes: Any) -> dict[str, Any]:
    spec = next(spec for spec in load_group(()).models if spec.family == family)
    return {**spec.settings, **changes}


def test_the_projects_own_entries_are_disabled_and_say_how_to_pin_them(tmp_path: Path) -> None:
    entries = [spec for spec in load_group(()).models if spec.family.startswith("speechbrain")]
    assert {spec.family for spec in entries} == set(FAMILIES)
    for spec in entries:
        assert not spec.enabled
        assert not spec.trusted
        with pytest.raises(ModelUnavailableError) as error:
            load_model(spec, tmp_path)
        assert f"python -m models.sources pin {spec.source}" in str(error.value)


def test_importing_the_families_imports_neither_speechbrain_nor_torch() -> None:
    code = (
        "import sys, models.sources, models.trust, models.speechbrain_models as m; "
        "print({'speechbrain', 'torch', 'huggingface_hub', 'fsspec', 'ruamel'} & set(sys.modules) or 'none')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "none"


def test_a_classifier_names_the_likeliest_classes_of_the_whole_utterance(
    load: Load, two_cities: list[NDArray[np.float32]]
) -> None:
    family = "speechbrain-classifier"
    model = load(family, "classifier", settings=settings_of(family, top=2, least_confidence=0.0, softmax=True))
    assert (model.task, model.wants, model.sample_rate) == ("labels", "utterances", SECOND)
    waveform = two_cities[0]
    answer = model.predict(waveform)
    assert answer.text is None
    first, second = answer.detections
    assert {first.label, second.label} < {"yes", "no", "up", "down"}
    assert 1 >= first.confidence >= second.confidence > 0
    assert (first.start_s, first.end_s) == (0, len(waveform) / SECOND)
    _, _, _, labels = model.interface.classify_batch(torch.from_numpy(waveform)[None])
    assert labels == [first.label], "as SpeechBrain itself says"
    model.predict(two_cities[1])
    assert model.predict(waveform) == answer, "an answer depends on its waveform alone"


def test_a_classifiers_settings_are_what_decides(load: Load, two_cities: list[NDArray[np.float32]]) -> None:
    family, waveform = "speechbrain-classifier", two_cities[0]

    def confidences(**changes: Any) -> list[float]:
        settings = settings_of(family, top=4, least_confidence=0.0, softmax=True, **changes)
        model = load(family, "classifier", settings=settings)
        return [found.confidence for found in model.predict(waveform).detections]

    plain, sharp = confidences(scale=1.0), confidences(scale=30.0)
    assert sum(plain) == pytest.approx(1, abs=0.001)
    assert sum(sharp) == pytest.approx(1, abs=0.001)
    assert sharp[0] > plain[0]
    settings = settings_of(family, top=4, least_confidence=1.0, softmax=True, scale=1.0)
    assert load(family, "classifier", settings=settings).predict(waveform).detections == ()


def test_an_embedding_has_unit_length_and_no_detections(load: Load, two_cities: list[NDArray[np.float32]]) -> None:
    model = load("speechbrain-speaker", "classifier")
    assert model.task == "speaker"
    answer = model.predict(two_cities[0])
    assert answer.detections == ()
    assert answer.embedding.dtype == np.float16
    assert answer.embedding.shape == (12,)
    assert np.linalg.norm(answer.embedding.astype(np.float32)) == pytest.approx(1, abs=0.002)
    other = model.predict(two_cities[1]).embedding
    assert not np.array_equal(answer.embedding, other)
    assert np.array_equal(model.predict(two_cities[0]).embedding, answer.embedding)


def test_a_recogniser_reads_and_places_its_phrases_in_time(load: Load, two_cities: list[NDArray[np.float32]]) -> None:
    model = load("speechbrain-asr", "ctc")
    waveform = two_cities[0]
    answer = model.predict(waveform)
    assert answer.text == "times", "of the same tokens in a row, CTC keeps one"
    (found,) = answer.detections
    assert found.label == "times"
    assert 0 <= found.start_s < found.end_s <= len(waveform) / SECOND
    assert 0.5 < found.confidence <= 1
    assert model.predict(waveform, "nobody says it").detections == ()
    known = model.predict(waveform, "it was the best of times")
    assert known.text == "it was the best of times"
    assert [each.label for each in known.detections] == ["best of", "times"]
    assert known.detections[0].end_s <= known.detections[1].start_s


def test_a_recogniser_with_a_decoder_reads_too(load: Load, two_cities: list[NDArray[np.float32]]) -> None:
    model = load("speechbrain-asr", "seq2seq")
    text, quality = model.read(two_cities[0])
    assert set(text) <= set("itwashebofr o")
    assert -10 < quality < 0
    batch = torch.from_numpy(two_cities[0])[None]
    assert model.interface.transcribe_batch(batch, torch.ones(1))[0][0].strip() == text


def test_a_greedy_decoder_that_ends_is_as_sure_as_its_tokens(load: Load, two_cities: list[NDArray[np.float32]]) -> None:
    calibration = {"offset": 3.0, "quality": 1.0}  # these weights are sure of nothing
    search = {"phrases": ["o", "os"], "least_confidence": 0.1, "calibration": calibration}
    model = load("speechbrain-asr", "greedy", search=search)
    outputs: list[Any] = []
    model.interface.mods["decoder"].register_forward_hook(lambda *given: outputs.append(given[-1]))
    text, quality = model.read(two_cities[0])
    ((tokens,), _, scores, log_probabilities) = outputs[0]
    assert text in ("o", "os")
    assert len(text) == len(tokens) < log_probabilities.shape[2], "it has ended, and not run out of steps"
    assert log_probabilities[0, 0, len(tokens)].max() == -torch.inf
    assert quality == pytest.approx(float(scores[0, 0, : len(tokens)].mean()))
    (found,) = model.predict(two_cities[0]).detections
    assert (found.label, found.confidence) == (text, round(1 / (1 + np.exp(-3 - quality)), 4))


def test_speech_is_found_where_it_is(load: Load, two_cities: list[NDArray[np.float32]]) -> None:
    model = load("speechbrain-vad", "speech")
    assert (model.task, model.wants) == ("labels", "windows")
    waveform, spoken = between_silence(two_cities[0])
    answer = model.predict(waveform)
    assert {found.label for found in answer.detections} == {"speech"}
    heard = np.zeros(len(waveform), bool)
    for found in answer.detections:
        assert 0 <= found.start_s < found.end_s <= len(waveform) / SECOND
        assert 0.25 <= found.confidence <= 1
        heard[round(found.start_s * SECOND) : round(found.end_s * SECOND)] = True
    assert np.mean(heard == spoken) > 0.8
    assert model.predict(waveform) == answer
    assert len(model.probabilities(np.tile(waveform, 4))[0]) == 4 * len(waveform) // 160, "longer than one chunk"


@pytest.mark.parametrize(
    ("family", "kind"), list(zip(FAMILIES, ("ctc", "classifier", "classifier", "speech"), strict=True))
)
@pytest.mark.parametrize("length", [0, 1, 800])
def test_next_to_nothing_is_no_error(load: Load, family: str, kind: str, length: int) -> None:
    assert load(family, kind).predict(np.zeros(length, np.float32)).text in (None, "", "times")


def test_nothing_is_left_behind_but_the_files(load: Load, entry: Callable[..., ModelSpec], tmp_path: Path) -> None:
    load("speechbrain-classifier", "classifier")
    spec = entry("speechbrain-classifier", "classifier")
    (assembled,) = (tmp_path / "cache" / "folders").iterdir()
    assert checkpoints.digests(assembled) == spec.sha256


def refusal(spec: ModelSpec, cache: Path) -> str:
    with pytest.raises(ModelUnavailableError) as error:
        load_model(spec, cache)
    assert str(error.value).startswith(f"{spec.name}: ")
    assert not str(error.value).startswith(f"{spec.name}: {spec.name}")
    return str(error.value)


@pytest.fixture
def changed(entry: Callable[..., ModelSpec], tmp_path: Path) -> Callable[..., ModelSpec]:
    """Makes a copy of the classifier, in which a file has another content."""

    def change(name: str, content: bytes | Callable[[bytes], bytes], **changes: Any) -> ModelSpec:
        spec = entry("speechbrain-classifier", "classifier", **changes)
        copy = tmp_path / "copy"
        copy.mkdir()
        for path in Path(spec.source.removeprefix("folder:")).iterdir():
            (copy / path.name).write_bytes(path.read_bytes())
        before = (copy / name).read_bytes()
        (copy / name).write_bytes(content(before) if callable(content) else content)
        return replace(spec, source=f"folder:{copy}", sha256=checkpoints.digests(copy))

    return change


def test_a_hostile_checkpoint_is_refused_and_nothing_of_it_runs(
    changed: Callable[..., ModelSpec], tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    torch.save({"weight": Hostile(str(marker))}, tmp_path / "hostile")
    reason = refusal(changed("classifier.ckpt", (tmp_path / "hostile").read_bytes()), tmp_path / "cache")
    assert "classifier.ckpt is refused" in reason
    assert "`trusted = true`" in reason
    assert not marker.exists()


def test_hostile_hyperparameters_are_refused_and_nothing_of_them_runs(
    changed: Callable[..., ModelSpec], tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    line = f"\n__x: !apply:os.system [touch {marker}]\n".encode()
    reason = refusal(changed("hyperparams.yaml", lambda text: text + line), tmp_path / "cache")
    assert "hyperparams.yaml, line " in reason
    assert "!apply:os.system" in reason
    assert not marker.exists()


def test_what_is_listed_as_trusted_may_do_as_it_likes(changed: Callable[..., ModelSpec], tmp_path: Path) -> None:
    line = f"\n__x: !apply:os.mkdir [{tmp_path / 'made'}]\n"
    spec = changed("hyperparams.yaml", lambda text: text + line.encode(), trusted=True)
    assert load_model(spec, tmp_path / "cache").predict(np.ones(SECOND, np.float32)).detections
    assert (tmp_path / "made").is_dir()
    reason = refusal(replace(spec, sha256={**spec.sha256, "hyperparams.yaml": "0" * 64}), tmp_path / "cache")
    assert "sha256" in reason, "trust is in these bytes, and no others"


def test_a_file_that_the_hyperparameters_read_needs_a_digest(entry: Callable[..., ModelSpec], tmp_path: Path) -> None:
    spec = entry("speechbrain-classifier", "classifier")
    named = {name: digest for name, digest in spec.sha256.items() if name != "label_encoder.txt"}
    assert "label_encoder.txt" in refusal(replace(spec, sha256=named), tmp_path / "cache")


def test_a_checkpoint_that_lacks_weights_is_refused(changed: Callable[..., ModelSpec], tmp_path: Path) -> None:
    torch.save({}, tmp_path / "empty")
    reason = refusal(changed("classifier.ckpt", (tmp_path / "empty").read_bytes()), tmp_path / "cache")
    assert "does not fit" in reason
    assert "weight" in reason


def test_weights_that_no_file_fills_are_refused(changed: Callable[..., ModelSpec], tmp_path: Path) -> None:
    spec = changed(
        "hyperparams.yaml", lambda text: text.replace(b"        classifier: !ref <classifier>\n    ", b"    ")
    )
    reason = refusal(spec, tmp_path / "cache")
    assert "no file has the weights classifier" in reason


def test_a_classifier_without_labels_is_refused(changed: Callable[..., ModelSpec], tmp_path: Path) -> None:
    spec = changed("hyperparams.yaml", lambda text: text.replace(b"label_encoder: !new", b"labels: !new"))
    assert "label_encoder" in refusal(spec, tmp_path / "cache")
    path = Path(spec.source.removeprefix("folder:")) / "hyperparams.yaml"
    path.write_bytes(path.read_bytes().replace(b"<label_encoder>", b"<labels>"))
    spec = replace(spec, sha256=checkpoints.digests(path.parent))
    assert "label_encoder" in refusal(spec, tmp_path / "cache"), "SpeechBrain finds nothing wrong with it"


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"out_neurons: 4", b"out_neurons: 5"), (b"out_neurons: 4", b"neurons: 4"), (b"modules:", b"layers:")],
)
def test_files_that_do_not_fit_are_refused(
    changed: Callable[..., ModelSpec], tmp_path: Path, old: bytes, new: bytes
) -> None:
    spec = changed("hyperparams.yaml", lambda text: text.replace(old, new))
    assert "SpeechBrain cannot load it" in refusal(spec, tmp_path / "cache")


@pytest.mark.parametrize(
    ("family", "kind"), list(zip(FAMILIES, ("ctc", "classifier", "classifier", "speech"), strict=True))
)
def test_an_unknown_setting_is_refused_by_its_name(
    entry: Callable[..., ModelSpec], tmp_path: Path, family: str, kind: str
) -> None:
    spec = entry(family, kind)
    assert "loudness" in refusal(replace(spec, settings={**spec.settings, "loudness": 1}), tmp_path / "cache")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("top", "many"),
        ("top", 1.5),
        ("top", 0),
        ("top", True),
        ("scale", "30"),
        ("scale", 0),
        ("least_confidence", 2),
        ("least_confidence", "no"),
        ("softmax", 1),
        ("softmax", "no"),
    ],
)
def test_an_impossible_setting_of_a_classifier_is_refused(
    entry: Callable[..., ModelSpec], tmp_path: Path, name: str, value: object
) -> None:
    spec = entry("speechbrain-classifier", "classifier")
    reason = refusal(replace(spec, settings={**spec.settings, name: value}), tmp_path / "cache")
    assert f"settings in the group file are wrong: `{name}` must be" in reason
    assert repr(value) in reason


@pytest.mark.parametrize(
    ("name", "value"),
    [("activation", 2), ("deactivation", 0.9), ("close_s", -1), ("short_s", "x"), ("chunk_s", 0), ("chunk_s", 1e9)],
)
def test_an_impossible_setting_of_a_detector_is_refused(
    entry: Callable[..., ModelSpec], tmp_path: Path, name: str, value: object
) -> None:
    spec = entry("speechbrain-vad", "speech")
    reason = refusal(replace(spec, settings={**spec.settings, name: value}), tmp_path / "cache")
    assert f"settings in the group file are wrong: `{name}` must be" in reason


@pytest.mark.parametrize("rate", [b"0", b"-1", b"4000", b"10000000", b"many", b"[16000]", b"null"])
def test_an_impossible_sample_rate_is_refused(changed: Callable[..., ModelSpec], tmp_path: Path, rate: bytes) -> None:
    def with_rate(text: bytes) -> bytes:
        text = text.replace(b"sample_rate: 16000", b"sample_rate: " + rate)
        return text.replace(b"sample_rate: !ref <sample_rate>", b"sample_rate: 16000")

    assert "`sample_rate` must be" in refusal(changed("hyperparams.yaml", with_rate), tmp_path / "cache")


@pytest.mark.parametrize("resolution", [b"0", b"-0.01", b"1e-9", b"60", b"soon"])
def test_an_impossible_time_resolution_is_refused(
    entry: Callable[..., ModelSpec], folder: Path, tmp_path: Path, resolution: bytes
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder / "speech", copy)
    path = copy / "hyperparams.yaml"
    path.write_bytes(path.read_bytes().replace(b"time_resolution: 0.01", b"time_resolution: " + resolution))
    spec = replace(entry("speechbrain-vad", "speech"), source=f"folder:{copy}", sha256=checkpoints.digests(copy))
    assert "`time_resolution` must be" in refusal(spec, tmp_path / "cache")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"'no' => 1\n", b"", "from 0 without gaps"),
        (b"'yes' => 0\n", b"'yes' => -7\n", "from 0 without gaps"),
        (b"'down' => 3\n", b"", "files do not fit each other"),  # SpeechBrain itself looks for the likeliest one's
        (b"'down' => 3\n", b"'down' => 3\n'left' => 4\n", "4 outputs and 5 labels"),
    ],
)
def test_labels_that_do_not_fit_the_outputs_are_refused(
    changed: Callable[..., ModelSpec], tmp_path: Path, old: bytes, new: bytes, reason: str
) -> None:
    def with_labels(text: bytes) -> bytes:
        assert old in text
        return text.replace(old, new)

    assert reason in refusal(changed("label_encoder.txt", with_labels), tmp_path / "cache")


@pytest.mark.parametrize("family", ["speechbrain-classifier", "speechbrain-speaker"])
def test_weights_that_are_no_numbers_are_refused(
    changed: Callable[..., ModelSpec], tmp_path: Path, family: str
) -> None:
    spec = changed("embedding_model.ckpt", lambda before: before)
    path = Path(spec.source.removeprefix("folder:")) / "embedding_model.ckpt"
    weights = torch.load(path, weights_only=True)
    torch.save(
        {name: weight * torch.nan if weight.is_floating_point() else weight for name, weight in weights.items()}, path
    )
    settings = spec.settings if family == spec.family else {}
    spec = replace(spec, family=family, settings=settings, sha256=checkpoints.digests(path.parent))
    assert "s of noise" in refusal(spec, tmp_path / "cache")


def test_more_weights_than_the_files_can_fill_are_not_made(changed: Callable[..., ModelSpec], tmp_path: Path) -> None:
    line = b"big: !new:torch.nn.Embedding {num_embeddings: 20000, embedding_dim: 1024}\n"
    spec = changed("hyperparams.yaml", lambda text: text + line)
    reason = refusal(spec, tmp_path / "cache")
    assert "more weights than its files can fill" in reason
    path = tmp_path / "copy" / "hyperparams.yaml"
    path.write_bytes(path.read_bytes().replace(b"20000", b"20"))
    small = replace(spec, sha256=checkpoints.digests(path.parent))
    assert load_model(small, tmp_path / "cache").predict(np.ones(SECOND, np.float32))


def test_no_file_is_read_but_those_that_the_group_names(
    changed: Callable[..., ModelSpec], folder: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere.ckpt"
    shutil.copy(folder / "classifier" / "classifier.ckpt", elsewhere)
    made = b"speechbrain.utils.parameter_transfer.Pretrainer"
    lines = (
        b"__x: !apply:" + made + b".add_loadables [!ref <pretrainer>, {more: !ref <classifier>}]\n"
        b"__y: !apply:" + made + b".add_paths [!ref <pretrainer>, {more: " + str(elsewhere).encode() + b"}]\n"
    )
    spec = changed("hyperparams.yaml", lambda text: text + lines, trusted=True)
    reason = refusal(spec, tmp_path / "cache")
    assert "its pretrainer reads" in reason
    assert str(elsewhere) in reason


HOSTILE_ENTRIES = """
import sys
from dataclasses import replace
from pathlib import Path
from models.errors import ModelUnavailableError
from models.group import load_group
from models.registry import load_model
from tests import checkpoints

families = {spec.family: spec for spec in load_group(()).models}
for folder in sorted(Path(sys.argv[1]).glob("*/*")):
    found = families[folder.parent.name]
    try:
        load_model(replace(found, source=f"folder:{folder}", sha256=checkpoints.digests(folder)), Path(sys.argv[2]))
    except ModelUnavailableError as error:
        why = "hyperparams.yaml" in str(error) or "embedding_model.ckpt is refused" in str(error)
        print(folder.parent.name, folder.name, "refused" if why else error, sep="/", flush=True)
    else:
        print(folder.parent.name, folder.name, "LOADED", sep="/", flush=True)
"""
READ_BY_SPEECHBRAIN = [name for name, family in registry.FAMILIES.items() if HYPERPARAMS in family.files]


@pytest.fixture(scope="module")
def hostile(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess]:
    """Hostile folders of each family, below one folder, and what one process says that loads them all."""
    every, cache = tmp_path_factory.mktemp("hostile"), tmp_path_factory.mktemp("cache")
    for family in READ_BY_SPEECHBRAIN:
        place, marker, honest = every / family, every / f"marker-{family}", folder / "classifier"
        if family == "callscene":
            honest = tmp_path_factory.mktemp("honest") / "callscene"
            shutil.copytree(CALLSCENE, honest, ignore=shutil.ignore_patterns("README.md"))
        for name, text in HOSTILE.items():
            shutil.copytree(honest, place / name.replace("/", " "))
            with (place / name.replace("/", " ") / "hyperparams.yaml").open("a", encoding="utf-8") as file:
                file.write("\n" + text.replace("MARKER", str(marker)) + "\n")
        for name, path in hostile_checkpoints(tmp_path_factory.mktemp("checkpoints"), marker).items():
            shutil.copytree(honest, place / f"checkpoint {name}")
            shutil.copy(path, place / f"checkpoint {name}" / "embedding_model.ckpt")
    program = [sys.executable, "-c", HOSTILE_ENTRIES, str(every), str(cache)]
    return every, subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("family", READ_BY_SPEECHBRAIN)
def test_nothing_hostile_runs_in_a_process_that_scores(
    hostile: tuple[Path, subprocess.CompletedProcess], family: str
) -> None:
    every, done = hostile
    said = [line for line in done.stdout.splitlines() if line.startswith(f"{family}/")]
    assert sorted(said) == sorted(f"{family}/{path.name}/refused" for path in (every / family).iterdir()), done.stderr
    assert not (every / f"marker-{family}").exists()


OFFLINE = """
import socket, sys
from dataclasses import replace
from pathlib import Path
import numpy as np

def refuse(*_):
    raise AssertionError("the network was asked")

socket.socket.connect = socket.getaddrinfo = refuse
from models.group import load_group
from models.registry import load_model
from tests import checkpoints
folder = Path(sys.argv[1])
found = next(spec for spec in load_group(()).models if spec.family == "speechbrain-speaker")
spec = replace(found, source=f"folder:{folder}", sha256=checkpoints.digests(folder))
print(load_model(spec, Path(sys.argv[2])).predict(np.ones(16000, np.float32)).embedding.shape)
"""


def test_loading_asks_no_network(folder: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, str(folder / "classifier"), str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "(12,)", done.stderr
