"""From a folder of checked files to one of SpeechBrain's inference classes. It must not know what is asked of it.

Importing this imports neither speechbrain nor torch, and loading fetches nothing: SpeechBrain is given the resolved
hyperparameters that `models.trust` has looked at, in a folder of its own, and each file by its path.
"""

import importlib
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any, Final

from models.errors import ModelUnavailableError
from models.group import ModelSpec
from models.trust import loadables, require_harmless, require_plain, resolved_hyperparams

HYPERPARAMS: Final = "hyperparams.yaml"
INTERFACES: Final = {
    "EncoderClassifier": "speechbrain.inference.classifiers",
    "EncoderASR": "speechbrain.inference.ASR",
    "EncoderDecoderASR": "speechbrain.inference.ASR",
    "VAD": "speechbrain.inference.VAD",
}
OFFLINE: Final = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
PICKLES: Final = {  # what torch.load does where SpeechBrain does not say, by whether the model is trusted
    False: {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "0"},
    True: {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "0", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"},
}


def load_interface(spec: ModelSpec, folder: Path, choose: Callable[[Collection[str]], str]) -> Any:
    """Load a model with one of SpeechBrain's inference classes, on the CPU and on one thread.

    Args:
        spec: The model.
        folder: A folder of its own with the files that it names; something may be written beside it.
        choose: Given the names in the file of hyperparameters, says which of INTERFACES it is for.

    Raises:
        ModelUnavailableError: A file is refused, missing or does not fit.
    """
    owner = f"{spec.name}: {HYPERPARAMS}"
    text = resolved_hyperparams(folder / HYPERPARAMS, owner, trusted=spec.trusted)
    paths = {}
    for each in loadables(text, owner):
        if each.file not in spec.sha256:
            raise ModelUnavailableError(
                f"{owner} reads {each.file}, of which the group file names no sha256: add it under [model.sha256]"
            )
        paths[each.name] = str(folder / each.file)
        if not spec.trusted:
            require_plain(folder / each.file, each.kind, f"{spec.name}: {each.file}")
    try:
        text, names = _with_paths(text, paths)
        if not spec.trusted:
            require_harmless(text, owner, resolved=True)
        return _loaded(text, folder, choose(names), trusted=spec.trusted)
    except ModelUnavailableError as error:
        raise ModelUnavailableError(f"{spec.name}: {str(error).removeprefix(f'{spec.name}: ')}") from error
    except Exception as error:  # whatever SpeechBrain, HyperPyYAML and torch raise where files do not fit
        raise ModelUnavailableError(
            f"{spec.name}: SpeechBrain cannot load it from {folder} ({type(error).__name__}: {error}): "
            "pin a checkpoint that is made for inference with this version of SpeechBrain"
        ) from error


def _with_paths(text: str, paths: Mapping[str, str]) -> tuple[str, list[str]]:
    """Return resolved hyperparameters that load each file from its path, and the names in them."""
    from ruamel.yaml import YAML  # noqa: PLC0415  only where something is loaded

    yaml, written = YAML(), StringIO()
    tree = yaml.load(text)
    tree["pretrainer"]["paths"] = dict(paths)
    yaml.dump(tree, written)
    return written.getvalue(), list(tree)


def _loaded(text: str, folder: Path, interface: str, *, trusted: bool) -> Any:
    import torch  # noqa: PLC0415  takes seconds; only processes that score need it

    torch.set_num_threads(1)  # processes are what spreads the work
    with _variables(OFFLINE | PICKLES[trusted]), _shortfalls() as lacking, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Environment variable TORCH_FORCE", UserWarning)  # it is meant
        from speechbrain.utils.fetching import FetchConfig, LocalStrategy  # noqa: PLC0415  likewise

        made = getattr(importlib.import_module(INTERFACES[interface]), interface)
        with tempfile.TemporaryDirectory(prefix=".speechbrain-", dir=folder.parent) as own:
            (Path(own) / HYPERPARAMS).write_text(text, encoding="utf-8")
            loaded = made.from_hparams(
                source=own,
                savedir=own,
                run_opts={"device": "cpu"},
                local_strategy=LocalStrategy.NO_LINK,
                fetch_config=FetchConfig(allow_network=False),
            )
    _require_filled(loaded, lacking)
    return loaded


def _require_filled(loaded: Any, lacking: Collection[str]) -> None:
    """Make sure that every weight came from a file: SpeechBrain leaves those that no file has as chance made them."""
    if lacking:
        raise ModelUnavailableError(f"its checkpoint does not fit its hyperparameters: {next(iter(lacking))}")
    filled = {
        id(weight)
        for module in loaded.hparams.pretrainer.loadables.values()
        if hasattr(module, "parameters")
        for weight in module.parameters()
    }
    empty = sorted(name for name, weight in loaded.mods.named_parameters() if id(weight) not in filled)
    if empty:
        raise ModelUnavailableError(
            f"no file has the weights {', '.join(empty[:3])}: its pretrainer does not load them"
        )


@contextmanager
def _shortfalls() -> Iterator[list[str]]:
    """Collect what SpeechBrain only warns of: weights of a layer that its file does not have."""
    found: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "did not have parameters" in (message := record.getMessage()):
                found.append(f"it lacks {message.rpartition(': ')[2]}")

    logger, collector = logging.getLogger("speechbrain.utils.checkpoints"), Collector(logging.WARNING)
    logger.addHandler(collector)
    try:
        yield found
    finally:
        logger.removeHandler(collector)


@contextmanager
def _variables(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables of the environment, and the hub's own copy of one, for a while."""
    from huggingface_hub import constants  # noqa: PLC0415  SpeechBrain imports it anyway

    before, offline = {name: os.environ.get(name) for name in values}, constants.HF_HUB_OFFLINE
    os.environ.update(values)
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = offline
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
