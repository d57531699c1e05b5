"""Model families: from a line of the group file to a loaded model. A new family is one file and one line here."""

import hashlib
import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from models.errors import ModelUnavailableError
from models.protocol import Model

if TYPE_CHECKING:
    from models.group import ModelSpec


@dataclass(frozen=True, slots=True)
class Family:
    """Where a family's loader is, and numbers to raise when its code changes its output."""

    loader: str  # "module:function", imported when a model is loaded
    revision: int
    files: tuple[str, ...]  # what it loads: the group file must name the sha256 of each
    search_revision: int = 0  # of how phrases are found in what it reads, if the text itself stays the same


FAMILIES: Final = {
    "moonshine": Family(
        "models.moonshine:load",
        revision=1,
        files=("encoder_model.ort", "decoder_model_merged.ort", "tokenizer.bin"),
    ),
    "whisper": Family("models.whisper:load", revision=1, files=("model.bin", "config.json", "tokenizer.json")),
    "callscene": Family(
        "models.scenes:load",
        revision=1,
        files=(
            "hyperparams.yaml",
            "mean_var_norm.ckpt",
            "embedding_model.ckpt",
            "classifier.ckpt",
            "label_encoder.ckpt",
        ),
    ),
}


def load_model(spec: "ModelSpec") -> Model:
    """Load a model.

    Raises:
        ModelUnavailableError: Its family is unknown, or its weights are not there or not those that it names.
    """
    if spec.family not in FAMILIES:
        raise ModelUnavailableError(f"{spec.name}: no family {spec.family!r}; known are {', '.join(sorted(FAMILIES))}")
    module, _, function = FAMILIES[spec.family].loader.partition(":")
    load: Callable[[ModelSpec, Path], Model] = getattr(importlib.import_module(module), function)
    return load(spec, verified_folder(spec))


def verified_folder(spec: "ModelSpec") -> Path:
    """Return the folder of a model's weights, after each file that it names hashed to what it says.

    Raises:
        ModelUnavailableError: A file is missing, another one, or not named by the group file.
    """
    folder = _folder(spec)
    unnamed = [name for name in FAMILIES[spec.family].files if name not in spec.sha256]
    if unnamed:
        raise ModelUnavailableError(
            f"{spec.name}: the group file names no sha256 of {', '.join(unnamed)}: add it under [model.sha256]"
        )
    for name, expected in spec.sha256.items():
        path = folder / name
        if not path.is_file():
            raise ModelUnavailableError(
                f"{spec.name}: {path} is not there: install the package, or fill the folder, of `source`"
            )
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != expected:
            raise ModelUnavailableError(
                f"{spec.name}: {name} has sha256 {found}, and the group file names {expected}: restore the weights"
            )
    return folder


def _folder(spec: "ModelSpec") -> Path:
    scheme, _, rest = spec.source.partition(":")
    if scheme == "folder" and Path(rest).is_absolute():
        return Path(rest)
    if scheme != "package":
        raise ModelUnavailableError(
            f"{spec.name}: source {spec.source!r} must start with `package:`, or with `folder:` and an absolute path"
        )
    package, _, inside = rest.partition("/")
    # Finds a package without running it; a dotted name would run the one above.
    found = importlib.util.find_spec(package) if package.isidentifier() else None
    if found is None or not found.submodule_search_locations:
        raise ModelUnavailableError(f"{spec.name}: top-level package {package!r} is not installed: run `make up` again")
    return Path(next(iter(found.submodule_search_locations))) / inside
