"""Whisper through faster-whisper: an utterance in, its text and the phrases in it out. It must not fetch anything.

Source: Whisper (Radford et al. 2022, arXiv:2212.04356), weights as CTranslate2 converts them. A call always costs as
much as 30 s of audio, to which Whisper pads: it hears better than Moonshine, at many times the price.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from features.pieces import Wants
from models.bounds import check_numbers, check_text
from models.confidence import Evidence, Search, logit
from models.errors import ModelUnavailableError
from models.group import ModelSpec
from models.phrases import find_phrase, words_of
from models.protocol import Answer, Detection
from models.settings import search_of, settings_of

SAMPLE_RATE: Final = 16_000  # Hz
OTHER_FILES: Final = ("vocabulary.txt", "vocabulary.json", "preprocessor_config.json")  # read where they are there
MARKS: Final = 8  # tokens for marks of time, beside those of the text
EVIDENCE: Final = ("log_odds", "quality")
"""What speaks for a phrase, which is always in the text: its probability, and the text's mean log-probability."""
BOUNDS: Final = {"beam_size": (1, 100), "tokens_per_s": (0.0, 100.0)}  # of the settings
MOST_TOKENS: Final = 440  # the decoder has 448 places, and some are taken when it begins


@dataclass(frozen=True, slots=True)
class Settings:
    """What group.toml says of the text; each changes it."""

    language: str  # as Whisper names it: "en"
    beam_size: int
    tokens_per_s: float
    compute_type: str  # of CTranslate2: "int8" for speed, "float32" as trained

    def __post_init__(self) -> None:
        check_numbers(self, BOUNDS)
        if not isinstance(self.beam_size, int):
            raise TypeError(f"`beam_size` must be a whole number, not {self.beam_size}")
        check_text("language", self.language)
        check_text("compute_type", self.compute_type)


@dataclass(frozen=True, slots=True)
class Said:
    """A word as Whisper writes it, with the space before it and the marks behind it."""

    text: str
    start_s: float  # from the start of the utterance
    end_s: float
    probability: float


@dataclass(frozen=True, slots=True)
class Reading:
    """What Whisper makes of an utterance."""

    words: tuple[Said, ...]
    quality: float  # mean log-probability of the tokens

    @property
    def text(self) -> str:
        """The whole text, without the space before its first word."""
        return "".join(word.text for word in self.words).strip()


def load(spec: ModelSpec, folder: Path) -> "Whisper":
    """Load Whisper from `folder`.

    Raises:
        ModelUnavailableError: faster-whisper is not installed, a setting is missing, unknown or impossible, a file that
            changes the output has no sha256, or the weights are refused.
    """
    try:
        from faster_whisper import WhisperModel  # noqa: PLC0415  an extra, and slow to import
    except ImportError as error:
        raise ModelUnavailableError(
            f"{spec.name}: faster-whisper is not installed: pip install 'audiophile[whisper]'"
        ) from error
    settings, search = settings_of(spec, Settings), search_of(spec, EVIDENCE)
    unnamed = [name for name in OTHER_FILES if (folder / name).exists() and name not in spec.sha256]
    if unnamed:
        raise ModelUnavailableError(
            f"{spec.name}: {folder} has {', '.join(unnamed)}, which would be read: add its sha256 under [model.sha256]"
        )
    try:
        decoder = WhisperModel(
            str(folder), "cpu", compute_type=settings.compute_type, cpu_threads=1, num_workers=1, local_files_only=True
        )
    except Exception as error:
        raise ModelUnavailableError(f"{spec.name}: cannot be loaded from {folder}: {error}") from error
    if settings.language not in decoder.supported_languages:
        raise ModelUnavailableError(
            f"{spec.name}: it knows no language {settings.language!r}: set `language` to its own"
        )
    return Whisper(spec, settings, search, decoder)


class Whisper:
    """One decoder on one thread: processes are what spreads the work."""

    task: str = "phrases"
    sample_rate: int = SAMPLE_RATE
    wants: Wants = "utterances"

    def __init__(self, spec: ModelSpec, settings: Settings, search: Search, decoder: Any) -> None:
        self.name, self.version = spec.name, spec.version
        self._settings, self._search, self._decoder = settings, search, decoder

    def predict(self, waveform: NDArray[np.float32], text: str | None = None) -> Answer:
        """Return the text of an utterance and the phrases in it; see `models.protocol.Model`.

        A text that is known is read again all the same. Its words' times and probabilities need the encoder, which is
        four fifths of the cost, and the very tokens that were written: the tokenizer.json of published weights lacks
        the first merge, so that it spells " the" with two tokens where the decoder writes one.
        """
        if text is not None:
            words = words_of(text)
            if not any(True for phrase in self._search.phrases for _ in find_phrase(phrase, words)):
                return Answer((), text)
        reading = self.read(waveform)
        return Answer(find(reading, self._search, len(waveform) / SAMPLE_RATE), reading.text if text is None else text)

    def read(self, waveform: NDArray[np.float32]) -> Reading:
        """Return the words of an utterance.

        Args:
            waveform: Samples in [-1, 1] at SAMPLE_RATE. Shape (time,).
        """
        if not len(waveform):
            return Reading((), 0.0)
        # One temperature: others draw words at random where the first text looks poor.
        segments, _ = self._decoder.transcribe(
            waveform,
            language=self._settings.language,
            beam_size=self._settings.beam_size,
            temperature=0.0,
            max_new_tokens=min(
                MARKS + math.ceil(len(waveform) / SAMPLE_RATE * self._settings.tokens_per_s), MOST_TOKENS
            ),
            condition_on_previous_text=False,
            vad_filter=False,
            word_timestamps=True,
        )
        written = [segment for segment in segments if segment.words]
        words = tuple(
            Said(word.word, float(word.start), float(word.end), float(word.probability))
            for segment in written
            for word in segment.words
        )
        tokens = [len(segment.tokens) for segment in written]
        log_probabilities = [segment.avg_logprob for segment in written]
        return Reading(words, float(np.average(log_probabilities, weights=tokens)) if words else 0.0)


def find(reading: Reading, search: Search, duration_s: float) -> tuple[Detection, ...]:
    """Return the phrases in a reading, in order of time.

    Args:
        reading: Of an utterance.
        search: What to look for.
        duration_s: Of the utterance, which no phrase leaves.
    """
    found = []
    for phrase, said in places(reading, search.phrases):
        confidence = search.calibration.of(evidence_of(said, reading))
        if confidence >= search.least_confidence:
            start_s, end_s = min(said[0].start_s, duration_s), min(said[-1].end_s, duration_s)
            found.append(Detection(phrase, start_s, end_s, confidence))
    return tuple(sorted(found, key=lambda detection: (detection.start_s, detection.label)))


def evidence_of(said: Sequence[Said], reading: Reading) -> Evidence:
    """Return what speaks for a phrase of these words, by the names in EVIDENCE."""
    return {"log_odds": logit(math.prod(word.probability for word in said)), "quality": reading.quality}


def places(reading: Reading, phrases: Sequence[str]) -> Iterator[tuple[str, list[Said]]]:
    """Yield each phrase that was read, with the words that it is made of: Whisper's, which may be cut otherwise."""
    owners = [number for number, said in enumerate(reading.words) for _ in said.text]  # of each character
    words = words_of("".join(said.text for said in reading.words))
    for phrase in phrases:
        for first, last in find_phrase(phrase, words):
            numbers = {number for word in words[first:last] for number in owners[word.start : word.end]}
            yield phrase, [reading.words[number] for number in sorted(numbers)]
