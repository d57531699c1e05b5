"""Moonshine: an utterance in, its text and the phrases in it out.

Source: Moonshine tiny (Jeffries et al. 2024, arXiv:2410.15608), the quantised .ort files of the moonshine-voice wheel,
MIT. One utterance a call: the weights are quantised dynamically, with a scale over the whole tensor, so in a batch
an answer would depend on its neighbours.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.errors import ModelUnavailableError
from models.group import ModelSpec
from models.phrases import Word, find_phrase, words_of
from models.protocol import Answer, Detection

SAMPLE_RATE: Final = 16_000  # Hz
START_TOKEN: Final = 1
END_TOKEN: Final = 2
WORD_START: Final = "\N{LOWER ONE EIGHTH BLOCK}"
QUIET: Final = 1e-4  # a peak below it is not scaled up: -80 dBFS


@dataclass(frozen=True, slots=True)
class Settings:
    """What group.toml says; each changes the output."""

    phrases: tuple[str, ...]
    peak: float
    silence_s: float
    tokens_per_s: float
    confidence_slope: float
    confidence_offset: float


@dataclass(frozen=True, slots=True)
class Decoded:
    """A text, and for each of its characters the token that it came from."""

    text: str
    token_of_character: tuple[int, ...]
    probabilities: tuple[float, ...]  # of each token, along the greedy path

    def probability_of(self, words: list[Word]) -> float:
        """Return the decoder's own probability of some of the text's words, from 0 to 1; not calibrated."""
        tokens = {self.token_of_character[at] for word in words for at in range(word.start, word.end)}
        return math.prod(self.probabilities[token] for token in tokens)


def load(spec: ModelSpec, folder: Path) -> "Moonshine":
    """Load Moonshine from `folder`.

    Raises:
        ModelUnavailableError: A setting is missing or unknown, or onnxruntime refuses the weights.
    """
    try:
        settings = Settings(**{**spec.settings, "phrases": tuple(spec.settings["phrases"])})
        return Moonshine(spec, settings, folder)
    except (TypeError, KeyError) as error:
        raise ModelUnavailableError(f"{spec.name}: its settings in the group file are wrong: {error}") from error
    except Exception as error:
        raise ModelUnavailableError(f"{spec.name}: cannot be loaded from {folder}: {error}") from error


class Moonshine:
    """The encoder and the decoder, on one thread: processes are what spreads the work."""

    task: str = "phrases"
    sample_rate: int = SAMPLE_RATE
    wants: Literal["utterances"] = "utterances"

    def __init__(self, spec: ModelSpec, settings: Settings, folder: Path) -> None:
        self.name, self.version = spec.name, spec.version
        self._settings = settings
        self._encoder = _session(folder / "encoder_model.ort")
        self._decoder = _session(folder / "decoder_model_merged.ort")
        self._tokens = read_tokens((folder / "tokenizer.bin").read_bytes())
        inputs = {node.name: node.shape for node in self._decoder.get_inputs()}
        self._past_shapes = {name: shape for name, shape in inputs.items() if name.startswith("past_key_values.")}
        self._past_names = [node.name.replace("present", "past_key_values") for node in self._decoder.get_outputs()[1:]]

    def predict(self, waveform: NDArray[np.float32]) -> Answer:
        """Return the text of an utterance and the phrases in it; see `models.protocol.Model`."""
        decoded = self.decode(waveform)
        words = words_of(decoded.text)
        duration_s = len(waveform) / SAMPLE_RATE
        detections = []
        for phrase in self._settings.phrases:
            for first, last in find_phrase(phrase, words):
                spoken = words[first:last]
                start_s, end_s = _place(spoken, decoded.text, duration_s)
                detections.append(Detection(phrase, start_s, end_s, self.calibrated(decoded.probability_of(spoken))))
        return Answer(tuple(sorted(detections, key=lambda d: (d.start_s, d.label))), decoded.text)

    def decode(self, waveform: NDArray[np.float32]) -> Decoded:
        """Return the greedy text of an utterance.

        Args:
            waveform: Samples in [-1, 1] at SAMPLE_RATE. Shape (time,).
        """
        samples = self._prepared(waveform)
        mask = np.ones(samples.shape, np.int64)
        hidden = self._encoder.run(None, {"input_values": samples, "attention_mask": mask})[0]
        past = {name: np.zeros((1, shape[1], 0, shape[3]), np.float32) for name, shape in self._past_shapes.items()}
        token, tokens, probabilities = START_TOKEN, [], []
        for step in range(math.ceil(samples.shape[1] / SAMPLE_RATE * self._settings.tokens_per_s)):
            outputs = self._decoder.run(
                None,
                {
                    "encoder_attention_mask": mask,
                    "encoder_hidden_states": hidden,
                    "input_ids": np.array([[token]], np.int64),
                    "use_cache_branch": np.array([step > 0]),
                    **past,
                },
            )
            logits = outputs[0][0, -1]
            token = int(logits.argmax())
            if token == END_TOKEN:
                break
            tokens.append(token)
            probabilities.append(float(1 / np.exp(logits - logits[token]).sum()))
            past |= {
                name: value
                for name, value in zip(self._past_names, outputs[1:], strict=True)
                if step == 0 or ".decoder." in name  # the encoder's keys and values come once, with the first step
            }
        return self._text(tokens, probabilities)

    def _prepared(self, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        peak = float(np.abs(waveform).max(initial=0))
        scaled = waveform * np.float32(self._settings.peak / peak) if peak > QUIET else waveform
        silence = np.zeros(round(self._settings.silence_s * SAMPLE_RATE), np.float32)
        prepared: NDArray[np.float32] = np.concatenate([silence, scaled, silence])[None].astype(np.float32, copy=False)
        return prepared

    def _text(self, tokens: list[int], probabilities: list[float]) -> Decoded:
        content = b""
        owners: list[int] = []  # token of each byte
        for position, token in enumerate(tokens):
            content += self._tokens[token]
            owners += [position] * len(self._tokens[token])
        text, owner_of_character, byte = "", [], 0
        for character in content.decode("utf-8", errors="replace"):
            text += " " if character == WORD_START else character
            owner_of_character.append(owners[min(byte, len(owners) - 1)])
            byte += len(character.encode()) if character != "\N{REPLACEMENT CHARACTER}" else 1
        stripped = text.lstrip()
        return Decoded(stripped, tuple(owner_of_character[len(text) - len(stripped) :]), tuple(probabilities))

    def calibrated(self, probability: float) -> float:
        """Return how often a phrase that the decoder gave `probability` is right (Platt 1999)."""
        bounded = min(max(probability, 1e-6), 1 - 1e-6)
        score = self._settings.confidence_slope * math.log(bounded / (1 - bounded)) + self._settings.confidence_offset
        return round(1 / (1 + math.exp(-score)), 4)


def read_tokens(content: bytes) -> list[bytes]:
    """Return the tokens of a tokenizer.bin: each is one byte, its length, and its bytes."""
    tokens, at = [], 0
    while at < len(content):
        end = at + 1 + content[at]
        tokens.append(content[at + 1 : end])
        at = end
    return tokens


def _place(words: list[Word], text: str, duration_s: float) -> tuple[float, float]:
    """Return when `words` are spoken, in seconds, as if every character took the same time."""
    return words[0].start / len(text) * duration_s, words[-1].end / len(text) * duration_s


def _session(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
