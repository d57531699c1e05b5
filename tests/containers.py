"""Runs docker-compose.yml for real, on a disk and then on S3, strikes it, and writes build/containers.json.

`python -m tests.containers` has a project, volumes and secrets of its own, which it removes, and usual ports.
COMPOSE names what to call in place of `docker compose`. It asks no engine otherwise, so that any will do.
"""

import json
import os
import secrets
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import httpx
import moonshine_voice
import yaml

from tests.waiting import wait_for

PROJECT: Final = Path(__file__).parents[1]
RECORDING: Final = Path(moonshine_voice.__file__).parent / "assets" / "beckett.wav"
S3: Final = {
    "COMPOSE_PROFILES": "s3",
    "AUDIOPHILE_DATA": "s3://lake",
    "AWS_S3_BUCKET": "uploads",
    "AWS_ENDPOINT_URL": "http://s3:8333",
    "AWS_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "audiophile",
}
KILL: Final = """
import os, pathlib, time
processes = pathlib.Path("/proc").glob("[0-9]*")
served = [int(one.name) for one in processes if b"\\0flows.serve\\0" in (one / "cmdline").read_bytes()]
assert served
if os.fork() == 0:
    os.closerange(0, 3)
    time.sleep(KILLED_AFTER_S)
    for number in served:
        os.kill(number, 9)
"""
KILLED_AFTER_S: Final = 2
"""By then the command that kills has ended: the container ends with what is killed, and so would that."""
COUNT: Final = """
PGPASSWORD=$POSTGRES_PASSWORD psql -h 127.0.0.1 -U "$POSTGRES_USER" "$POSTGRES_DB" -tAc \\
  "select count(*) from flow_run where state_type = 'COMPLETED'"
"""


class Containers:
    """One project of containers, over HTTP and through compose."""

    def __init__(self, project: str, **settings: str) -> None:
        key, password = secrets.token_hex(24), secrets.token_hex(24)
        self.variables = {
            "COMPOSE_PROJECT_NAME": project,
            "AUDIOPHILE_API_KEYS": f"{key}:read+upload+delete",
            "DB_PASSWORD": password,
            "AUDIOPHILE_DEMO": "0",
            **settings,
        }
        self.services = [
            name
            for name, service in yaml.safe_load((PROJECT / "docker-compose.yml").read_text())["services"].items()
            if "profiles" not in service or settings
        ]
        host = os.environ.get("PUBLISHED_ON", "127.0.0.1")
        self.api = httpx.Client(
            base_url=f"http://{host}:{os.environ.get('API_PORT', '8000')}",
            headers={"X-API-Key": key},
            timeout=30,
            trust_env=False,
        )
        self.prefect = httpx.Client(
            base_url=f"http://{host}:{os.environ.get('PREFECT_PORT', '4200')}/api",
            auth=("admin", password),
            timeout=30,
            trust_env=False,
        )

    def compose(self, *arguments: str) -> str:
        """Run compose, and return what it prints."""
        command = [*shlex.split(os.environ.get("COMPOSE", "docker compose")), *arguments]
        print("$", shlex.join(command), flush=True)
        done = subprocess.run(
            command,
            cwd=PROJECT,
            env=os.environ | self.variables,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"{shlex.join(command)}: {done.returncode}\n{done.stdout[-2000:]}")
        return done.stdout

    def upload(self, content: bytes, path: str = "/api/files/upload") -> str:
        """Upload a recording, and return its id."""
        return self.api.post(path, files={"file": ("recording.wav", content)}).raise_for_status().json()["id"]

    def reference(self, file_id: str) -> str | None:
        """Return the reference that a file shows, once there is one."""
        return self.api.get(f"/api/files/{file_id}").raise_for_status().json().get("reference")

    def are_well(self) -> bool:
        """Run the health check of every service inside it, as engines do; say whether all pass."""
        try:
            for name in self.services:
                check = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())["services"][name]["healthcheck"]
                kind, *command = check["test"]
                shell = ["sh", "-c", command[0].replace("$$", "$")]
                self.compose("exec", "-T", name, *(shell if kind == "CMD-SHELL" else command))
        except RuntimeError:
            return False
        return True


def wait(what: str, probe: Callable[[], Any], seconds: float = 600) -> float:
    """Return how many seconds it took until the probe found something."""
    began = time.monotonic()
    wait_for(what, probe, seconds, every_s=1, passing=httpx.HTTPError)
    print(f"ok    {what}", flush=True)
    return round(time.monotonic() - began, 1)


def timed(action: Callable[[], object]) -> float:
    """Return how many seconds it takes."""
    began = time.monotonic()
    action()
    return round(time.monotonic() - began, 1)


def struck(containers: Containers, recording: bytes) -> dict[str, Any]:
    """Run it, strike it, and return figures; whatever is lost or refused raises."""
    figures: dict[str, Any] = {"up_s": timed(lambda: containers.compose("up", "-d"))}
    figures["prefect_ready_s"] = wait("Prefect", lambda: containers.prefect.get("/ready").is_success)
    figures["api_ready_s"] = wait("API", lambda: containers.api.get("/readyz").is_success)
    figures["flows_ready_s"] = wait("health", containers.are_well)
    size = containers.compose("exec", "-T", "flows", "du", "-smxc", "/usr", "/audiophile")
    figures["image_mib"] = int(size.split()[-2])
    first = containers.upload(recording)
    figures["upload_to_prediction_s"] = wait("prediction", lambda: containers.reference(first))
    shown = containers.reference(first)
    require(
        "Prefect asks for its password", httpx.post(containers.prefect.base_url.join("flows/count")).status_code == 401
    )
    require("the API asks for a key", httpx.get(containers.api.base_url.join("/api/files")).status_code == 401)
    rows = containers.compose("exec", "-T", "postgres", "sh", "-c", COUNT)
    figures["runs_in_postgres"] = int(rows.split()[-1])
    require("Postgres has Prefect's runs", figures["runs_in_postgres"] > 0)
    if "AWS_S3_BUCKET" in containers.variables:
        containers.upload(recording + b"\0", "/api/files/upload/s3")

    containers.compose("exec", "-T", "flows", "python", "-c", KILL.replace("KILLED_AFTER_S", str(KILLED_AFTER_S)))
    time.sleep(2 * KILLED_AFTER_S)
    figures["kill_9_to_well_s"] = wait("health after kill -9", containers.are_well)
    second = containers.upload(recording + b"\0\0")
    figures["sigterm_s"] = timed(lambda: containers.compose("stop", "flows"))
    require("flows ended within its grace time", figures["sigterm_s"] < 45)
    containers.compose("start", "flows")
    figures["started_to_prediction_s"] = wait("prediction", lambda: containers.reference(second))

    figures["down_s"] = timed(lambda: containers.compose("down"))
    containers.compose("up", "-d")
    figures["up_again_to_ready_s"] = wait("API", lambda: containers.api.get("/readyz").is_success)
    require("what was predicted is shown as before", containers.reference(first) == shown)
    require("the bytes are the same", containers.api.get(f"/api/audio/{first}").content == recording)
    return figures


def require(what: str, is_so: bool) -> None:
    """Make sure of it."""
    print("ok   " if is_so else "FAIL ", what, flush=True)
    if not is_so:
        raise RuntimeError(f"not so: {what}")


def main() -> int:
    """Run both kinds, or the one that an argument names; return 0 if all was as it should be."""
    recording = RECORDING.read_bytes()
    result: dict[str, Any] = {"compose": os.environ.get("COMPOSE", "docker compose")}
    result["build_s"] = timed(lambda: Containers("audiophile-check", **S3).compose("build"))
    kinds = {"disk": {}, "s3": S3 | {"AWS_SECRET_ACCESS_KEY": secrets.token_hex(24)}}
    for name in sys.argv[1:] or kinds:
        containers = Containers("audiophile-check", **kinds[name])
        try:
            result[name] = struck(containers, recording)
        finally:
            containers.compose("down", "-v")
        print(json.dumps(result[name], indent=2), flush=True)
    (PROJECT / "build").mkdir(exist_ok=True)
    (PROJECT / "build" / "containers.json").write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
