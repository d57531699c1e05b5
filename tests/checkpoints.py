"""Small checkpoints of SpeechBrain's, made as its hub has them: all the parts of real ones, and few weights."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
import torch
from hyperpyyaml import load_hyperpyyaml
from numpy.typing import NDArray

torch.set_num_threads(1)  # as models do: two processes on two cores would wait for each other

FEATURES = """
# what the hub's own files begin with
pretrained_path: someone/on-the-hub
sample_rate: 16000
n_mels: 20
compute_features: !new:speechbrain.lobes.features.Fbank
    sample_rate: !ref <sample_rate>
    n_mels: !ref <n_mels>
mean_var_norm: !new:speechbrain.processing.features.InputNormalization
    norm_type: sentence
    std_norm: False
"""

CLASSIFIER = f"""{FEATURES}
embedding_size: 12
embedding_model: !new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN
    input_size: !ref <n_mels>
    channels: [16, 16, 16, 16, 48]
    kernel_sizes: [5, 3, 3, 3, 1]
    dilations: [1, 2, 3, 4, 1]
    res2net_scale: 4
    attention_channels: 8
    se_channels: 8
    lin_neurons: !ref <embedding_size>
classifier: !new:speechbrain.lobes.models.ECAPA_TDNN.Classifier
    input_size: !ref <embedding_size>
    out_neurons: 4
label_encoder: !new:speechbrain.dataio.encoder.CategoricalEncoder
modules:
    compute_features: !ref <compute_features>
    mean_var_norm: !ref <mean_var_norm>
    embedding_model: !ref <embedding_model>
    classifier: !ref <classifier>
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        embedding_model: !ref <embedding_model>
        classifier: !ref <classifier>
        label_encoder: !ref <label_encoder>
    paths:
        embedding_model: !ref <pretrained_path>/embedding_model.ckpt
        classifier: !ref <pretrained_path>/classifier.ckpt
        label_encoder: !ref <pretrained_path>/label_encoder.txt
"""

CTC = f"""{FEATURES}
ctc_lin: !new:speechbrain.nnet.linear.Linear
    input_size: !ref <n_mels>
    n_neurons: 6
log_softmax: !new:speechbrain.nnet.activations.Softmax
    apply_log: True
encoder: !new:speechbrain.nnet.containers.LengthsCapableSequential
    compute_features: !ref <compute_features>
    normalize: !ref <mean_var_norm>
    ctc_lin: !ref <ctc_lin>
    log_softmax: !ref <log_softmax>
tokenizer: !new:speechbrain.dataio.encoder.CTCTextEncoder
decoding_function: !name:speechbrain.decoders.ctc_greedy_decode
    blank_id: 0
modules:
    encoder: !ref <encoder>
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        asr: !ref <encoder>
        tokenizer: !ref <tokenizer>
"""

SEQ2SEQ = f"""{FEATURES}
tokens: 16
enc: !new:speechbrain.nnet.linear.Linear
    input_size: !ref <n_mels>
    n_neurons: 8
emb: !new:speechbrain.nnet.embedding.Embedding
    num_embeddings: !ref <tokens>
    embedding_dim: 6
dec: !new:speechbrain.nnet.RNN.AttentionalRNNDecoder
    enc_dim: 8
    input_size: 6
    rnn_type: gru
    attn_type: content
    hidden_size: 8
    attn_dim: 8
    num_layers: 1
seq_lin: !new:speechbrain.nnet.linear.Linear
    input_size: 8
    n_neurons: !ref <tokens>
encoder: !new:speechbrain.nnet.containers.LengthsCapableSequential
    compute_features: !ref <compute_features>
    normalize: !ref <mean_var_norm>
    model: !ref <enc>
decoder: !new:speechbrain.decoders.S2SRNNBeamSearcher
    embedding: !ref <emb>
    decoder: !ref <dec>
    linear: !ref <seq_lin>
    bos_index: 0
    eos_index: 0
    min_decode_ratio: 0.0
    max_decode_ratio: 0.02
    beam_size: 2
model: !new:torch.nn.ModuleList
    - [!ref <enc>, !ref <emb>, !ref <dec>, !ref <seq_lin>]
tokenizer: !new:sentencepiece.SentencePieceProcessor
modules:
    encoder: !ref <encoder>
    decoder: !ref <decoder>
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        asr: !ref <model>
        tokenizer: !ref <tokenizer>
"""

GREEDY = (
    SEQ2SEQ.replace("S2SRNNBeamSearcher", "S2SRNNGreedySearcher")
    .replace("    beam_size: 2\n", "")
    .replace("max_decode_ratio: 0.02", "max_decode_ratio: 1.0")
)

SPEECH = f"""{FEATURES}
device: cpu
time_resolution: 0.01
cnn: !new:speechbrain.lobes.models.CRDNN.CNN_Block
    input_shape: [null, null, !ref <n_mels>]
    channels: 4
    kernel_size: [3, 3]
rnn: !new:speechbrain.nnet.RNN.GRU
    input_shape: [null, null, !ref <n_mels> * 2]
    hidden_size: 8
dnn: !new:speechbrain.nnet.linear.Linear
    input_size: 8
    n_neurons: 1
model: !new:torch.nn.ModuleList
    - [!ref <cnn>, !ref <rnn>, !ref <dnn>]
modules:
    compute_features: !ref <compute_features>
    mean_var_norm: !ref <mean_var_norm>
    cnn: !ref <cnn>
    rnn: !ref <rnn>
    dnn: !ref <dnn>
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        model: !ref <model>
    paths:
        model: !ref <pretrained_path>/model.ckpt
"""


def made(text: str) -> dict[str, Any]:
    """Return what hyperparameters make, with the same weights each time."""
    torch.manual_seed(1)
    found: dict[str, Any] = load_hyperpyyaml(text)
    for module in found["modules"].values():
        module.eval()
    return found


def digests(folder: Path) -> dict[str, str]:
    """Return the sha256 of each file in a folder, as the group file names them."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def classifier(folder: Path, labels: Iterable[str] = ("yes", "no", "up", "down")) -> dict[str, str]:
    """Write an ECAPA-TDNN with a classifier; return its digests."""
    parts = made(CLASSIFIER)
    parts["label_encoder"].update_from_iterable(labels)
    _write(folder, CLASSIFIER, {name: parts[name] for name in ("embedding_model", "classifier")})
    parts["label_encoder"].save(folder / "label_encoder.txt")
    return digests(folder)


def ctc(folder: Path, words: Iterable[str], said: int) -> dict[str, str]:
    """Write a recogniser whose tokens are words, and which hears the one numbered `said`, from 1; 0 is nothing."""
    parts = made(CTC)
    tokenizer = parts["tokenizer"]
    tokenizer.insert_blank(index=0)
    tokenizer.update_from_iterable(words, sequence_input=False)
    with torch.no_grad():
        parts["ctc_lin"].w.weight.mul_(0.01)
        parts["ctc_lin"].w.bias.zero_()[said] = 8.0
    _write(folder, CTC, {"asr": parts["encoder"]})
    tokenizer.save(folder / "tokenizer.ckpt")
    return digests(folder)


def seq2seq(folder: Path, text: str = SEQ2SEQ, end_bias: float = 0.0) -> dict[str, str]:
    """Write a recogniser with a decoder and a tokenizer of SentencePiece's, which hears nonsense.

    Args:
        folder: Where to.
        text: Its hyperparameters, SEQ2SEQ or GREEDY.
        end_bias: The higher, the sooner its decoder ends.
    """
    parts = made(text)
    with torch.no_grad():
        parts["seq_lin"].w.bias[0] += end_bias
    _write(folder, text, {"asr": parts["model"]})
    with (folder / "tokenizer.ckpt").open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["it was the best of times", "it was the worst of times"]),
            model_writer=file,
            vocab_size=16,
            model_type="char",
            hard_vocab_limit=False,
            minloglevel=3,
        )
    return digests(folder)


def speech(folder: Path, waveform: NDArray[np.float32], spoken: NDArray[np.bool_]) -> dict[str, str]:
    """Write a detector of speech that has learned one recording by heart, at 16 kHz and frame by frame of 10 ms."""
    parts = made(SPEECH)
    features = parts["mean_var_norm"](parts["compute_features"](torch.from_numpy(waveform)[None]), torch.ones(1))
    with torch.no_grad():  # the last layer alone learns, in one step: by least squares
        hidden = parts["rnn"](parts["cnn"](features).flatten(2))[0][0][: len(spoken)]
        wanted = 8.0 * torch.from_numpy(spoken[: len(hidden)].astype(np.float32))[:, None] - 4.0
        solved = torch.linalg.lstsq(torch.cat([hidden, torch.ones(len(hidden), 1)], dim=1), wanted).solution
        parts["dnn"].w.weight.copy_(solved[:-1].T)
        parts["dnn"].w.bias.copy_(solved[-1])
    _write(folder, SPEECH, {"model": parts["model"]})
    return digests(folder)


def _write(folder: Path, text: str, modules: dict[str, torch.nn.Module]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hyperparams.yaml").write_text(text, encoding="utf-8")
    for name, module in modules.items():
        torch.save(module.state_dict(), folder / f"{name}.ckpt")
