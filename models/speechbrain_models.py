"""SpeechBrain's inference classes as models: classes of an utterance, embeddings of speakers, texts, speech in time.

Source: SpeechBrain 1.1 (Ravanelli et al. 2021, arXiv:2106.04624). What a model is, its files say; `models.trust` says
what they may. Importing this imports neither speechbrain nor torch.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from features.audio import resampled
from features.pieces import Wants
from models import alignment
from models.bounds import check_number, check_numbers, shown
from models.confidence import Evidence, Search
from models.errors import ModelUnavailableError
from models.group import ModelSpec
from models.phrases import find_phrase, words_of
from models.protocol import Answer, Detection
from models.settings import require_no_settings, search_of, settings_of
from models.speechbrain_loading import labels_of, load_interface, require_outputs
from models.trial import answering

RATES: Final = (8_000, 48_000)  # Hz
FRAMES_S: Final = (0.001, 1.0)  # of a detector of speech
DEFAULT_RATE: Final = 16_000  # Hz; of models whose files do not say
LEAST_S: Final = 0.25  # what is shorter gets silence behind it: convolutions need some frames
SPEECH: Final = "speech"
EVIDENCE: Final = ("quality",)
"""What speaks for a phrase in a text: how sure the decoder is of the whole text, see `Recogniser`."""

Wave = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ClassifierSettings:
    """What group.toml says of a classifier."""

    top: int  # classes of an utterance, at most
    least_confidence: float  # what is less likely is no detection
    softmax: bool  # its outputs are similarities (ECAPA's classifier), and not log-probabilities (the x-vector's)
    scale: float  # of similarities before the softmax: that of the loss that it was trained with

    def __post_init__(self) -> None:
        check_numbers(self, {"top": (1, 1000), "least_confidence": (0.0, 1.0), "scale": (0.01, 1000.0)})
        if not isinstance(self.top, int):
            raise TypeError(f"`top` must be a whole number, not {shown(self.top)}")
        if not isinstance(self.softmax, bool):
            raise TypeError(f"`softmax` must be true or false, not {shown(self.softmax)}")


@dataclass(frozen=True, slots=True)
class SpeechSettings:
    """What group.toml says of a detector of speech."""

    activation: float  # speech begins where it is as probable as this
    deactivation: float  # and ends where it is less probable than this
    close_s: float  # shorter pauses do not count
    short_s: float  # nor does shorter speech
    chunk_s: float  # what is looked at in one piece: the length that it was trained on

    def __post_init__(self) -> None:
        check_number("activation", self.activation, 0.0, 1.0)
        check_number("deactivation", self.deactivation, 0.0, self.activation)
        check_numbers(self, {"close_s": (0.0, 60.0), "short_s": (0.0, 60.0), "chunk_s": (1.0, 60.0)})


def load_classifier(spec: ModelSpec, folder: Path) -> "Classifier":
    """Load a classifier of utterances: speech commands, languages, emotions.

    Raises:
        ModelUnavailableError: A setting is wrong, or a file is refused or does not fit.
    """
    settings = settings_of(spec, ClassifierSettings)
    return answering(Classifier(spec, settings, load_interface(spec, folder, _always("EncoderClassifier"))))


def load_speaker(spec: ModelSpec, folder: Path) -> "Speaker":
    """Load what makes embeddings of speakers.

    Raises:
        ModelUnavailableError: There is a setting, or a file is refused or does not fit.
    """
    require_no_settings(spec)
    return answering(Speaker(spec, load_interface(spec, folder, _always("EncoderClassifier"))))


def load_recogniser(spec: ModelSpec, folder: Path) -> "Recogniser":
    """Load a recogniser: one with a decoding function (CTC), or one with a decoder.

    Raises:
        ModelUnavailableError: A setting is wrong, or a file is refused or does not fit.
    """
    require_no_settings(spec)
    search = search_of(spec, EVIDENCE)
    return answering(Recogniser(spec, search, load_interface(spec, folder, _recogniser_of)))


def load_speech(spec: ModelSpec, folder: Path) -> "Speech":
    """Load a detector of speech.

    Raises:
        ModelUnavailableError: A setting is wrong, or a file is refused or does not fit.
    """
    settings = settings_of(spec, SpeechSettings)
    interface = load_interface(spec, folder, _always("VAD"))
    _check_number_of(spec, interface, "time_resolution", FRAMES_S)
    return answering(Speech(spec, settings, interface))


class _Model:
    """What all of them have."""

    task: str
    wants: Wants = "utterances"

    def __init__(self, spec: ModelSpec, interface: Any) -> None:
        self.name, self.version = spec.name, spec.version
        self.interface = interface
        if hasattr(interface.hparams, "sample_rate"):
            _check_number_of(spec, interface, "sample_rate", RATES)
        self.sample_rate = int(getattr(interface.hparams, "sample_rate", DEFAULT_RATE))

    def _batch(self, waveform: Wave) -> Any:
        """Return a waveform as a batch of one. Shape (1, time)."""
        import torch  # noqa: PLC0415  is loaded by now

        short = max(0, round(LEAST_S * self.sample_rate) - len(waveform))
        return torch.from_numpy(np.pad(waveform, (0, short)).astype(np.float32, copy=False))[None]


class Classifier(_Model):
    """Says of each utterance as a whole what it is."""

    task = "labels"

    def __init__(self, spec: ModelSpec, settings: ClassifierSettings, interface: Any) -> None:
        super().__init__(spec, interface)
        self._settings = settings
        self._labels = labels_of(spec, interface)

    def predict(self, waveform: Wave, text: str | None = None) -> Answer:  # noqa: ARG002  it reads no text
        """Return the likeliest classes; see `models.protocol.Model`."""
        import torch  # noqa: PLC0415  is loaded by now

        if not len(waveform):
            return Answer()
        with torch.inference_mode():
            scores = self.interface.classify_batch(self._batch(waveform))[0][0]
            require_outputs(scores, self._labels)
            similar = self._settings.softmax
            probabilities = (scores * self._settings.scale).softmax(-1) if similar else scores.exp()
            best = probabilities.topk(min(self._settings.top, len(probabilities)))
        found = [
            (self._labels[index], round(min(probability, 1.0), 4))
            for probability, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]
        duration_s = len(waveform) / self.sample_rate
        return Answer(
            tuple(
                Detection(label, 0.0, duration_s, confidence)
                for label, confidence in found
                if confidence >= self._settings.least_confidence
            )
        )


class Speaker(_Model):
    """Gives each utterance an embedding of unit length. Those of one speaker point into about the same direction."""

    task = "speaker"

    def predict(self, waveform: Wave, text: str | None = None) -> Answer:  # noqa: ARG002  it reads no text
        """Return the embedding, and no detection; see `models.protocol.Model`."""
        import torch  # noqa: PLC0415  is loaded by now

        if not len(waveform):
            return Answer()
        with torch.inference_mode():
            embedding = self.interface.encode_batch(self._batch(waveform)).flatten()
            unit = torch.nn.functional.normalize(embedding, dim=0)
        return Answer(embedding=unit.numpy().astype(np.float16))


class Recogniser(_Model):
    """Reads an utterance, and finds phrases in its text.

    Its evidence is one number, the text's quality: of a CTC model, the mean over frames of the best class's
    log-probability; of one with a decoder, the mean log-probability of the tokens. So all phrases of an utterance are
    as likely as its text: less than what other families weigh, but it is known for every checkpoint.
    """

    task = "phrases"

    def __init__(self, spec: ModelSpec, search: Search, interface: Any) -> None:
        super().__init__(spec, interface)
        self._search = search
        self._quality = 0.0
        scorer = "decoder" if "decoder" in interface.mods else "encoder"
        interface.mods[scorer].register_forward_hook(self._listen)

    def predict(self, waveform: Wave, text: str | None = None) -> Answer:
        """Return the text and the phrases in it; see `models.protocol.Model`."""
        if text is not None and not self._places(text):
            return Answer((), text)
        if not len(waveform):
            return Answer((), text or "")
        read, quality = self.read(waveform)
        text = read if text is None else text
        confidence = self._search.calibration.of(evidence_of(quality))
        places = self._places(text) if confidence >= self._search.least_confidence else []
        if not places:
            return Answer((), text)
        times = alignment.word_times(resampled(waveform, self.sample_rate, alignment.SAMPLE_RATE), text)
        found = [Detection(phrase, times[first][0], times[last - 1][1], confidence) for phrase, first, last in places]
        return Answer(tuple(sorted(found, key=lambda detection: (detection.start_s, detection.label))), text)

    def read(self, waveform: Wave) -> tuple[str, float]:
        """Return the text of an utterance and its quality.

        Args:
            waveform: Samples in [-1, 1] at `sample_rate`. Shape (time,).
        """
        import torch  # noqa: PLC0415  is loaded by now

        with torch.inference_mode():
            texts, _ = self.interface.transcribe_batch(self._batch(waveform), torch.ones(1))
        return str(texts[0]).strip(), self._quality

    def _listen(self, *given: Any) -> None:
        """Keep the quality of what is being read: a hook, since SpeechBrain's classes return the text alone."""
        output = given[-1]
        if isinstance(output, tuple):  # of a decoder: tokens, lengths, scores, log-probabilities
            tokens, scores = output[0][0], output[3][0]
            if scores.ndim > 1:  # a greedy one's. Shape (1, step, token): the best were chosen
                scores = scores[0].amax(-1)
            scores = scores[: len(tokens)]  # then it has ended: what follows is minus infinity
            scores = scores[scores.isfinite()]
        else:
            scores = output[0].log_softmax(-1).amax(-1)  # of an encoder; log-probabilities stay as they are
        self._quality = float(scores.mean()) if len(scores) else 0.0

    def _places(self, text: str) -> list[tuple[str, int, int]]:
        words = words_of(text)
        return [(phrase, *place) for phrase in self._search.phrases for place in find_phrase(phrase, words)]


class Speech(_Model):
    """Says when somebody speaks, and how sure it is: the mean probability of speech in that time.

    It is SpeechBrain's get_speech_segments without the double check, which hears every span once more, alone, and drops
    it where its mean probability is 0.5 or less: here that is what the threshold of confidences is for.
    """

    task = "labels"
    wants: Wants = "windows"

    def __init__(self, spec: ModelSpec, settings: SpeechSettings, interface: Any) -> None:
        super().__init__(spec, interface)
        self._settings = settings
        self._frame_s = float(interface.time_resolution)

    def predict(self, waveform: Wave, text: str | None = None) -> Answer:  # noqa: ARG002  it reads no text
        """Return the spans of speech in a window; see `models.protocol.Model`."""
        import torch  # noqa: PLC0415  is loaded by now

        if not len(waveform):
            return Answer()
        settings, duration_s = self._settings, len(waveform) / self.sample_rate
        with torch.inference_mode():
            probability = self.probabilities(waveform)
            marked = self.interface.apply_threshold(probability, settings.activation, settings.deactivation).int()
            marked = torch.nn.functional.pad(marked, (0, 0, 0, 1))  # or speech up to the end would lack its last frame
            spans = self.interface.get_boundaries(marked)
            spans = self.interface.merge_close_segments(spans, settings.close_s)
            spans = self.interface.remove_short_segments(spans, settings.short_s)
        found = []
        for start_s, end_s in spans.tolist():
            frames = probability[0, round(start_s / self._frame_s) : round(end_s / self._frame_s) + 1, 0]
            confidence = round(float(frames.mean()), 4)
            found.append(Detection(SPEECH, start_s, min(end_s + self._frame_s, duration_s), confidence))
        return Answer(tuple(found))

    def probabilities(self, waveform: Wave) -> Any:
        """Return how probable speech is, frame by frame. Shape (1, frame, 1).

        Args:
            waveform: Samples in [-1, 1] at `sample_rate`. Shape (time,).
        """
        import torch  # noqa: PLC0415  is loaded by now

        chunk, frame = round(self._settings.chunk_s * self.sample_rate), round(self._frame_s * self.sample_rate)
        parts = []
        for start in range(0, len(waveform), chunk):
            part = waveform[start : start + chunk]
            of_part = self.interface.get_speech_prob_chunk(self._batch(part))
            parts.append(of_part[:, : max(1, len(part) // frame)])  # the last frame of a chunk is the next one's first
        return torch.cat(parts, dim=1)


def evidence_of(quality: float) -> Evidence:
    """Return what speaks for a phrase, by the names in EVIDENCE."""
    return {"quality": quality}


def _always(interface: str) -> Callable[[Collection[str]], str]:
    return lambda _: interface


def _recogniser_of(names: Collection[str]) -> str:
    return "EncoderASR" if "decoding_function" in names else "EncoderDecoderASR"


def _check_number_of(spec: ModelSpec, interface: Any, name: str, bounds: tuple[float, float]) -> None:
    """Refuse what the hyperparameters say, if it is no number within bounds."""
    try:
        check_number(name, getattr(interface.hparams, name), *bounds)
    except (TypeError, ValueError) as error:
        raise ModelUnavailableError(f"{spec.name}: hyperparams.yaml: {error}") from error
