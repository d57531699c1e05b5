"""Hostile hyperparameters and checkpoints are refused by what they are, and nothing of them runs."""

import copy
import os
import pickle
import pydoc
import resource
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from models.errors import ModelUnavailableError
from models.references import resolved
from models.trust import (
    ENCODERS,
    MAX_BYTES,
    MAX_FILE_BYTES,
    NAMES,
    OBJECTS,
    loadables,
    require_harmless,
    require_plain,
    resolved_hyperparams,
)

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
frames: !ref 7040 // (<n_mels> * 2) + 1
text: !ref <name>-<n_mels>
trained_on: 2021-03-04
authors: (c) 2021, somebody
seed: 1986
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
    "a set": "x: !!set {y}",
    "a copy": "a: [1]\nx: !copy <a>",
    "a merge": "x: {<<: {y: 1}}",
    "a hook of the pretrainer by its place": (
        "x: !new:speechbrain.utils.parameter_transfer.Pretrainer [x, {}, {}, {a: !name:torch.nn.Linear }]"
    ),
    "a pretrainer of one value": "x: !new:speechbrain.utils.parameter_transfer.Pretrainer x",
    "a large layer": "x: !new:torch.nn.Embedding {num_embeddings: 2000000000, embedding_dim: 1024}",
    "a large layer in another notation": "x: !new:torch.nn.Embedding {num_embeddings: 0xfffffffff, embedding_dim: 1}",
    "a large layer in brackets": "x: (2, 2000000000)",
    "anchors": "a: &a [1, 2]\nb: [*a, *a]",
    "two documents": "a: 1\n---\nx: !apply:os.system [touch MARKER]",
    "no YAML": "a: [",
}

# Harmless, and each would take all time or all memory.
EXHAUSTING = {
    "a power": "q: '*9**9**9'\nx: !ref 9*<q>\n",
    "a power without a sign before it": "q: '**9**8'\nx: !ref 9<q>\n",
    "a text many times": "q: \"'x'\"\nx: !ref <q> * 500000000\n",
    "references to references": "a0: xxxxxxxxxx\n" + "".join(f"a{n + 1}: !ref {f'<a{n}>' * 10}\n" for n in range(9)),
    "copies of copies": "a0: [x]\n" + "".join(f"a{n + 1}: [{', '.join([f'!copy <a{n}>'] * 10)}]\n" for n in range(6)),
    "lists of lists": "a0: [x]\n" + "".join(f"a{n + 1}: [{', '.join([f'!ref <a{n}>'] * 10)}]\n" for n in range(9)),
    "a long text many times": f"a: {'x' * 900}\nb: [{'!ref <a> , ' * 2000}]\n",
    "a long text": f"a: {'x' * 9000}\nb: !ref <a>{'<a>' * 900}\n",
    "itself": "a: {b: !ref <a> }\n",
    "itself as a text": "a: !ref <a>\n",
    "many values": f"a: [{'a,' * 16_000}]",
    "deep lists": f"a: {'[' * 32_000}",
    "deep signs": f"a: 1\nb: !ref {'-' * 900}<a>\n",
    "a division by nothing": "a: 0\nb: !ref 1 / <a>\n",
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


EXHAUSTED = """
import sys
from pathlib import Path
from models.errors import ModelUnavailableError
from models.trust import resolved_hyperparams
try:
    print("resolved", len(resolved_hyperparams(Path(sys.argv[1]), "ecapa: hyperparams.yaml", trusted=False)))
except ModelUnavailableError as error:
    print("refused", error)
"""


def limited() -> None:
    """Bound a process: its seconds of CPU, and its memory."""
    resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
    resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))


@pytest.mark.parametrize("name", EXHAUSTING)
def test_hyperparameters_that_ask_for_all_time_or_memory_do_not_get_it(name: str, tmp_path: Path) -> None:
    path = write(tmp_path, EXHAUSTING[name])
    done = subprocess.run(
        [sys.executable, "-c", EXHAUSTED, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limited,
    )
    verdict, _, what = done.stdout.partition(" ")
    assert verdict in ("refused", "resolved"), done.stderr
    assert what.startswith("ecapa: hyperparams.yaml") if verdict == "refused" else int(what) < 100


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("<b>", "names nothing"),
        ("<a[b]>", "names nothing"),
        ("<c>/x", "neither a text nor a number"),
        ("3 * <d>", "more than"),
    ],
)
def test_a_reference_that_cannot_be_resolved_is_named(tmp_path: Path, reference: str, reason: str) -> None:
    refused = refusal(write(tmp_path, f"a: 1\nc: [1]\nd: 2 ** 3\nx: !ref {reference}\n"))
    assert reason in refused


def test_references_are_resolved_as_hyperpyyaml_resolves_them() -> None:
    from hyperpyyaml import load_hyperpyyaml

    load_hyperpyyaml("x: (1, 2)")  # from now on brackets are tuples, see below
    text = HONEST.partition("pretrainer:")[0]
    ours, theirs = load_hyperpyyaml(resolved(text)), load_hyperpyyaml(text)
    plain = [name for name, value in theirs.items() if isinstance(value, str | int | float | tuple | dict)]
    assert {"width", "path", "half", "frames", "text", "shape"} < set(plain)
    assert [ours[name] for name in plain if name != "modules"] == [theirs[name] for name in plain if name != "modules"]
    assert ours["modules"]["linear"] is ours["linear"], "what is referred to is shared"


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
    (tmp_path / "other.yaml").write_text("b: 2")
    assert "b: 2" in resolved_hyperparams(write(tmp_path, "x: !include:other.yaml"), "ecapa", trusted=True)


def test_large_files_are_not_read(tmp_path: Path) -> None:
    assert "bytes" in refusal(write(tmp_path, "#" * (MAX_BYTES + 1)))
    with pytest.raises(ModelUnavailableError, match="more than"):
        require_harmless(f"[{'1,' * 12_000}]", "ecapa")


@pytest.mark.parametrize("text", ["a: 1", "pretrainer: 1", "pretrainer: {paths: {}}", "[]", ""])
def test_hyperparameters_that_load_nothing_are_refused(text: str) -> None:
    with pytest.raises(ModelUnavailableError, match="not made for inference"):
        loadables(text, "ecapa")


@pytest.mark.parametrize("name", ["/tmp/evil", "../../other/classifier", "a/b", "a.b", "", "1", "a\\b", "a b", "<<"])
@pytest.mark.parametrize("trusted", [False, True])
def test_a_loadable_whose_name_could_be_a_path_is_refused(tmp_path: Path, name: str, trusted: bool) -> None:
    line = f"        {name!r}: !ref <linear>\n        tokenizer: !ref"
    path = write(tmp_path, HONEST.replace("        tokenizer: !ref", line))
    with pytest.raises(ModelUnavailableError, match=r"no plain name|!!merge"):
        loadables(resolved_hyperparams(path, "ecapa", trusted=trusted), "ecapa")


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


def test_large_files_of_text_and_tokenizers_are_refused_unread(tmp_path: Path) -> None:
    for kind, limit in MAX_FILE_BYTES.items():
        path = tmp_path / kind
        path.write_bytes(b"a\n" * (limit // 2))
        require_plain(path, kind, "ecapa")
        with path.open("ab") as file:
            file.write(b"a")
        with pytest.raises(ModelUnavailableError, match=f"has {limit + 1} bytes"):
            require_plain(path, kind, "ecapa")


def test_a_compressed_checkpoint_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    plain, small = tmp_path / "plain.ckpt", tmp_path / "small.ckpt"
    torch.save({"w": torch.zeros(2_000_000)}, plain)
    require_plain(plain, "weights", "ecapa")
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(small, "w", zipfile.ZIP_DEFLATED) as target:
        for each in source.infolist():
            target.writestr(each.filename, source.read(each))
    assert small.stat().st_size < 20_000
    assert len(torch.load(small, weights_only=True)["w"]) == 2_000_000, "torch alone reads it"
    with pytest.raises(ModelUnavailableError, match="compressed"):
        require_plain(small, "weights", "ecapa")


def test_a_checkpoint_that_names_its_content_many_times_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "many.ckpt"
    torch.save({"w": torch.zeros(20_000)}, path)
    with zipfile.ZipFile(path, "a") as archive:
        (data,) = (each for each in archive.infolist() if each.filename.endswith("/data/0"))
        for number in range(1, 100):
            again = copy.copy(data)
            again.filename = data.filename.removesuffix("0") + str(number)
            archive.filelist.append(again)
        archive.writestr("more", "")  # so that the list is written again
    with pytest.raises(ModelUnavailableError, match="would become 8"):
        require_plain(path, "weights", "ecapa")
