"""What a model's files may do while they are loaded: nothing but make the layers and read the tensors that we know.

`hyperparams.yaml` is a program: HyperPyYAML calls whatever its tags name, resolves `!ref`, and reads every text in
brackets as YAML with all of Python's tags. Checkpoints are pickles. So the file is composed, and not constructed, by
the parser that HyperPyYAML itself uses, before and after its references are resolved; what has been looked at is what
is loaded. Sizes are looked at first: a file may be harmless and still take all time or memory. It must not know which
class a model is loaded with.
"""

import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Final, Literal

from models.errors import ModelUnavailableError
from models.references import REFERENCE, resolved

MAX_BYTES: Final = 2**15  # of a file of hyperparameters: real ones have some thousand, and ruamel takes a second for it
MAX_NODES: Final = 10_000  # of its values, each as often as it is referred to
MAX_DIGITS: Final = 8  # of an integer: sizes of layers have fewer
MAX_FILE_BYTES: Final = {"text": 2**20, "tokenizer": 2**24}  # of a list of labels; of a model of SentencePiece's
PRETRAINER: Final = "speechbrain.utils.parameter_transfer.Pretrainer"
TOKENIZER: Final = "sentencepiece.SentencePieceProcessor"
ENCODERS: Final = frozenset(
    f"speechbrain.dataio.encoder.{name}" for name in ("CategoricalEncoder", "TextEncoder", "CTCTextEncoder")
)
"""They read text, as Python literals."""

_CLASSES: Final = {
    "speechbrain.dataio.preprocess": "AudioNormalizer",
    "speechbrain.decoders": "S2SRNNBeamSearcher S2SRNNGreedySearcher S2STransformerBeamSearcher",
    "speechbrain.decoders.scorer": (
        "CTCScorer CoverageScorer LengthScorer RNNLMScorer ScorerBuilder TransformerLMScorer"
    ),
    "speechbrain.decoders.seq2seq": "S2SRNNBeamSearcher S2SRNNGreedySearcher S2STransformerBeamSearcher",
    "speechbrain.lobes.features": "Fbank MFCC",
    "speechbrain.lobes.models.CRDNN": "CNN_Block CRDNN DNN_Block",
    "speechbrain.lobes.models.ECAPA_TDNN": "Classifier ECAPA_TDNN",
    "speechbrain.lobes.models.RNNLM": "RNNLM",
    "speechbrain.lobes.models.ResNet": "Classifier ResNet",
    "speechbrain.lobes.models.Xvector": "Classifier Discriminator Xvector",
    "speechbrain.lobes.models.convolution": "ConvolutionFrontEnd",
    "speechbrain.lobes.models.transformer.TransformerASR": "EncoderWrapper TransformerASR",
    "speechbrain.lobes.models.transformer.TransformerLM": "TransformerLM",
    "speechbrain.nnet.CNN": "Conv1d Conv2d",
    "speechbrain.nnet.RNN": "AttentionalRNNDecoder GRU LSTM LiGRU RNN",
    "speechbrain.nnet.activations": "Softmax Swish",
    "speechbrain.nnet.containers": "LengthsCapableSequential ModuleList Sequential",
    "speechbrain.nnet.dropout": "Dropout2d",
    "speechbrain.nnet.embedding": "Embedding",
    "speechbrain.nnet.linear": "Linear",
    "speechbrain.nnet.normalization": "BatchNorm1d BatchNorm2d LayerNorm",
    "speechbrain.nnet.pooling": "AdaptivePool StatisticsPooling",
    "speechbrain.processing.features": "InputNormalization",
    "torch.nn": (
        "BatchNorm1d BatchNorm2d Conv1d Conv2d Dropout ELU Embedding GELU GRU Identity LSTM LayerNorm LeakyReLU Linear "
        "LogSoftmax ModuleDict ModuleList ReLU Sequential SiLU Sigmoid Softmax Tanh"
    ),
}
LAYERS: Final = frozenset(f"{module}.{name}" for module, names in _CLASSES.items() for name in names.split())
"""Classes that do nothing but keep tensors and count with them. By their whole names: whatever is found below a module
may be another module, and so anything at all."""

OBJECTS: Final = LAYERS | ENCODERS | {PRETRAINER, TOKENIZER}
"""What `!new:` may make."""
NAMES: Final = LAYERS | {f"speechbrain.decoders{module}.ctc_greedy_decode" for module in ("", ".ctc")}
"""What `!name:` may hand to them, to be called."""

_STANDARD: Final = "tag:yaml.org,2002:"
_PLAIN: Final = frozenset(
    _STANDARD + kind for kind in ("str", "int", "float", "bool", "null", "timestamp", "seq", "map")
) | {"!tuple"}
_NAME: Final = re.compile(r"[A-Za-z_]\w*")
_LARGE: Final = re.compile(rf"(?<!\w)\d\w{{{MAX_DIGITS},}}")
_AROUND: Final = re.compile(r"[\w\s.,:/()+*-]*")
_TUPLE: Final = re.compile(r"\([\w\s.,+-]*\)")
_REMEDY: Final = "use a checkpoint without it, or, if you trust its author with this host, set `trusted = true`"


@dataclass(frozen=True, slots=True)
class Loadable:
    """What SpeechBrain's pretrainer fills from a file."""

    name: str
    file: str  # without folders
    kind: Literal["weights", "text", "tokenizer"]


def require_harmless(text: str, owner: str, *, final: bool = False) -> None:
    """Make sure that nothing but layers that we know is made of a file of hyperparameters.

    Args:
        text: Its content.
        owner: The model and the file, for messages.
        final: Its references have been resolved: there are none any more.

    Raises:
        ModelUnavailableError: There is something else in it, too much, or it is no YAML.
    """
    for node in _nodes(_composed(text, owner), owner):
        line, tag = node.start_mark.line + 1, str(node.tag)
        if reason := _objection(node, tag, final):
            raise ModelUnavailableError(f"{owner}, line {line}: {reason}: {_REMEDY}")
        if node.anchor and not final:
            raise ModelUnavailableError(f"{owner}, line {line}: the anchor &{node.anchor} is not read: write it out")


def resolved_hyperparams(path: Path, owner: str, *, trusted: bool) -> str:
    """Return a file of hyperparameters with its references resolved and what it overrides left as it is.

    Args:
        path: The file.
        owner: The model and the file, for messages.
        trusted: Nothing in it is looked at.

    Raises:
        ModelUnavailableError: It is refused, or cannot be read.
    """
    from hyperpyyaml import resolve_references  # noqa: PLC0415  only where it is loaded

    try:
        if path.stat().st_size > MAX_BYTES:
            raise ModelUnavailableError(f"{owner} has {path.stat().st_size} bytes, and may have {MAX_BYTES}")
        if trusted:
            with path.open(encoding="utf-8") as file:  # by its name it finds what it includes
                included: str = resolve_references(file).getvalue()
            return included
        content = path.read_text(encoding="utf-8")
        require_harmless(content, owner)
        text = resolved(content)
    except ModelUnavailableError:
        raise
    except Exception as error:  # ruamel, HyperPyYAML and what a trusted file calls each have their own
        raise ModelUnavailableError(f"{owner} cannot be read: {type(error).__name__}: {error}") from error
    require_harmless(text, owner, final=True)
    return text


def loadables(text: str, owner: str) -> list[Loadable]:
    """Return what the pretrainer of resolved hyperparameters fills, and from which files.

    Raises:
        ModelUnavailableError: There is no pretrainer, or one of its names could be a path.
    """
    pretrainer = _members(_members(_composed(text, owner)).get("pretrainer"))
    if "loadables" not in pretrainer:
        raise ModelUnavailableError(f"{owner} has no `pretrainer` with `loadables`: it is not made for inference")
    paths = _members(pretrainer.get("paths"))
    found = []
    for name, node in _members(pretrainer["loadables"]).items():
        if not _NAME.fullmatch(name):  # SpeechBrain looks for `<name>.ckpt` in its own folder first
            raise ModelUnavailableError(
                f"{owner}: its pretrainer loads {name[:60]!r}, which is no plain name: {_REMEDY}"
            )
        made = str(node.tag).removeprefix("!new:")
        path = str(paths[name].value) if name in paths else f"{name}.ckpt"
        kind: Literal["weights", "text", "tokenizer"] = (
            "text" if made in ENCODERS else "tokenizer" if made == TOKENIZER else "weights"
        )
        found.append(Loadable(name, path.rpartition("/")[2], kind))
    return found


def require_plain(path: Path, kind: str, owner: str) -> None:
    """Make sure that a file holds nothing but tensors, or nothing but text, and no more than its size says.

    Of a tokenizer only the size is looked at: it is a protocol buffer, which SentencePiece parses.

    Raises:
        ModelUnavailableError: There is something else in it.
    """
    try:
        size, limit = path.stat().st_size, MAX_FILE_BYTES.get(kind)
        if limit is not None and size > limit:
            raise ValueError(f"it has {size} bytes, and a {kind} may have {limit}")
        if kind == "weights":
            _require_tensors(path)
        elif kind == "text" and "\x00" in path.read_text(encoding="utf-8"):
            raise ValueError("it should be text, and has NUL bytes")
    except UnicodeDecodeError as error:
        raise ModelUnavailableError(f"{owner} is refused: it should be text ({error}): {_REMEDY}") from error
    except (OSError, ValueError) as error:
        raise ModelUnavailableError(f"{owner} is refused: {error}: {_REMEDY}") from error


def _require_tensors(path: Path) -> None:
    import torch  # noqa: PLC0415  takes seconds, and only models of SpeechBrain's need it

    if (unpacked := _unpacked_bytes(path)) > path.stat().st_size:  # torch itself compresses nothing
        raise ValueError(f"it is a compressed archive, and would become {unpacked} bytes")
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        first = str(error).strip().partition("\n")[0]
        raise ValueError(f"torch finds more than tensors in it, or none ({type(error).__name__}: {first})") from error


def _unpacked_bytes(path: Path) -> int:
    """Return how large what is in an archive says that it is; 0 of what is no archive, or a broken one."""
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(each.file_size for each in archive.infolist())
    except zipfile.BadZipFile:
        return 0


def _objection(node: Any, tag: str, final: bool) -> str | None:
    """Say what is wrong with one node; None where nothing is."""
    kind, _, name = tag.partition(":")
    if tag == "!ref" and not final:
        return _objection_to_reference(node)
    if kind == "!new":
        return _objection_to_object(node, name)
    if kind == "!name":
        return None if name in NAMES else f"the tag {tag} names what is not on the list of harmless names"
    if tag not in _PLAIN:
        return f"the tag {_shown(tag)} is not on the list of harmless tags"
    return _objection_to_value(node.value, tag)


def _objection_to_value(value: object, tag: str) -> str | None:
    if not isinstance(value, str):
        return None
    # HyperPyYAML reads what is in brackets, quoted or not, as YAML of which Python objects can be made; of what has the
    # tag it takes the first and the last letter for brackets.
    brackets = tag == "!tuple" or (value.lstrip().startswith("(") and value.rstrip().endswith(")"))
    if brackets and not _TUPLE.fullmatch(value):
        return (
            f"the text {value[:60]!r} in brackets would be read as YAML of its own, and has more than words and numbers"
        )
    if (brackets or tag == f"{_STANDARD}int") and _LARGE.search(value):
        return f"a number in {value[:60]!r} has more than {MAX_DIGITS} digits: no layer is that large"
    return None


def _shown(tag: str) -> str:
    return f"!!{tag.removeprefix(_STANDARD)}" if tag.startswith(_STANDARD) else tag


def _objection_to_object(node: Any, name: str) -> str | None:
    if name not in OBJECTS:
        return f"the tag !new:{name} makes what is not on the list of harmless classes"
    if name == TOKENIZER and node.value:
        return f"the tag !new:{name} has arguments, and would read another file"
    if name == PRETRAINER and not all(isinstance(item, tuple) for item in node.value):
        return f"the tag !new:{name} is given values without names"
    if name == PRETRAINER and (others := _members(node).keys() - {"loadables", "paths", "collect_in"}):
        return f"the tag !new:{name} is given {', '.join(sorted(others))}"
    return None


def _objection_to_reference(node: Any) -> str | None:
    if not isinstance(node.value, str):
        return "a reference must be a text"
    around = REFERENCE.sub("", node.value)
    if "<" in around or ">" in around or "**" in around or not _AROUND.fullmatch(around):
        return f"the reference {node.value[:60]!r} is more than names in <> and arithmetic"
    return None


def _composed(text: str, owner: str) -> Any:
    """Return the nodes of a document, of which nothing is made, as HyperPyYAML's own parser reads them."""
    from ruamel.yaml.loader import Loader  # noqa: PLC0415  only where it is loaded

    try:
        return Loader(StringIO(text)).get_single_node()
    except Exception as error:  # ruamel has many, and raises others for what it did not expect
        raise ModelUnavailableError(f"{owner} cannot be read as YAML: {error}") from error


def _nodes(root: Any, owner: str) -> Iterator[Any]:
    """Yield a node and those below it, keys too, each as often as it is referred to."""
    waiting, count = [root], 0
    while waiting:
        node = waiting.pop()
        if node is None:
            continue
        count += 1
        if count > MAX_NODES:
            raise ModelUnavailableError(f"{owner} has more than {MAX_NODES} values, and is not read")
        yield node
        if isinstance(node.value, list):
            waiting += [part for item in node.value for part in (item if isinstance(item, tuple) else (item,))]


def _members(node: Any) -> dict[str, Any]:
    """Return the values of a mapping by their keys; none of anything else."""
    if node is None or not isinstance(node.value, list):
        return {}
    return {str(item[0].value): item[1] for item in node.value if isinstance(item, tuple)}
