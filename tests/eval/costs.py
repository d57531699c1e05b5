"""CPU times as ratios, and memory. It must not know how good the answers are.

The two sides of a ratio take turns, recording by recording, so that whatever else the machine does hits both.
"""

import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final
from uuid import uuid4

import numpy as np
import soundfile
from numpy.typing import NDArray

from features.utterances import SAMPLE_RATE, UtteranceSettings, speech_spans
from flows.shards import Job, Shard, score_shard
from models.group import ModelSpec, load_group
from models.moonshine import END_TOKEN, START_TOKEN, Moonshine
from models.registry import verified_folder
from storage.lake import Lake
from storage.media import file_id_of
from storage.place import Place
from tests import asterisk
from tests.eval.hearing import cut, load_one, say, warm_up
from tests.eval.samples import BUILD, is_fitted_on

TURNS: Final = 5  # of each recording; the quickest of each side counts
SHARDS: Final = 6
SHARD_RECORDINGS: Final = 12
LONG_S: Final = 3 * 3600
LONG_RATE: Final = 8_000  # Hz, of the prompts

Waveform = NDArray[np.float32]


class PlainLoop:
    """Greedy decoding and nothing else, against which the product's Moonshine is held: one session for each half."""

    def __init__(self, folder: Path, tokens_per_s: float) -> None:
        import onnxruntime

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
    figures |= memory_figures()
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
            sides: dict[str, Callable[[], object]] = {
                "moonshine": lambda w=waveform: model.decode(w),
                "plain": lambda f=fed: plain(f),
                "plain, as it is": lambda w=waveform: plain(w),
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
        "phrase_search_cpu_per_audio_s": round((total["whole"] - total["moonshine"]) / audio_s, 4),
        "plain_cpu_per_audio_s": round(total["plain"] / audio_s, 4),
        "costs_utterances": len(times),
    }


def prepared(waveform: Waveform, spec: ModelSpec) -> Waveform:
    """Return an utterance as the product feeds it: scaled to a peak, with silence on both sides."""
    peak = max(float(np.abs(waveform).max(initial=0)), 1e-4)
    silence = np.zeros(round(spec.settings["silence_s"] * SAMPLE_RATE), np.float32)
    return np.concatenate([silence, waveform * np.float32(spec.settings["peak"] / peak), silence])


def refresh_figures(prompts: Sequence[Path]) -> dict[str, Any]:
    """Return what scoring shards costs, against the models alone over the same speech."""
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
    scoring, forward = (sum(each.seconds[side] for each in times) for side in ("scoring", "forward"))
    return {
        "refresh_cpu_ratio": round(scoring / forward, 4),
        "refresh_cpu_ratio_worst_shard": round(max(t.seconds["scoring"] / t.seconds["forward"] for t in times), 4),
        "cpu_per_audio_s": round(scoring / sum(each.audio_s for each in times), 4),
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
    return Times(shard.audio_s, in_turns({"scoring": scoring, "forward": forward}))


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


def memory_figures() -> dict[str, Any]:
    """Return the peak memory of a fresh process that scores a conversation of three hours."""
    path = long_recording()
    done = subprocess.run(
        [sys.executable, "-m", "tests.eval.costs", str(path)], check=True, stdout=subprocess.PIPE, text=True
    )
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def long_recording() -> Path:
    """Return a conversation: two channels in which prompts are said in turn, over the faint noise of a line."""
    path = BUILD / f"three_hours_{LONG_RATE}.flac"
    if path.is_file():
        return path
    prompts = [soundfile.read(asterisk.SOUNDS / f"{name}.wav", dtype="int16")[0] for name in asterisk.prompts()]
    rng = np.random.default_rng(4)
    unfinished, frames, turn = path.with_suffix(".part"), 0, 0
    BUILD.mkdir(parents=True, exist_ok=True)
    with soundfile.SoundFile(unfinished, "w", LONG_RATE, 2, "PCM_16", format="FLAC") as file:
        while frames < LONG_S * LONG_RATE:
            said = prompts[rng.integers(len(prompts))][: LONG_S * LONG_RATE - frames]
            block = rng.integers(-8, 9, (len(said), 2), np.int16)  # a line is never silent
            block[:, turn % 2] += said
            file.write(block)
            frames, turn = frames + len(said), turn + int(rng.integers(2))
    unfinished.replace(path)
    return path


def score_alone(path: Path) -> dict[str, Any]:
    """Score one recording in this process, and return what memory that took at most."""
    specs = load_group(tuple(asterisk.PHRASES)).enabled
    folder = Path(tempfile.mkdtemp(prefix="lake-", dir=BUILD)).absolute()
    try:
        place = Place.of(folder)
        with path.open("rb") as content:
            sha256 = Lake.open(place).media.add(content).sha256
        job = Job(file_id_of(sha256), sha256, LONG_S, {spec.name: 0 for spec in specs})
        began = time.process_time()
        scored = score_shard(Shard(0, (job,)), place=place, specs=specs, reference=uuid4())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    assert not scored.failures, "the recording failed"
    return {
        "memory_3h_mib": round(peak_mib()),
        "cpu_3h_s": round(time.process_time() - began),
        "utterances_3h": scored.utterances,
    }


def peak_mib() -> float:
    """Return the most memory that this process ever held; getrusage would count what it was forked from as well."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def reporting_prompts() -> list[Path]:
    return [asterisk.SOUNDS / f"{name}.wav" for name in asterisk.prompts() if not is_fitted_on(name)]


if __name__ == "__main__":
    print(json.dumps(score_alone(Path(sys.argv[1]))))
