"""A lake with its settings for each test of the flows."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from flows import story
from storage.lake import Lake
from storage.settings import get_settings


@pytest.fixture(autouse=True)
def _server_may_be_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tell Prefect's server everything: on a busy machine it takes its time, and would be let alone for a while."""
    monkeypatch.setattr(story, "REQUEST_S", 60.0)
    monkeypatch.setattr(story, "_silence", story._Silence())


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lake]:
    """An empty lake, which the settings of this process and its children name."""
    monkeypatch.setenv("AUDIOPHILE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("AUDIOPHILE_DEMO", "0")
    monkeypatch.setenv("INGEST_SETTLE_S", "0.1")
    monkeypatch.setenv("PHRASES", "goodbye,messages")
    get_settings.cache_clear()
    (tmp_path / "data" / "incoming").mkdir(parents=True)
    yield Lake.open(tmp_path / "data")
    get_settings.cache_clear()


@pytest.fixture
def incoming(lake: Lake, tmp_path: Path) -> Path:
    """The watched folder."""
    folder = get_settings().watched_folder
    assert folder.is_relative_to(tmp_path), "never a folder of the user's"
    return folder


@pytest.fixture
def tone(tmp_path: Path):
    """Makes a WAV of a tone; another frequency is another recording."""

    def make(path: Path, frequency: float, seconds: float = 1.0) -> Path:
        times = np.arange(round(8000 * seconds)) / 8000
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.3 * np.sin(2 * np.pi * frequency * times), 8000, format="WAV")
        return path

    return make


def run_python(code: str, prefect_url: str, **variables: str) -> subprocess.CompletedProcess:
    """Run `code` in a process of its own, against the tests' Prefect server."""
    return subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        env=os.environ | {"PREFECT_API_URL": prefect_url} | variables,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
    )
