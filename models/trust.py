"""What a model's files may do while they are loaded: nothing but make the layers and read the tensors that we know.

`hyperparams.yaml` is a program: HyperPyYAML calls whatever its tags name, resolves `!ref`, and reads every text in
brackets as YAML with all of Python's tags. Checkpoints are pickles. So the file is composed, and not constructed, by
the parser that HyperPyYAML itself uses, before and after its references are resolved; what has been looked at is what
is loaded. It must not know which class a model is loaded with.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Final, Literal

from models.errors import ModelUnavailableError

MAX_BYTES: Final = 2**20  # of a file of hyperparameters: real ones have some thousand
MAX_TEXT_BYTES: Final = 2**24  # of a list of labels
MAX_NODES: Final = 20_000
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
    _STANDARD + kind for kind in ("str", "int", "float", "bool", "null", "seq", "map", "merge")
) | {"!tuple"}
_REFERENCE: Final = re.compile(r"<[A-Za-z_]\w*(\[\w+\])*>")  # a dot would be getattr
_AROUND: Final = re.compile(r"[\w\s.,:/()+*-]*")
_TUPLE: Final = re.compile(r"\([\w\s.,+-]*\)")
_REMEDY: Final = "use a checkpoint without it, or, if you trust its author with this host, set `trusted = true`"


@dataclass(frozen=True, slots=True)
class Loadable:
    """What SpeechBrain's pretrainer fills from a file."""

    name: str
    file: str  # without folders
    kind: Literal["weights", "text", "tokenizer"]


def require_harmless(text: str, owner: str, *, resolved: bool = False) -> None:
    """Make sure that nothing but layers that we know is made of a file of hyperparameters.

    Args:
        text: Its content.
        owner: The model and the file, for messages.
        resolved: Its references have been resolved: there are none any more.

    Raises:
        ModelUnavailableError: There is something else in it, or it is no YAML.
    """
    for node in _nodes(_composed(text, owner), owner):
        line, tag = node.start_mark.line + 1, str(node.tag)
        if reason := _objection(node, tag, resolved):
            raise ModelUnavailableError(f"{owner}, line {line}: {reason}: {_REMEDY}")
        if node.anchor and not resolved:
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
        if not trusted:
            require_harmless(path.read_text(encoding="utf-8"), owner)
        with path.open(encoding="utf-8") as file:
            text: str = resolve_references(file).getvalue()
    except ModelUnavailableError:
        raise
    except Exception as error:  # ruamel, HyperPyYAML and what a trusted file calls each have their own
        raise ModelUnavailableError(f"{owner} cannot be read: {type(error).__name__}: {error}") from error
    if not trusted:
        require_harmless(text, owner, resolved=True)
    return text


def loadables(text: str, owner: str) -> list[Loadable]:
    """Return what the pretrainer of resolved hyperparameters fills, and from which files.

    Raises:
        ModelUnavailableError: There is no pretrainer.
    """
    pretrainer = _members(_members(_composed(text, owner)).get("pretrainer"))
    if "loadables" not in pretrainer:
        raise ModelUnavailableError(f"{owner} has no `pretrainer` with `loadables`: it is not made for inference")
    paths = _members(pretrainer.get("paths"))
    found = []
    for name, node in _members(pretrainer["loadables"]).items():
        made = str(node.tag).removeprefix("!new:")
        path = str(paths[name].value) if name in paths else f"{name}.ckpt"
        kind: Literal["weights", "text", "tokenizer"] = (
            "text" if made in ENCODERS else "tokenizer" if made == TOKENIZER else "weights"
        )
        found.append(Loadable(name, path.rpartition("/")[2], kind))
    return found


def require_plain(path: Path, kind: str, owner: str) -> None:
    """Make sure that a file holds nothing but tensors, or nothing but text.

    Raises:
        ModelUnavailableError: There is something else in it.
    """
    if kind == "weights":
        import torch  # noqa: PLC0415  takes seconds, and only models of SpeechBrain's need it

        try:
            torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            first = str(error).strip().partition("\n")[0]
            raise ModelUnavailableError(
                f"{owner} is refused: torch finds more than tensors in it, or none ({type(error).__name__}: {first}): "
                f"{_REMEDY}"
            ) from error
    elif kind == "text":
        content = path.read_bytes()
        try:
            if len(content) > MAX_TEXT_BYTES or b"\x00" in content:
                raise ValueError("it has NUL bytes, or too many others")
            content.decode("utf-8")
        except ValueError as error:
            raise ModelUnavailableError(f"{owner} is refused: it should be text ({error}): {_REMEDY}") from error


def _objection(node: Any, tag: str, resolved: bool) -> str | None:
    """Say what is wrong with one node; None where nothing is."""
    kind, _, name = tag.partition(":")
    if tag in ("!ref", "!copy") and not resolved:
        return _objection_to_reference(node)
    if kind == "!new":
        return _objection_to_object(node, name)
    if kind == "!name":
        return None if name in NAMES else f"the tag {tag} names what is not on the list of harmless names"
    if tag not in _PLAIN:
        return "a !PLACEHOLDER has no value" if tag == "!PLACEHOLDER" else f"the tag {_shown(tag)} may run code"
    return _objection_to_value(node.value, tag)


def _objection_to_value(value: object, tag: str) -> str | None:
    # HyperPyYAML reads what is in brackets, quoted or not, as YAML of which Python objects can be made; of what has the
    # tag it takes the first and the last letter for brackets.
    brackets = tag == "!tuple" or (isinstance(value, str) and value.lstrip().startswith("("))
    if brackets and not (isinstance(value, str) and _TUPLE.fullmatch(value)):
        return f"the text {str(value)[:60]!r} in brackets would be read as YAML of its own"
    return None


def _shown(tag: str) -> str:
    return f"!!{tag.removeprefix(_STANDARD)}" if tag.startswith(_STANDARD) else tag


def _objection_to_object(node: Any, name: str) -> str | None:
    if name not in OBJECTS:
        return f"the tag !new:{name} makes what is not on the list of harmless classes"
    if name == TOKENIZER and node.value:
        return f"the tag !new:{name} has arguments, and would read another file"
    if name == PRETRAINER and (others := _members(node).keys() - {"loadables", "paths", "collect_in"}):
        return f"the tag !new:{name} is given {', '.join(sorted(others))}"
    return None


def _objection_to_reference(node: Any) -> str | None:
    if not isinstance(node.value, str):
        return "a reference must be a text"
    around = _REFERENCE.sub("", node.value)
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
    """Yield a node and those below it, keys too, each once."""
    waiting, seen = [root], set[int]()
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        if len(seen) > MAX_NODES:
            raise ModelUnavailableError(f"{owner} has more than {MAX_NODES} values, and is not read")
        yield node
        if isinstance(node.value, list):
            waiting += [part for item in node.value for part in (item if isinstance(item, tuple) else (item,))]


def _members(node: Any) -> dict[str, Any]:
    """Return the values of a mapping by their keys; none of anything else."""
    if node is None or not isinstance(node.value, list):
        return {}
    return {str(item[0].value): item[1] for item in node.value if isinstance(item, tuple)}
