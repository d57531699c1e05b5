"""Fits a model's confidence on the fitting halves: `python -m tests.eval.fitting` prints group.toml's lines.

Every kind of sample counts alike, however many there are of it: prompts of each condition, and voices. Recordings
without speech have no part: hardly any phrase is thought possible there.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from models import moonshine, whisper
from models.confidence import Calibration, Evidence
from models.group import ModelSpec
from models.protocol import Detection, Model
from tests import asterisk
from tests.eval import corpora
from tests.eval.hearing import PROCESSES, cut, load_one, say
from tests.eval.metrics import Found as Judgement
from tests.eval.metrics import calibration_error, judge, reliability
from tests.eval.samples import Sample

PHRASES = tuple(asterisk.PHRASES)


Possible = tuple[str, float, float, Evidence]
"""A phrase, its start and end in seconds from the start of the utterance, and what speaks for it."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A phrase that may be in a sample, and whether it is."""

    kind: str
    evidence: Evidence
    right: bool


def of_moonshine(model: Model, waveform: NDArray[np.float32]) -> Iterator[Possible]:
    assert isinstance(model, moonshine.Moonshine)
    encoded = model.encode(waveform)
    text = model.read(encoded)
    found = model.spot(encoded, text)
    for spot, (start_s, end_s) in zip(found.spots, moonshine.place(found.spots, waveform, text), strict=True):
        yield spot.phrase, start_s, end_s, moonshine.evidence_of(spot, found.quality, encoded.range_db)


def of_whisper(model: Model, waveform: NDArray[np.float32]) -> Iterator[Possible]:
    assert isinstance(model, whisper.Whisper)
    reading = model.read(waveform)
    for phrase, said in whisper.places(reading, PHRASES):
        yield phrase, said[0].start_s, said[-1].end_s, whisper.evidence_of(said, reading)


FAMILIES: dict[str, tuple[Callable[[Model, NDArray[np.float32]], Iterator[Possible]], Sequence[str]]] = {
    "moonshine": (of_moonshine, moonshine.EVIDENCE),
    "whisper": (of_whisper, whisper.EVIDENCE),
}


def candidates(sample: Sample, spec: ModelSpec) -> list[Candidate]:
    """Return every phrase that the model thinks possible in a sample."""
    model, (possible, _) = load_one(spec), FAMILIES[spec.family]
    found = [
        (Detection(phrase, piece.start_s + start_s, piece.start_s + end_s, evidence["log_odds"]), evidence)
        for piece in cut(sample.path, spec)
        for phrase, start_s, end_s, evidence in possible(model, piece.waveform)
    ]
    # No two are the same.
    ranked = [Detection(d.label, d.start_s, d.end_s, d.confidence - 1e-9 * n) for n, (d, _) in enumerate(found)]
    right = {
        (label, judged.confidence): judged.right
        for label in PHRASES
        for judged in judge(sample.words, ranked, label).found
    }
    kind = sample.condition if sample.corpus == "prompts" else sample.corpus
    return [
        Candidate(kind, evidence, right[detection.label, detection.confidence])
        for detection, (_, evidence) in zip(ranked, found, strict=True)
    ]


def fit(found: Sequence[Candidate], names: Sequence[str]) -> Calibration:
    """Return the logistic regression of what is right."""
    kinds = [each.kind for each in found]
    weights = [len(found) / len(set(kinds)) / kinds.count(kind) for kind in kinds]
    values = np.array([[each.evidence[name] for name in names] for each in found])
    scale = values.std(axis=0) + 1e-9  # the search converges where all are about as large
    fitted = LogisticRegression(C=1e6, max_iter=10_000).fit(
        values / scale, [each.right for each in found], sample_weight=weights
    )
    return Calibration(
        round(float(fitted.intercept_[0]), 3),
        {name: round(float(weight), 3) for name, weight in zip(names, fitted.coef_[0] / scale, strict=True)},
    )


def error(calibration: Calibration, found: Sequence[Candidate]) -> float:
    """Return the expected calibration error over confidences from 0.1 up."""
    judged = [Judgement(0, 0, calibration.of(each.evidence), each.right, None) for each in found]
    return calibration_error(reliability(judged, 0.1))


def main() -> None:
    from tests.eval.__main__ import spec_of

    options = argparse.ArgumentParser(prog="python -m tests.eval.fitting", description=__doc__)
    options.add_argument("--model", help="its name in the group file; by default the first enabled one")
    options.add_argument("--every", type=int, default=1, metavar="N", help="take every Nth sample")
    asked = options.parse_args()
    spec = spec_of(asked.model, PHRASES)
    every = [*chain.from_iterable(map(corpora.prompts, corpora.CONDITIONS)), *corpora.voices()]
    samples = [sample for sample in every if sample.half == "fitting"][:: asked.every]
    found: list[Candidate] = []
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        for number, of_sample in enumerate(pool.map(partial(candidates, spec=spec), samples, chunksize=4), 1):
            found += of_sample
            if number % 200 == 0:
                say(f"  {number} of {len(samples)}")
    calibration = fit(found, FAMILIES[spec.family][1])
    for kind in sorted({each.kind for each in found}):
        of_kind = [each for each in found if each.kind == kind]
        say(
            f"{kind}: {len(of_kind)} candidates, {sum(each.right for each in of_kind)} right,"
            f" ECE {error(calibration, of_kind):.3f}"
        )
    for name, value in [("offset", calibration.offset), *calibration.weights.items()]:
        print(f"{name} = {value}")


if __name__ == "__main__":
    main()
