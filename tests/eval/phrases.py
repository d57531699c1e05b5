"""Measures the phrase model on the Asterisk prompts, and fits its confidence. `make eval` → build/eval.json, eval.md.

The prompts are halved by a hash of their names: what is fitted on one half is reported on the other.
"""

import json
import math
import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

from features.audio import distinct_channels
from features.utterances import UtteranceSettings, find_utterances
from models.group import load_group
from models.moonshine import Moonshine
from models.phrases import words_of
from models.registry import load_model
from tests import asterisk
from tests.eval.samples import is_fitted_on

BUILD = Path("build")
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
DIGITS = {str(number): word for number, word in enumerate(NUMBERS)}
SPELLED = ("letters/", "phonetic/")  # their texts name letters, not words


@dataclass(frozen=True)
class Heard:
    """What the model made of one prompt."""

    name: str
    phrases: frozenset[str]
    words: tuple[tuple[str, float], ...]  # every word with the decoder's own probability
    audio_s: float
    cpu_s: float
    model_cpu_s: float  # of it in the model; the rest is decoding, resampling and finding speech


@lru_cache(maxsize=1)
def group_and_model():
    group = load_group(tuple(asterisk.PHRASES))
    model = load_model(group.enabled[0])
    assert isinstance(model, Moonshine)
    return group, model


def hear(name: str) -> Heard:
    group, model = group_and_model()
    path = asterisk.SOUNDS / f"{name}.wav"
    started, cpu_s, model_cpu_s, audio_s = time.process_time(), 0.0, 0.0, 0.0
    phrases: set[str] = set()
    words: dict[str, float] = {}
    for utterance in find_utterances(path, distinct_channels(path), UtteranceSettings(**group.utterances)):
        audio_s += len(utterance.waveform) / model.sample_rate
        before = time.process_time()
        phrases |= {detection.label for detection in model.predict(utterance.waveform).detections}
        model_cpu_s += time.process_time() - before
        cpu_s += time.process_time() - started
        decoded = model.decode(utterance.waveform)
        for word in words_of(decoded.text):
            text = DIGITS.get(word.text, word.text)
            words[text] = max(words.get(text, 0.0), decoded.probability_of([word]))
        started = time.process_time()
    cpu_s += time.process_time() - started
    return Heard(name, frozenset(phrases), tuple(words.items()), audio_s, cpu_s, model_cpu_s)


def logit(probability: float) -> float:
    bounded = min(max(probability, 1e-6), 1 - 1e-6)
    return math.log(bounded / (1 - bounded))


def words_with_truth(heard: list[Heard], texts: dict[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the decoder's logit of every word, and whether the word is in the prompt's text."""
    logits, right = [], []
    for prompt in heard:
        if prompt.name.startswith(SPELLED):
            continue
        said = [DIGITS.get(word.text, word.text) for word in words_of(texts[prompt.name])]
        said_or_joined = set(said) | {one + other for one, other in pairwise(said)}
        for text, probability in prompt.words:
            logits.append(logit(probability))
            right.append(text in said_or_joined)
    return np.array(logits)[:, None], np.array(right)


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Guo et al. 2017, ten bins of equal width."""
    bins = np.minimum((confidence * 10).astype(int), 9)
    return float(
        sum(abs(confidence[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins))
    )


def main() -> None:
    texts = asterisk.prompts()
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        heard = list(pool.map(hear, texts, chunksize=16))
    fitted = LogisticRegression(C=1e6).fit(*words_with_truth([h for h in heard if is_fitted_on(h.name)], texts))
    logits, right = words_with_truth([h for h in heard if not is_fitted_on(h.name)], texts)
    _, model = group_and_model()
    confidence = np.array([model.calibrated(1 / (1 + math.exp(-value))) for value in logits[:, 0]])
    shown = confidence >= 0.9
    f1 = asterisk.micro_f1({prompt.name: set(prompt.phrases) for prompt in heard})
    figures = {
        "prompts": len(heard),
        "f1_8k": round(f1, 4),
        "cpu_per_audio_s": round(sum(h.cpu_s for h in heard) / sum(h.audio_s for h in heard), 4),
        "model_cpu_per_audio_s": round(sum(h.model_cpu_s for h in heard) / sum(h.audio_s for h in heard), 4),
        "words": len(right),
        "precision_at_090": round(float(right[shown].mean()), 4),
        "recall_at_090": round(float(right[shown].sum() / right.sum()), 4),
        "ece": round(expected_calibration_error(confidence, right), 4),
        "fitted_confidence_slope": round(float(fitted.coef_[0, 0]), 2),
        "fitted_confidence_offset": round(float(fitted.intercept_[0]), 2),
        "load_average": round(os.getloadavg()[0], 1),
    }
    BUILD.mkdir(exist_ok=True)
    (BUILD / "eval.json").write_text(json.dumps(figures, indent=1) + "\n")
    rows = "".join(f"| {name} | {value} |\n" for name, value in figures.items())
    (BUILD / "eval.md").write_text(
        f"# The phrase model on the Asterisk prompts\n\n| figure | value |\n|---|---|\n{rows}"
    )
    print((BUILD / "eval.md").read_text())


if __name__ == "__main__":
    main()
