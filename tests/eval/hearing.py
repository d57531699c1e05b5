"""Runs the product's own path over samples, on a pool of processes. It must not know what is right.

Answers are kept under build/eval/heard, by the sample's bytes, the model's settings and the product's code; CPU times
that come from there were measured by an earlier run, and are marked.
"""

import hashlib
import os
import pickle
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import numpy as np
import soundfile

import features
import models
from features.audio import distinct_channels
from features.cutting import cut_recording
from features.pieces import Piece
from features.utterances import UtteranceSettings, speech_spans
from models.group import ModelSpec
from models.protocol import Detection, Model
from models.registry import load_model
from tests.eval.samples import Sample

KEPT: Final = Path("build/eval/heard")
PROCESSES: Final = 2


@dataclass(frozen=True, slots=True)
class Heard:
    """What the model made of one sample."""

    sample: Sample
    detections: tuple[Detection, ...]  # times from the start of the recording
    texts: tuple[str, ...]  # of each utterance
    audio_s: float  # of the recording
    speech_s: float  # of its utterances
    utterances_cpu_s: float  # decoding, resampling and finding speech
    model_cpu_s: float
    is_fresh: bool  # False: an earlier run's answer, and its CPU times


def hear(samples: Sequence[Sample], spec: ModelSpec, processes: int = PROCESSES) -> list[Heard]:
    """Return what the model makes of each sample, in their order; CPU times are firm with one process only."""
    load_one(spec)  # an error of loading is told here, once
    kept = KEPT / key_of(spec)
    kept.mkdir(parents=True, exist_ok=True)
    heard: list[Heard] = []
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=warm_up, initargs=(spec,)) as pool:
        for each in pool.map(partial(hear_or_recall, spec=spec, kept=kept), samples, chunksize=4):
            heard.append(each)
            if len(heard) * 10 // len(samples) > (len(heard) - 1) * 10 // len(samples):
                say(f"  {len(heard)} of {len(samples)}, {sum(not h.is_fresh for h in heard)} of them known")
    return heard


def hear_or_recall(sample: Sample, *, spec: ModelSpec, kept: Path) -> Heard:
    path = kept / hashlib.sha256(sample.path.read_bytes()).hexdigest()
    if path.is_file():
        earlier: Heard = pickle.loads(path.read_bytes())
        return replace(earlier, sample=sample, is_fresh=False)
    heard = hear_one(sample, spec)
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_bytes(pickle.dumps(heard))
    temporary.replace(path)
    return heard


def hear_one(sample: Sample, spec: ModelSpec) -> Heard:
    model = load_one(spec)
    began = time.process_time()
    utterances = list(cut(sample.path, spec))
    cut_at = time.process_time()
    answers = [model.predict(utterance.waveform) for utterance in utterances]
    answered_at = time.process_time()
    detections = [
        replace(
            detection,
            # As flows.shards stores them.
            start_s=round(min(utterance.start_s + detection.start_s, utterance.end_s), 3),
            end_s=round(min(utterance.start_s + detection.end_s, utterance.end_s), 3),
        )
        for utterance, answer in zip(utterances, answers, strict=True)
        for detection in answer.detections
    ]
    return Heard(
        sample,
        tuple(detections),
        tuple(answer.text or "" for answer in answers),
        audio_s=soundfile.info(sample.path).duration,
        speech_s=sum(utterance.end_s - utterance.start_s for utterance in utterances),
        utterances_cpu_s=cut_at - began,
        model_cpu_s=answered_at - cut_at,
        is_fresh=True,
    )


def cut(path: Path, spec: ModelSpec) -> list[Piece]:
    """Return the pieces of a recording that the product gives to a model."""
    settings = UtteranceSettings(**spec.utterances)
    return [piece for _, piece in cut_recording(path, distinct_channels(path), (load_one(spec).wants,), settings)]


def warm_up(spec: ModelSpec) -> None:
    """Load what the first sample would otherwise pay for."""
    load_one(spec)
    speech_spans(np.zeros(16_000, np.float32), UtteranceSettings(**spec.utterances))


_loaded: dict[str, Model] = {}


def load_one(spec: ModelSpec) -> Model:
    """Return a model, loaded once a process."""
    if repr(spec) not in _loaded:
        _loaded[repr(spec)] = load_model(spec)
    return _loaded[repr(spec)]


def key_of(spec: ModelSpec) -> str:
    """Return a hash over the settings and the code of features and models, which may change and the version stay."""
    digest = hashlib.sha256(repr(spec).encode())
    for package in (features, models):
        for path in sorted(Path(str(package.__file__)).parent.rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def say(text: str) -> None:
    """Tell whoever waits."""
    print(text, file=sys.stderr, flush=True)
