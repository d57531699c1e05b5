"""From a folder of checked files to one of SpeechBrain's inference classes. It must not know what is asked of it.

Importing this imports neither speechbrain nor torch, and loading fetches nothing: SpeechBrain is given the resolved
hyperparameters that `models.trust` has looked at, in a folder of its own, and each file by its path. What it then
makes may not be larger than what its files can fill.
"""

import importlib
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
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
FILLED: Final = 4  # bytes of weights for each byte of a file: one may be kept in 8 bits
SPARE_BYTES: Final = 2**24  # of weights that no file needs to have
OFFLINE: Final = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
PICKLES: Final = {  # what torch.load does where SpeechBrain does not say, by whether the model is trusted
    False: {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "0"},
    True: {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "0", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"},
}


def load_interface(spec: ModelSpec, folder: Path, choose: Callable[[Collection[str]], str]) -> Any:
    """Load a model with one of SpeechBrain's inference classes, on the CPU and on one thread.

    Args:
        spec: The model.
        folder: With the files that it names. Something is written beside it, unless it is a package's.
        choose: Given the names in the file of hyperparameters, says which of INTERFACES it is for.

    Raises:
        ModelUnavailableError: A file is refused, missing or does not fit.
    """
    owner = f"{spec.name}: {HYPERPARAMS}"
    text = resolved_hyperparams(folder / HYPERPARAMS, owner, trusted=spec.trusted)
    paths, files = {}, set[tuple[Path, str]]()
    for each in loadables(text, owner):
        if each.file not in spec.sha256:
            raise ModelUnavailableError(
                f"{owner} reads {each.file}, of which the group file names no sha256: add it under [model.sha256]"
            )
        paths[each.name] = str(folder / each.file)
        files.add((folder / each.file, each.kind))
    for path, kind in () if spec.trusted else sorted(files):
        require_plain(path, kind, f"{spec.name}: {path.name}")
    try:
        text, names = _with_paths(text, paths)
        if not spec.trusted:
            require_harmless(text, owner, final=True)
        beside = None if spec.source.startswith("package:") else folder.parent
        room = SPARE_BYTES + FILLED * sum(path.stat().st_size for path in {path for path, _ in files})
        with nullcontext() if spec.trusted else _at_most(room):
            loaded = _loaded(text, beside, choose(names), trusted=spec.trusted)
        _require_read(loaded, paths)
        return loaded
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


def _loaded(text: str, beside: Path | None, interface: str, *, trusted: bool) -> Any:
    import torch  # noqa: PLC0415  takes seconds; only processes that score need it

    torch.set_num_threads(1)  # processes are what spreads the work
    with _variables(OFFLINE | PICKLES[trusted]), _shortfalls() as lacking, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Environment variable TORCH_FORCE", UserWarning)  # it is meant
        from speechbrain.utils.fetching import FetchConfig, LocalStrategy  # noqa: PLC0415  likewise

        made = getattr(importlib.import_module(INTERFACES[interface]), interface)
        with tempfile.TemporaryDirectory(prefix=".speechbrain-", dir=beside) as own:
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


def _require_read(loaded: Any, paths: Mapping[str, str]) -> None:
    """Make sure that the files that SpeechBrain read are those that were looked at."""
    pretrainer = loaded.hparams.pretrainer
    if pretrainer.paths != paths or pretrainer.loadables.keys() != paths.keys():
        raise ModelUnavailableError(f"its pretrainer reads {pretrainer.paths}, and not {dict(paths)}")


def labels_of(spec: ModelSpec, interface: Any) -> tuple[str, ...]:
    """Return the labels of a classifier's outputs, in their order.

    Raises:
        ModelUnavailableError: They are not numbered from 0 without gaps.
    """
    encoder = interface.hparams.label_encoder
    encoder.ignore_len()  # or it warns that nobody said how many labels there should be
    if sorted(encoder.ind2lab) != list(range(len(encoder.ind2lab))):
        raise ModelUnavailableError(
            f"{spec.name}: its labels are numbered {', '.join(map(str, sorted(encoder.ind2lab)[:10]))}, and not from 0 "
            "without gaps: mend its list of labels"
        )
    return tuple(str(encoder.ind2lab[index]) for index in range(len(encoder.ind2lab)))


def require_outputs(outputs: Any, labels: Sequence[str]) -> None:
    """Make sure that a classifier gives a number for each of its labels.

    Raises:
        ValueError: It gives others.
    """
    if outputs.shape[-1] != len(labels):
        raise ValueError(f"it has {outputs.shape[-1]} outputs and {len(labels)} labels")
    if outputs.isnan().any():
        raise ValueError("its outputs are not numbers")


@contextmanager
def _at_most(room: int) -> Iterator[None]:
    """Refuse weights once they have more bytes than that, before memory is written for the one that is too many."""
    import torch  # noqa: PLC0415  takes seconds; only processes that score need it

    def register(module: torch.nn.Module, name: str, weight: torch.nn.Parameter) -> None:
        nonlocal room
        room -= weight.nbytes if weight is not None else 0
        if room < 0:
            raise ModelUnavailableError(
                f"its hyperparameters make more weights than its files can fill: {name} of {type(module).__name__} is "
                "one too many"
            )

    handle = torch.nn.modules.module.register_module_parameter_registration_hook(register)
    try:
        yield
    finally:
        handle.remove()


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
