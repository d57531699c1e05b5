"""Hostile hyperparameters and checkpoints are refused by what they are, and nothing of them runs."""

import os
import pickle
import pydoc
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from models.errors import ModelUnavailableError
from models.trust import ENCODERS, NAMES, OBJECTS, loadables, require_harmless, require_plain, resolved_hyperparams

ROOT = Path(__file__).parents[2]

HONEST = """
# comments are no concern
n_mels: 40
width: !ref <n_mels> * 2 - 16
paths: {root: somewhere}
path: !ref <paths[root]>/weights.ckpt
shape: (null, 10, 40)
name: "(inaudible)"
half: !ref <n_mels> / 2
again: !copy <paths>
compute_features: !new:speechbrain.lobes.features.Fbank
    n_mels: !ref <n_mels>
activation: !name:torch.nn.LeakyReLU
    negative_slope: 0.1
label_encoder: !new:speechbrain.dataio.encoder.CategoricalEncoder
tokenizer: !new:sentencepiece.SentencePieceProcessor
linear: !new:torch.nn.Linear
    in_features: 2
    out_features: 2
modules:
    compute_features: !ref <compute_features>
    linear: !ref <linear>
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        linear: !ref <linear>
        label_encoder: !ref <label_encoder>
        tokenizer: !ref <tokenizer>
    paths:
        label_encoder: !ref <paths[root]>/folder/label_encoder.txt
"""

# What would write the file MARKER, each in a way of its own.
HOSTILE = {
    "apply": "x: !apply:os.system [touch MARKER]",
    "apply getattr": "x: !apply:getattr [!name:torch.nn.ReLU , __class__]",
    "apply of a harmless looking function": "x: !apply:torch.hub.load [MARKER]",
    "new": "x: !new:subprocess.Popen [[touch, MARKER]]",
    "new below a module that is known": "x: !new:torch.nn.modules.module.os.system [touch MARKER]",
    "new of a known name's member": "x: !new:torch.nn.Linear.__init__.__globals__ [1]",
    "new, written in another way": "x: !new:subprocess%2EPopen [[touch, MARKER]]",
    "new through a handle": "%TAG !n! !new:\n---\nx: !n!subprocess.Popen [[touch, MARKER]]",
    "new in full": "x: !<!new:subprocess.Popen> [[touch, MARKER]]",
    "name": "x: !name:os.system [touch MARKER]",
    "module": "x: !module:antigravity",
    "python/object/apply": "x: !!python/object/apply:os.system [touch MARKER]",
    "python/object/new": "x: !!python/object/new:subprocess.Popen [[touch, MARKER]]",
    "python/name": "x: !!python/name:os.system",
    "python/module": "x: !!python/module:antigravity",
    "applyref": "x: !applyref:os.system [touch MARKER]",
    "include": "x: !include:other.yaml",
    "a key": "? !apply:os.system [touch MARKER]\n: 1",
    "deep": "x: {y: [1, {z: !apply:os.system [touch MARKER]}]}",
    "brackets": "x: (!!python/object/apply:os.system ['touch MARKER'])",
    "quoted brackets": "x: \"(!!python/object/apply:os.system ['touch MARKER'])\"",
    "brackets put together": "a: '(!!python/object/apply:os.sys'\nx: !ref <a>tem [touch MARKER])",
    "brackets from parts": "a: '!!python/object/apply:os.system'\nb: '[touch MARKER]'\nx: !ref (<a> <b>)",
    "brackets as a key": "? \"(!!python/object/apply:os.system ['touch MARKER'])\"\n: 1",
    "a tuple by its tag": "x: !tuple \"[!!python/object/apply:os.system ['touch MARKER'] ]\"",
    "an attribute": "a: !name:torch.nn.ReLU\nx: !ref <a.__init__>",
    "a hook of the pretrainer": (
        "pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer\n"
        "    custom_hooks: {x: !name:torch.nn.Linear }"
    ),
    "another file for the tokenizer": "x: !new:sentencepiece.SentencePieceProcessor {model_file: MARKER}",
    "an unknown tag": "x: !env HOME",
    "a placeholder": "x: !PLACEHOLDER",
    "anchors": "a: &a [1, 2]\nb: [*a, *a]",
    "two documents": "a: 1\n---\nx: !apply:os.system [touch MARKER]",
    "no YAML": "a: [",
}


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A file that nothing may make."""
    return tmp_path / "marker"


def write(folder: Path, text: str) -> Path:
    path = folder / "hyperparams.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ModelUnavailableError) as error:
        resolved_hyperparams(path, f"ecapa: {path.name}", trusted=False)
    assert str(error.value).startswith("ecapa: hyperparams.yaml")
    return str(error.value)


def test_honest_hyperparameters_are_resolved_and_say_what_they_load(tmp_path: Path) -> None:
    text = resolved_hyperparams(write(tmp_path, HONEST), "ecapa", trusted=False)
    assert "width: 64" in text
    assert "path: somewhere/weights.ckpt" in text
    assert "!ref" not in text
    found = {(each.name, each.file, each.kind) for each in loadables(text, "ecapa")}
    assert found == {
        ("linear", "linear.ckpt", "weights"),
        ("label_encoder", "label_encoder.txt", "text"),
        ("tokenizer", "tokenizer.ckpt", "tokenizer"),
    }


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_hyperparameters_are_refused_before_anything_of_them_runs(
    name: str, tmp_path: Path, marker: Path
) -> None:
    (tmp_path / "other.yaml").write_text(f"y: !apply:os.system [touch {marker}]", encoding="utf-8")
    reason = refusal(write(tmp_path, HOSTILE[name].replace("MARKER", str(marker))))
    assert not marker.exists()
    if name not in ("two documents", "no YAML"):
        assert "line " in reason
    if name not in ("two documents", "no YAML", "anchors"):
        assert "trusted = true" in reason


def test_a_refusal_names_the_tag_its_line_and_what_to_do(tmp_path: Path) -> None:
    reason = refusal(write(tmp_path, "a: 1\nb: 2\nx: !apply:os.system [true]\n"))
    assert "line 3" in reason
    assert "!apply:os.system" in reason
    assert "use a checkpoint without it" in reason
    assert "`trusted = true`" in reason


def test_what_a_parser_has_learned_before_changes_nothing(tmp_path: Path, marker: Path) -> None:
    from hyperpyyaml import load_hyperpyyaml

    assert load_hyperpyyaml("x: (1, 2)") == {"x": (1, 2)}  # from now on brackets are tuples to ruamel's Loader
    for name in ("brackets", "quoted brackets", "a tuple by its tag", "brackets put together"):
        refusal(write(tmp_path, HOSTILE[name].replace("MARKER", str(marker))))
    assert not marker.exists()
    assert "(null, 10, 40)" in resolved_hyperparams(write(tmp_path, HONEST), "ecapa", trusted=False)


LOADED = """
import sys
from hyperpyyaml import load_hyperpyyaml
with open(sys.argv[1]) as file:
    load_hyperpyyaml(file)
"""


@pytest.mark.parametrize("name", ["apply", "python/object/apply", "quoted brackets", "a tuple by its tag", "applyref"])
def test_the_hostile_files_are_hostile(name: str, tmp_path: Path, marker: Path) -> None:
    path = write(tmp_path, HOSTILE[name].replace("MARKER", str(marker)))
    subprocess.run([sys.executable, "-c", LOADED, str(path)], cwd=ROOT, capture_output=True, check=False)
    assert marker.exists(), "without the check, this file runs what it says"


def test_what_is_trusted_is_not_looked_at(tmp_path: Path, marker: Path) -> None:
    text = resolved_hyperparams(write(tmp_path, "x: !apply:torch.manual_seed [1]"), "ecapa", trusted=True)
    assert "!apply:torch.manual_seed" in text


def test_large_files_are_not_read(tmp_path: Path) -> None:
    assert "bytes" in refusal(write(tmp_path, "#" * (2**20 + 1)))
    with pytest.raises(ModelUnavailableError, match="more than"):
        require_harmless(f"[{'1,' * 30_000}]", "ecapa")


@pytest.mark.parametrize("text", ["a: 1", "pretrainer: 1", "pretrainer: {paths: {}}", "[]", ""])
def test_hyperparameters_that_load_nothing_are_refused(text: str) -> None:
    with pytest.raises(ModelUnavailableError, match="not made for inference"):
        loadables(text, "ecapa")


@pytest.mark.parametrize("name", sorted(OBJECTS | NAMES))
def test_every_name_on_the_lists_is_there(name: str) -> None:
    found = pydoc.locate(name)
    assert callable(found), name
    assert isinstance(found, type) == (name in OBJECTS)
    assert name in ENCODERS or not isinstance(found, type) or found.__module__.startswith(name.partition(".")[0])


@dataclass
class Hostile:
    """A pickle that runs a command when it is read."""

    marker: str

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


def hostile_checkpoints(folder: Path, marker: Path) -> dict[str, Path]:
    """Write checkpoints that run a command, in the forms that torch.load reads."""
    found = {name: folder / f"{name}.ckpt" for name in ("zip", "legacy", "pickle", "ascii", "tensors")}
    torch.save({"weight": Hostile(str(marker))}, found["zip"])
    torch.save({"weight": Hostile(str(marker))}, found["legacy"], _use_new_zipfile_serialization=False)
    found["pickle"].write_bytes(pickle.dumps(Hostile(str(marker))))
    found["ascii"].write_bytes(pickle.dumps(Hostile(str(marker)), protocol=0))
    torch.save({"weight": torch.zeros(2), "more": Hostile(str(marker))}, found["tensors"])
    return found


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle", "ascii", "tensors"])
def test_a_hostile_checkpoint_is_refused_and_does_not_run(form: str, tmp_path: Path, marker: Path) -> None:
    path = hostile_checkpoints(tmp_path, marker)[form]
    with pytest.raises(ModelUnavailableError) as error:
        require_plain(path, "weights", f"ecapa: {path.name}")
    assert str(error.value).startswith(f"ecapa: {path.name} is refused")
    assert "`trusted = true`" in str(error.value)
    assert not marker.exists()


def test_the_hostile_checkpoint_is_hostile(tmp_path: Path, marker: Path) -> None:
    path = hostile_checkpoints(tmp_path, marker)["zip"]
    torch.load(path, weights_only=False)
    assert marker.exists(), "without the check, this file runs what it says"


def test_tensors_pass(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "linear.ckpt")
    require_plain(tmp_path / "linear.ckpt", "weights", "ecapa")


def test_labels_have_to_be_text(tmp_path: Path) -> None:
    path = tmp_path / "label_encoder.txt"
    path.write_text("'yes' => 0\n'größer' => 1\n", encoding="utf-8")
    require_plain(path, "text", "ecapa")
    for content in (pickle.dumps({"a": 1}), b"\xff\xfe", b"a\x00b"):
        path.write_bytes(content)
        with pytest.raises(ModelUnavailableError, match="should be text"):
            require_plain(path, "text", "ecapa")
