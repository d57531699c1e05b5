"""Names the corpora of `make eval`, and what they hold: `python -m tests.eval.corpora`. Audio is kept in build/eval."""

import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import soundfile

from tests import asterisk
from tests.eval import corpus_scenes
from tests.eval.corpus_nonspeech import GAMES, KEYBOARD, nonspeech
from tests.eval.corpus_prompts import CONDITIONS, MUSIC, prompts
from tests.eval.corpus_splices import splices
from tests.eval.corpus_voices import voices
from tests.eval.samples import Sample

__all__ = ["CONDITIONS", "nonspeech", "prompts", "require", "splices", "voices"]

PROGRAMS: Final = ("espeak-ng", "ffmpeg", "flite")  # the packages have their names
RECORDINGS: Final = {
    "asterisk-core-sounds-en": asterisk.TEXTS,
    "asterisk-core-sounds-en-wav": asterisk.SOUNDS,
    "asterisk-core-sounds-en-g722": asterisk.SOUNDS / "beep.g722",
    "asterisk-moh-opsound-wav": MUSIC / "reno_project-system.wav",
    "btanks-data": GAMES / "btanks/data/tunes",
    "bucklespring-data": KEYBOARD,
    "chromium-bsu-data": GAMES / "chromium-bsu/wav",
    "enigma-data": GAMES / "enigma/music",
    "extremetuxracer-data": GAMES / "etr/sounds",
    "frozen-bubble-data": GAMES / "frozen-bubble/snd",
    "gunroar-data": GAMES / "gunroar/sounds",
    **corpus_scenes.PACKAGES,
}


def require(
    programs: Sequence[str] = PROGRAMS, recordings: Mapping[str, Path] = RECORDINGS, command: str = "make eval"
) -> None:
    """Say how to get all that the corpora are made of and is not installed.

    Raises:
        RuntimeError: Something is missing; its message is the line that installs it.
    """
    missing = [program for program in programs if not shutil.which(program)]
    missing += [package for package, path in recordings.items() if not path.exists()]
    if missing:
        raise RuntimeError(f"`{command}` needs: apt-get install --no-install-recommends {' '.join(missing)}")


def table(samples: list[Sample]) -> str:
    """Return how much there is of each corpus, condition and half."""
    rows: dict[tuple[str, str, str], list[Sample]] = defaultdict(list)
    for sample in samples:
        rows[sample.corpus, sample.condition, sample.half].append(sample)
    lines = ["| corpus | condition | half | files | seconds | words | with times |", "|---|---|---|---|---|---|---|"]
    for key, of_row in rows.items():
        seconds = sum(soundfile.info(sample.path).duration for sample in of_row)
        words = [word for sample in of_row for word in sample.words]
        timed = sum(word.start_s is not None for word in words)
        lines.append(f"| {' | '.join(key)} | {len(of_row)} | {seconds:.0f} | {len(words)} | {timed} |")
    return "\n".join(lines)


def main() -> None:
    require()
    every = [sample for condition in CONDITIONS for sample in prompts(condition)]
    scenes = [
        call for condition in corpus_scenes.CONDITIONS for call in corpus_scenes.calls(condition)
    ]  # whose words are stretches
    print(table([*every, *voices(), *nonspeech(), *splices(), *scenes]))


if __name__ == "__main__":
    main()
