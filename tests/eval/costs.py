"""CPU times as ratios. It must not know how good the answers are.

The two sides of a ratio take turns, recording by recording, so that whatever else the machine does hits both.
"""

import json
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final
from uuid import uuid4

import numpy as np
import onnxruntime
import soundfile
from numpy.typing import NDArray

from features.pieces import SAMPLE_RATE
from features.utterances import UtteranceSettings, speech_spans
from flows.shards import Job, Shard, score_shard
from models.group import ModelSpec, load_group
from models.moonshine import Moonshine
from models.registry import verified_folder
from storage.lake import Lake
from storage.media import file_id_of
from storage.place import Place
from tests import asterisk
from tests.eval import memory
from tests.eval.hearing import cut, load_one, say, warm_up
from tests.eval.samples import BUILD, is_fitted_on

START_TOKEN: Final = 1
END_TOKEN: Final = 2
TURNS: Final = 5  # of each recording; the quickest of each side counts
SHARDS: Final = 6
SHARD_RECORDINGS: Final = 12

Waveform = NDArray[np.float32]


class PlainLoop:
    """Greedy decoding and nothing else, against which the product's Moonshine is held: one session for each half."""

    def __init__(self, folder: Path, tokens_per_s: float) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.encoder, self.decoder = (
            onnxruntime.InferenceSession(str(folder / name), options, providers=["CPUExecutionProvider"])
            for name in ("encoder_model.ort", "decoder_model_merged.ort")
        )
        self.tokens_per_s = tokens_per_s
        self.empty = {
            node.name: np.zeros((1, node.shape[1], 0, node.shape[3]), np.float32)
            for node in self.decoder.get_inputs()
            if node.name.startswith("past_key_values.")
        }
        self.names = [node.name.replace("present", "past_key_values") for node in self.decoder.get_outputs()[1:]]

    def __call__(self, samples: Waveform) -> list[int]:
        """Return the tokens of `samples`. Shape (time,)."""
        mask = np.ones((1, len(samples)), np.int64)
        hidden = self.encoder.run(None, {"input_values": samples[None], "attention_mask": mask})[0]
        tokens, past = [START_TOKEN], self.empty
        for step in range(math.ceil(len(samples) / SAMPLE_RATE * self.tokens_per_s)):
            inputs = {
                "input_ids": np.array([tokens[-1:]], np.int64),
                "encoder_hidden_states": hidden,
                "encoder_attention_mask": mask,
                "use_cache_branch": np.array([step > 0]),
            }
            logits, *present = self.decoder.run(None, inputs | past)
            tokens.append(int(logits[0, -1].argmax()))
            if tokens[-1] == END_TOKEN:
                break
            # With the cache the decoder gives nothing for the encoder's keys and values: they stay.
            past = past | {n: v for n, v in zip(self.names, present, strict=True) if step == 0 or ".encoder." not in n}
        return tokens[1:]


@dataclass(frozen=True, slots=True)
class Times:
    """CPU seconds of one utterance or shard, for each side; the quickest of its turns."""

    audio_s: float
    seconds: dict[str, float]


def measure(spec: ModelSpec) -> dict[str, Any]:
    """Return every figure of cost."""
    load_group_s = time.process_time()
    warm_up(spec)
    prompts = reporting_prompts()
    figures: dict[str, Any] = {}
    if isinstance(load_one(spec), Moonshine):
        say("costs: Moonshine against the plain loop")
        figures |= moonshine_figures(spec, prompts[::6])
    say("costs: a refresh against its models")
    figures |= refresh_figures(prompts)
    say("costs: memory over three hours")
    figures |= memory.figures()
    figures["costs_took_cpu_s"] = round(time.process_time() - load_group_s)
    return figures


def moonshine_figures(spec: ModelSpec, paths: Sequence[Path]) -> dict[str, Any]:
    """Return what Moonshine and the phrases cost, against the plain loop over the same utterances."""
    model = load_one(spec)
    assert isinstance(model, Moonshine)
    plain = PlainLoop(verified_folder(spec), spec.settings["tokens_per_s"])
    times = []
    for path in paths:
        for utterance in cut(path, spec):
            waveform = utterance.waveform
            fed = prepared(waveform, spec)
            encoded = model.encode(waveform)
            text = model.read(encoded)
            sides: dict[str, Callable[[], object]] = {
                "moonshine": lambda w=waveform: model.read(model.encode(w)),
                "plain": lambda f=fed: plain(f),
                "plain, as it is": lambda w=waveform: plain(w),
                "search": lambda w=waveform, e=encoded, t=text: model.search(w, e, t),
                "whole": lambda w=waveform: model.predict(w),
            }
            times.append(Times(len(waveform) / SAMPLE_RATE, in_turns(sides)))
    audio_s = sum(each.audio_s for each in times)
    total = {side: sum(each.seconds[side] for each in times) for side in times[0].seconds}
    return {
        "moonshine_cpu_ratio": round(total["moonshine"] / total["plain"], 4),
        "moonshine_cpu_ratio_median": round(median(t.seconds["moonshine"] / t.seconds["plain"] for t in times), 4),
        "moonshine_cpu_ratio_unprepared": round(total["moonshine"] / total["plain, as it is"], 4),
        "phrase_cpu_per_audio_s": round(total["whole"] / audio_s, 4),
        "phrase_search_cpu_per_audio_s": round(total["search"] / audio_s, 4),
        "plain_cpu_per_audio_s": round(total["plain"] / audio_s, 4),
        "costs_utterances": len(times),
    }


def prepared(waveform: Waveform, spec: ModelSpec) -> Waveform:
    """Return an utterance as the product feeds it: scaled to a peak, with silence on both sides."""
    peak = max(float(np.abs(waveform).max(initial=0)), 1e-4)
    silence = np.zeros(round(spec.settings["silence_s"] * SAMPLE_RATE), np.float32)
    return np.concatenate([silence, waveform * np.float32(spec.settings["peak"] / peak), silence])


def refresh_figures(prompts: Sequence[Path]) -> dict[str, Any]:
    """Return what scoring shards costs, against `predict` of each model over the same speech, the VAD counted as one.

    Stricter, and from one and the same pass, is the ratio to what the networks take: a decoder's loop, the search for
    phrases and alignment are overhead then.
    """
    specs = load_group(tuple(asterisk.PHRASES)).enabled
    folder = Path(tempfile.mkdtemp(prefix="lake-", dir=BUILD)).absolute()
    try:
        place = Place.of(folder)
        chunks = [prompts[start : start + SHARD_RECORDINGS] for start in range(0, len(prompts), SHARD_RECORDINGS)]
        # From all over the prompts: names of one folder are of one kind.
        spread = chunks[:: max(1, len(chunks) // SHARDS)][:SHARDS]
        times = [shard_times(number, paths, place, specs) for number, paths in enumerate(spread)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    total = {side: sum(each.seconds[side] for each in times) for side in times[0].seconds}
    return {
        "refresh_cpu_ratio": round(total["scoring"] / total["forward"], 4),
        "refresh_cpu_ratio_worst_shard": round(max(t.seconds["scoring"] / t.seconds["forward"] for t in times), 4),
        "refresh_cpu_ratio_to_networks": round(total["timed"] / total["sessions"], 4),
        "cpu_per_audio_s": round(total["scoring"] / sum(each.audio_s for each in times), 4),
    }


def shard_times(number: int, paths: Sequence[Path], place: Place, specs: tuple[ModelSpec, ...]) -> Times:
    lake = Lake.open(place)
    jobs = []
    for path in paths:
        with path.open("rb") as content:
            sha256 = lake.media.add(content).sha256
        jobs.append(Job(file_id_of(sha256), sha256, soundfile.info(path).duration, {spec.name: 0 for spec in specs}))
    shard = Shard(number, tuple(jobs))
    heard = [whole(path) for path in paths]
    utterances = {spec.name: [u.waveform for path in paths for u in cut(path, spec)] for spec in specs}
    finding = {json.dumps(dict(spec.utterances)): UtteranceSettings(**spec.utterances) for spec in specs}

    def forward() -> None:
        for settings in finding.values():
            for waveform in heard:
                speech_spans(waveform, settings)
        for spec in specs:
            for waveform in utterances[spec.name]:
                load_one(spec).predict(waveform)

    def scoring() -> None:
        scored = score_shard(shard, place=place, specs=specs, reference=uuid4())
        assert not scored.failures, f"{scored.failures} recordings failed"

    if number == 0:  # what is loaded once a process
        scoring()
    seconds = in_turns({"scoring": scoring, "forward": forward})
    began = time.process_time()
    with clock_on_sessions() as in_sessions:
        scoring()
    return Times(shard.audio_s, seconds | {"timed": time.process_time() - began, "sessions": sum(in_sessions)})


@contextmanager
def clock_on_sessions() -> Iterator[list[float]]:
    """Collect the CPU seconds of each run of any of onnxruntime's sessions: what the networks alone take."""
    seconds: list[float] = []
    run = onnxruntime.InferenceSession.run

    def timed(*arguments: Any, **options: Any) -> Any:
        began = time.process_time()
        try:
            return run(*arguments, **options)
        finally:
            seconds.append(time.process_time() - began)

    onnxruntime.InferenceSession.run = timed
    try:
        yield seconds
    finally:
        onnxruntime.InferenceSession.run = run


def whole(path: Path) -> Waveform:
    """Return a prompt at the rate at which speech is looked for."""
    from features.audio import read_blocks

    return np.concatenate(list(read_blocks(path, sample_rate=SAMPLE_RATE, block_s=120, channels=(0,))), axis=1)[0]


def in_turns(sides: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the CPU seconds of each side: the least of TURNS, in which the sides follow one another to and fro."""
    least = dict.fromkeys(sides, math.inf)
    for turn in range(TURNS):
        for name in list(sides)[:: 1 if turn % 2 == 0 else -1]:
            began = time.process_time()
            sides[name]()
            least[name] = min(least[name], time.process_time() - began)
    return least


def reporting_prompts() -> list[Path]:
    return [asterisk.SOUNDS / f"{name}.wav" for name in asterisk.prompts() if not is_fitted_on(name)]
