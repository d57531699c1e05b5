"""Moonshine: an utterance in, its text and the phrases in it out.

Source: Moonshine tiny (Jeffries et al. 2024, arXiv:2410.15608), the quantised .ort files of the moonshine-voice wheel,
MIT. One utterance a call: the weights are quantised dynamically, with a scale over the whole tensor, so in a batch
an answer would depend on its neighbours.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from features.denoising import denoised, weights
from features.levels import level_range_db
from features.pieces import Wants
from models.alignment import word_times
from models.bounds import check_numbers, check_text
from models.confidence import Evidence, Search, logit
from models.errors import ModelUnavailableError
from models.group import ModelSpec
from models.protocol import Answer, Detection
from models.settings import search_of, settings_of
from models.spotting import Spot, Spotted, Spotter
from models.tokens import END, START, Tokenizer

SAMPLE_RATE: Final = 16_000  # Hz
QUIET: Final = 1e-4  # a peak below it is not scaled up: -80 dBFS
MAX_RANGE_DB: Final = 25.0  # beyond it there is hardly any noise
MAX_LETTERS: Final = 10  # of the longest phrase that the confidence was fitted on
BOUNDS: Final = {  # of the settings
    "peak": (0.001, 1.0),  # of full scale
    "silence_s": (0.0, 10.0),
    "tokens_per_s": (0.0, 100.0),
    "denoise_below_db": (0.0, 200.0),
    "denoise_by_db": (0.0, 200.0),
}
EVIDENCE: Final = ("log_odds", "quality", "level_range", "letters", "heard", "heard_quality")
"""What speaks for a phrase: see `evidence_of`."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What group.toml says of the text; each changes it."""

    peak: float
    silence_s: float
    tokens_per_s: float
    denoise_below_db: float  # the range of levels of an utterance that is given less noise
    denoise_by_db: float
    denoiser_sha256: str

    def __post_init__(self) -> None:
        check_numbers(self, BOUNDS)
        check_text("denoiser_sha256", self.denoiser_sha256)


@dataclass(frozen=True, slots=True)
class Encoded:
    """An utterance as the decoder attends to it."""

    mask: NDArray[np.int64]  # shape (1, time)
    hidden: NDArray[np.float32]  # shape (1, frame, channel)
    range_db: float  # of its levels: `features.levels.level_range_db`


def load(spec: ModelSpec, folder: Path) -> "Moonshine":
    """Load Moonshine from `folder`.

    Raises:
        ModelUnavailableError: A setting is missing, unknown or impossible, or onnxruntime refuses the weights.
    """
    settings, search = settings_of(spec, Settings), search_of(spec, EVIDENCE)
    try:
        weights(settings.denoiser_sha256)
        return Moonshine(spec, settings, search, folder)
    except Exception as error:
        raise ModelUnavailableError(f"{spec.name}: cannot be loaded from {folder}: {error}") from error


class Moonshine:
    """The encoder and the decoder, on one thread: processes are what spreads the work."""

    task: str = "phrases"
    sample_rate: int = SAMPLE_RATE
    wants: Wants = "utterances"

    def __init__(self, spec: ModelSpec, settings: Settings, search: Search, folder: Path) -> None:
        self.name, self.version = spec.name, spec.version
        self._settings, self._search = settings, search
        self._encoder = _session(folder / "encoder_model.ort")
        self._decoder = _session(folder / "decoder_model_merged.ort")
        self._tokenizer = Tokenizer((folder / "tokenizer.bin").read_bytes())
        self._spotter = Spotter(search.phrases, self._tokenizer)
        inputs = {node.name: node.shape for node in self._decoder.get_inputs()}
        past_shapes = {name: shape for name, shape in inputs.items() if name.startswith("past_key_values.")}
        self._no_past = {name: np.zeros((1, shape[1], 0, shape[3]), np.float32) for name, shape in past_shapes.items()}
        self._past_names = [node.name.replace("present", "past_key_values") for node in self._decoder.get_outputs()[1:]]

    def predict(self, waveform: NDArray[np.float32], text: str | None = None) -> Answer:
        """Return the text of an utterance, the phrases in it, and the mean of what the encoder made of it over time.

        That embedding has 288 numbers (of Moonshine tiny); it comes after denoising and scaling, so it hears little of
        either. See `models.protocol.Model`.
        """
        encoded = self.encode(waveform)
        text = self.read(encoded) if text is None else text
        return Answer(self.search(waveform, encoded, text), text, encoded.hidden[0].mean(axis=0).astype(np.float16))

    def encode(self, waveform: NDArray[np.float32]) -> Encoded:
        """Return an utterance as the decoder attends to it.

        Args:
            waveform: Samples in [-1, 1] at SAMPLE_RATE. Shape (time,).
        """
        range_db = level_range_db(waveform, SAMPLE_RATE)
        samples = self._prepared(waveform, range_db)
        mask = np.ones(samples.shape, np.int64)
        return Encoded(mask, self._encoder.run(None, {"input_values": samples, "attention_mask": mask})[0], range_db)

    def read(self, encoded: Encoded) -> str:
        """Return the greedy text of an utterance."""
        past, token, tokens = self._no_past, START, []
        for step in range(math.ceil(encoded.mask.shape[1] / SAMPLE_RATE * self._settings.tokens_per_s)):
            logits, *present = self._decode(encoded, [token], past)
            token = int(logits[0, -1].argmax())
            if token == END:
                break
            tokens.append(token)
            past = past | {
                name: value
                for name, value in zip(self._past_names, present, strict=True)
                if step == 0 or ".decoder." in name  # the encoder's keys and values come once, with the first step
            }
        return self._tokenizer.decode(tokens).text

    def search(self, waveform: NDArray[np.float32], encoded: Encoded, text: str) -> tuple[Detection, ...]:
        """Return the phrases in an utterance, in order of time.

        Args:
            waveform: Samples in [-1, 1] at SAMPLE_RATE. Shape (time,).
            encoded: The same.
            text: What was read in it.
        """
        if not self._search.phrases:
            return ()
        found = self.spot(encoded, text)
        rated = [
            (spot, self._search.calibration.of(evidence_of(spot, found.quality, encoded.range_db)))
            for spot in found.spots
        ]
        likely = [(spot, confidence) for spot, confidence in rated if confidence >= self._search.least_confidence]
        if not likely:
            return ()
        places = place([spot for spot, _ in likely], waveform, text)
        detections = [
            Detection(spot.phrase, start_s, end_s, confidence)
            for (spot, confidence), (start_s, end_s) in zip(likely, places, strict=True)
        ]
        return tuple(sorted(detections, key=lambda found: (found.start_s, found.label)))

    def spot(self, encoded: Encoded, text: str) -> Spotted:
        """Return every phrase that may be in an utterance, with the decoder's own probabilities."""
        return self._spotter.spot(text, lambda tokens: self._log_probabilities(encoded, tokens))

    def _log_probabilities(self, encoded: Encoded, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Return the log-probability of every token behind each beginning of `tokens`, in one call."""
        logits: NDArray[np.float32] = self._decode(encoded, [START, *tokens], self._no_past)[0][0]
        logits -= logits.max(axis=1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return logits

    def _decode(
        self, encoded: Encoded, tokens: Sequence[int], past: dict[str, NDArray[np.float32]]
    ) -> list[NDArray[np.float32]]:
        """Return the logits behind each token, and what to give as the past of the next one."""
        outputs: list[NDArray[np.float32]] = self._decoder.run(
            None,
            {
                "encoder_attention_mask": encoded.mask,
                "encoder_hidden_states": encoded.hidden,
                "input_ids": np.array([tokens], np.int64),
                "use_cache_branch": np.array([past is not self._no_past]),
                **past,
            },
        )
        return outputs

    def _prepared(self, waveform: NDArray[np.float32], range_db: float) -> NDArray[np.float32]:
        if range_db < self._settings.denoise_below_db:
            waveform = denoised(waveform, SAMPLE_RATE, self._settings.denoise_by_db, self._settings.denoiser_sha256)
        peak = float(np.abs(waveform).max(initial=0))
        scaled = waveform * np.float32(self._settings.peak / peak) if peak > QUIET else waveform
        silence = np.zeros(round(self._settings.silence_s * SAMPLE_RATE), np.float32)
        prepared: NDArray[np.float32] = np.concatenate([silence, scaled, silence])[None].astype(np.float32, copy=False)
        return prepared


def evidence_of(spot: Spot, quality: float, range_db: float) -> Evidence:
    """Return what speaks for a phrase, by the names in EVIDENCE.

    A phrase that the text has is more often right than one beside it of the same probability, the more so the surer the
    decoder is of the whole text: in noise it writes fluently what nobody said. Short words are easily mistaken.

    Args:
        spot: The phrase at its place.
        quality: Mean log-probability of the tokens of the utterance's text.
        range_db: The utterance's range of levels: the smaller, the more noise.
    """
    heard = float(spot.heard)
    return {
        "log_odds": logit(math.exp(spot.log_probability)),
        "quality": quality,
        "level_range": min(range_db, MAX_RANGE_DB),
        "letters": float(min(sum(map(str.isalnum, spot.phrase)), MAX_LETTERS)),
        "heard": heard,
        "heard_quality": heard * quality,
    }


def place(spots: Sequence[Spot], waveform: NDArray[np.float32], text: str) -> list[tuple[float, float]]:
    """Return when phrases are said, as (start, end) in seconds from the start of the utterance.

    Args:
        spots: Phrases at words of `text`.
        waveform: The utterance, samples in [-1, 1] at SAMPLE_RATE. Shape (time,).
        text: What was read in it.
    """
    duration_s, times = len(waveform) / SAMPLE_RATE, word_times(waveform, text)
    behind = times[-1][1] if times else 0.0
    return [
        (times[spot.first_word][0], times[spot.first_word + spot.words - 1][1]) if spot.words else (behind, duration_s)
        for spot in spots
    ]


def _session(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
