"""From recordings to a decision, all of it real: prompts and models, quarantine, drift in noise, a release, the API."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from api.app import create_app
from flows.drift import drift
from flows.infer import infer
from flows.ingest import ingest
from storage.drift import held, windows
from storage.lake import Lake
from storage.settings import get_settings
from tests import asterisk
from tests.serving import serving

SNR_DB = 10.0


def drop(folder: Path, names: list[str], *, noisy: bool = False) -> None:
    """Put prompts into the watched folder, some of them with white noise."""
    chance = np.random.default_rng(0)
    for name in names:
        waveform, sample_rate = soundfile.read(asterisk.SOUNDS / f"{name}.wav", dtype="float32")
        if noisy:
            power = np.mean(waveform**2) / 10 ** (SNR_DB / 10)
            waveform = np.clip(waveform + chance.normal(scale=np.sqrt(power), size=len(waveform)), -1, 1)
        path = folder / f"{name.replace('/', '_')}.wav"
        soundfile.write(path, waveform, sample_rate, subtype="PCM_16")


def come(folder: Path, names: list[str], *, noisy: bool = False) -> None:
    drop(folder, names, noisy=noisy)
    ingest()
    infer()
    drift()


def test_noise_is_found_held_back_released_and_shown(
    lake: Lake, incoming: Path, prefect_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ON_DRIFT", "log,quarantine")
    monkeypatch.setenv("DRIFT_BASELINE_MIN", "100")
    monkeypatch.setenv("DRIFT_WINDOW_UTTERANCES", "40")
    monkeypatch.setenv("INGEST_SETTLE_S", "0")
    monkeypatch.setenv("REFRESH_BUDGET_S", "600")  # one reference each time, however busy the machine is
    monkeypatch.setenv("AUDIOPHILE_WORKERS", "1")  # another one would load all models as well
    get_settings.cache_clear()
    names = [name for name in asterisk.prompts() if not name.startswith(("letters", "digits", "phonetic"))]
    names = [names[at] for at in np.random.default_rng(0).permutation(len(names))]
    come(incoming, names[:150])
    with lake.index() as index:
        assert [window.verdict for window in windows(index)] == ["no_drift"]
    come(incoming, names[150:200], noisy=True)
    with lake.index() as index:
        (newest, *_) = windows(index)
        assert newest.verdict == "drift"
        assert newest.tests[0].descriptor in {"snr_db", "bandwidth_hz", "spectral_centroid_hz"}
        waits = held(index)
        assert all(one.has_drifted for one in waits), "what was left over of the second fifty came into that window"
    with serving(create_app(get_settings())) as http:
        shown = http.get("/api/files", params={"status": "held"}).json()
        assert {file["id"] for file in shown} == {str(id_) for one in waits for id_ in one.file_ids}
        assert {file["reference"] for file in shown} == {None}
        (latest, *_) = http.get("/api/drift").json()
        assert (latest["verdict"], latest["tests"][0]["descriptor"]) == ("drift", newest.tests[0].descriptor)
        assert http.get(f"/api/drift/{waits[-1].reference}").json()["verdict"] == "drift"
        assert http.get(f"/api/references/{waits[-1].reference}").json()["state"] == "held"
        drift(release_held=[one.reference for one in waits])
        assert http.get("/api/files", params={"status": "held"}).json() == []
        (one, *_) = waits[-1].file_ids
        released = http.get(f"/api/files/{one}").json()
        assert (released["status"], released["reference"]) == ("accepted", str(waits[-1].reference))
