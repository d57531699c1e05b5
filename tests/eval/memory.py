"""The most memory that a long recording takes: `python -m tests.eval.memory FILE` scores it in a process of its own."""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import numpy as np
import soundfile

from flows.shards import Job, Shard, score_shard
from models.group import load_group
from storage.lake import Lake
from storage.media import file_id_of
from storage.place import Place
from tests import asterisk
from tests.eval.samples import BUILD

DURATION_S: Final = 3 * 3600
SAMPLE_RATE: Final = 8_000  # Hz, of the prompts


def figures() -> dict[str, Any]:
    """Return the peak memory of a fresh process that scores a conversation of three hours."""
    path = recording()
    done = subprocess.run(
        [sys.executable, "-m", "tests.eval.memory", str(path)], check=True, stdout=subprocess.PIPE, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def recording() -> Path:
    """Return a conversation: two channels in which prompts are said in turn, over the faint noise of a line."""
    path = BUILD / f"three_hours_{SAMPLE_RATE}.flac"
    if path.is_file():
        return path
    prompts = [soundfile.read(asterisk.SOUNDS / f"{name}.wav", dtype="int16")[0] for name in asterisk.prompts()]
    rng = np.random.default_rng(4)
    unfinished, frames, turn = path.with_suffix(".part"), 0, 0
    BUILD.mkdir(parents=True, exist_ok=True)
    with soundfile.SoundFile(unfinished, "w", SAMPLE_RATE, 2, "PCM_16", format="FLAC") as file:
        while frames < DURATION_S * SAMPLE_RATE:
            said = prompts[rng.integers(len(prompts))][: DURATION_S * SAMPLE_RATE - frames]
            block = rng.integers(-8, 9, (len(said), 2), np.int16)  # a line is never silent
            block[:, turn % 2] = said
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
        job = Job(file_id_of(sha256), sha256, DURATION_S, {spec.name: 0 for spec in specs})
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


if __name__ == "__main__":
    print(json.dumps(score_alone(Path(sys.argv[1]))))
