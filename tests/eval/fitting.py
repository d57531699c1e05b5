"""Fits the phrase model's confidence on the fitting halves: `python -m tests.eval.fitting` prints group.toml's lines.

Every kind of sample counts alike, however many there are of it: prompts of each condition, and voices. Recordings
without speech have no part: hardly any phrase is thought possible there.
"""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, astuple, dataclass
from functools import partial
from itertools import chain
from math import exp
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from features.levels import level_range_db
from models.confidence import MAX_RANGE_DB, Calibration, logit
from models.group import ModelSpec
from models.moonshine import Moonshine, place
from models.protocol import Detection
from tests import asterisk
from tests.eval import corpora
from tests.eval.hearing import PROCESSES, cut, load_one, say
from tests.eval.metrics import Found as Judgement
from tests.eval.metrics import calibration_error, judge, reliability
from tests.eval.samples import Sample

PHRASES = tuple(asterisk.PHRASES)


@dataclass(frozen=True, slots=True)
class Spotted:
    """A phrase that may be in a sample, and whether it is."""

    kind: str
    log_odds: float
    quality: float
    range_db: float
    heard: bool
    right: bool

    @property
    def features(self) -> tuple[float, ...]:
        """What Calibration weighs, in the order of its fields."""
        range_db = min(self.range_db, MAX_RANGE_DB)
        return self.log_odds, self.quality, range_db, float(self.heard), range_db * self.heard


def spotted(sample: Sample, spec: ModelSpec) -> list[Spotted]:
    """Return every phrase that the model thinks possible in a sample."""
    model = load_one(spec)
    assert isinstance(model, Moonshine)
    features: list[tuple[float, float, float, bool]] = []
    detections: list[Detection] = []
    for utterance in cut(sample.path, spec):
        encoded = model.encode(utterance.waveform)
        text = model.read(encoded)
        found, range_db = model.spot(encoded, text), level_range_db(utterance.waveform, model.sample_rate)
        for spot, (start_s, end_s) in zip(found.spots, place(found.spots, utterance.waveform, text), strict=True):
            probability = exp(spot.log_probability) - 1e-9 * len(features)  # no two are the same
            features.append((logit(exp(spot.log_probability)), found.quality, range_db, spot.heard))
            detections.append(
                Detection(spot.phrase, utterance.start_s + start_s, utterance.start_s + end_s, probability)
            )
    right = {
        (label, found.confidence): found.right
        for label in PHRASES
        for found in judge(sample.words, detections, label).found
    }
    kind = sample.condition if sample.corpus == "prompts" else sample.corpus
    return [
        Spotted(kind, *of_spot, right[detection.label, detection.confidence])
        for of_spot, detection in zip(features, detections, strict=True)
    ]


def fit(found: Sequence[Spotted]) -> Calibration:
    """Return the logistic regression of what is right."""
    kinds = [each.kind for each in found]
    weights = [len(found) / len(set(kinds)) / kinds.count(kind) for kind in kinds]
    fitted = LogisticRegression(C=1e6, max_iter=1000).fit(
        [each.features for each in found], [each.right for each in found], sample_weight=weights
    )
    return Calibration(*(round(float(weight), 3) for weight in (fitted.intercept_[0], *fitted.coef_[0])))


def confidences(calibration: Calibration, found: Sequence[Spotted]) -> NDArray[np.float64]:
    """Return the confidence of each."""
    offset, *weights = astuple(calibration)
    scores = offset + np.array([each.features for each in found]) @ weights
    return 1 / (1 + np.exp(-scores))


def error(calibration: Calibration, found: Sequence[Spotted]) -> float:
    """Return the expected calibration error over confidences from 0.1 up."""
    judged = [
        Judgement(0, 0, float(confidence), each.right, None)
        for confidence, each in zip(confidences(calibration, found), found, strict=True)
    ]
    return calibration_error(reliability(judged, 0.1))


def main() -> None:
    from tests.eval.__main__ import spec_of

    spec = spec_of(None, PHRASES)
    every = [*chain.from_iterable(map(corpora.prompts, corpora.CONDITIONS)), *corpora.voices()]
    samples = [sample for sample in every if sample.half == "fitting"]
    found: list[Spotted] = []
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        for number, of_sample in enumerate(pool.map(partial(spotted, spec=spec), samples, chunksize=4), 1):
            found += of_sample
            if number % 200 == 0:
                say(f"  {number} of {len(samples)}")
    calibration = fit(found)
    for kind in sorted({each.kind for each in found}):
        of_kind = [each for each in found if each.kind == kind]
        say(
            f"{kind}: {len(of_kind)} spots, {sum(each.right for each in of_kind)} right,"
            f" ECE {error(calibration, of_kind):.3f}"
        )
    for name, value in asdict(calibration).items():
        print(f"{name} = {value}")


if __name__ == "__main__":
    main()
