"""Recordings: synthesised ones, saved in any format, and the speech that moonshine-voice and Asterisk ship."""

import importlib.util
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from features.audio import read_blocks

Save = Callable[..., Path]

PROMPTS = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
PAUSES_S = (0.3, 2.5, 0.8, 4.0, 1.6)


@pytest.fixture(scope="session")
def save(tmp_path_factory: pytest.TempPathFactory) -> Save:
    """Write a waveform of shape (channel, time) or (time,) to a new file, and return its path."""
    folder, numbers = tmp_path_factory.mktemp("recordings"), itertools.count()

    def write(
        waveform: NDArray[np.float32], sample_rate: int, ending: str = "wav", subtype: str | None = "FLOAT"
    ) -> Path:
        path = folder / f"{next(numbers)}.{ending}"
        soundfile.write(path, np.atleast_2d(waveform).T, sample_rate, subtype=subtype if ending == "wav" else None)
        return path

    return write


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of recordings in the moonshine-voice wheel."""
    found = importlib.util.find_spec("moonshine_voice")
    assert found is not None
    assert found.submodule_search_locations
    return Path(found.submodule_search_locations[0]) / "assets"


@pytest.fixture(scope="session")
def two_cities(assets: Path) -> Path:
    """The opening of A Tale of Two Cities: 44 s at 48 kHz, one long pause."""
    return assets / "two_cities.wav"


@pytest.fixture(scope="session")
def beckett(assets: Path) -> NDArray[np.float32]:
    """Ten seconds at 16 kHz with two utterances in them. Shape (time,)."""
    (block,) = read_blocks(assets / "beckett.wav", sample_rate=16_000, block_s=60)
    return block[0]


@pytest.fixture(scope="session")
def conversation(save: Save) -> Path:
    """Telephone prompts at 8 kHz, two minutes, with pauses of many lengths between them."""
    parts = []
    for prompt, pause_s in zip(sorted(PROMPTS.glob("conf-*.wav"))[:12], itertools.cycle(PAUSES_S), strict=False):
        speech, sample_rate = soundfile.read(prompt, dtype="float32")
        assert sample_rate == 8_000
        parts += [speech, np.zeros(round(pause_s * sample_rate), np.float32)]
    return save(np.concatenate(parts), 8_000)
