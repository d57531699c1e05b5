"""The API starts and answers without torch, models, features, flows and Prefect."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SERVE = """
import json, sys, threading, time
import httpx, uvicorn
from api.app import create_app
from storage.settings import read_settings

server = uvicorn.Server(uvicorn.Config(create_app(read_settings()), port=0, log_level="warning", ws="none"))
thread = threading.Thread(target=server.run)
thread.start()
while not server.started and thread.is_alive():
    time.sleep(0.01)
port = server.servers[0].sockets[0].getsockname()[1]
with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as http:
    answers = [http.post("/api/files/upload", files={"file": ("a.wav", b"RIFF____WAVE")}), http.get("/api/files")]
server.should_exit = True
thread.join()
print(json.dumps({"statuses": [answer.status_code for answer in answers], "modules": sorted(sys.modules)}))
"""


def run(*arguments: str, cwd: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | settings,
        capture_output=True,
        text=True,
        check=False,
    )


def test_importing_and_serving_does_not_import_torch(tmp_path: Path) -> None:
    done = run("-c", SERVE, cwd=tmp_path, AUDIOPHILE_DATA=str(tmp_path / "data"), PREFECT_PORT="9", API_ACCESS_LOG="0")
    assert done.returncode == 0, done.stderr
    served = json.loads(done.stdout)
    assert served["statuses"] == [201, 200]
    packages = {name.partition(".")[0] for name in served["modules"]}
    assert {"api", "storage", "fastapi"} <= packages
    assert not packages & {"torch", "torchaudio", "onnxruntime", "models", "features", "flows", "prefect"}


def test_importing_the_app_reads_no_settings_and_makes_no_folder(tmp_path: Path) -> None:
    done = run("-c", "import api.app, api.__main__", cwd=tmp_path, API_PORT="wrong")
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "value"), [("API_PORT", "http"), ("MODEL_CONFIDENCE_THRESHOLD", "2")])
def test_a_setting_that_cannot_be_used_is_one_clear_line(tmp_path: Path, name: str, value: str) -> None:
    done = run("-m", "api", cwd=tmp_path, **{name: value})
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"{name}='{value}'" in line
    assert ".env" in line
