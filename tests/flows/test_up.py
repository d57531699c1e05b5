"""What a user can get wrong before the start gives one clear line, and no traceback."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from flows import up
from flows.errors import StartError
from storage.errors import StoreError
from storage.place import Place
from storage.settings import Settings
from storage.store import LocalStore
from tests.system.service import PROJECT, environment

# Apprise imports a module of the standard library that Python 3.13 lacks, and does without it there.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


def start(folder: Path, module: str = "flows.up", **settings: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", module],
        check=False,
        cwd=PROJECT,
        env=environment(folder, **settings),
        capture_output=True,
        text=True,
        timeout=300,
    )


def the_one_line(result: subprocess.CompletedProcess) -> str:
    assert result.returncode == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line


@pytest.mark.parametrize("setting", ["API_PORT", "PREFECT_PORT"])
def test_a_port_in_use_is_named_with_the_way_out(tmp_path: Path, setting: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = the_one_line(start(tmp_path, **{setting: str(port)}))
    assert f"{setting}={port}" in line
    assert f"{setting}={port + 1} make up" in line


def test_a_data_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    assert f"AUDIOPHILE_DATA={tmp_path / 'data'}" in the_one_line(start(tmp_path))


def test_a_folder_of_this_hosts_own_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "own").write_text("a file where the folder should be")
    settings = {"AUDIOPHILE_DATA": "s3://lake", "AUDIOPHILE_LOCAL": str(tmp_path / "own")}
    assert f"AUDIOPHILE_LOCAL={tmp_path / 'own'}" in the_one_line(start(tmp_path, **settings))


@pytest.mark.parametrize("module", ["flows.up", "api"])
def test_a_bucket_that_cannot_be_reached_is_named(tmp_path: Path, module: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        settings = {
            "AUDIOPHILE_DATA": "s3://lake/calls",
            "AUDIOPHILE_LOCAL": str(tmp_path / "own"),
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "hunter2",
            "PREFECT_API_URL": endpoint,
        }
        line = the_one_line(start(tmp_path, module, **settings))
    assert line.startswith(f"audiophile: s3://lake at {endpoint}: cannot be listed")
    assert "Check AWS_ENDPOINT_URL" in line
    assert "hunter2" not in line


def test_a_disk_on_which_writers_could_overwrite_each_other_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalStore, "write_if_absent", lambda store, path, content: store.write(path, content) or True)
    with pytest.raises(StoreError, match="overwrite each other's commits"):
        up.require_store(Place.of(tmp_path))


def test_a_setting_out_of_bounds_is_named_with_its_value(tmp_path: Path) -> None:
    line = the_one_line(start(tmp_path, MODEL_CONFIDENCE_THRESHOLD="1.5"))
    assert "MODEL_CONFIDENCE_THRESHOLD='1.5'" in line
    assert "less than or equal to 1" in line


def test_a_watched_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert f"FILE_PATH={tmp_path / 'nowhere'}" in the_one_line(start(tmp_path, FILE_PATH=str(tmp_path / "nowhere")))


def test_a_watched_folder_that_holds_the_data_folder_is_refused(tmp_path: Path) -> None:
    line = the_one_line(start(tmp_path, FILE_PATH=str(tmp_path)))
    assert f"FILE_PATH={tmp_path}: holds the data folder" in line


@pytest.mark.parametrize("module", ["flows.up", "api"])
def test_a_host_that_others_reach_needs_keys(tmp_path: Path, module: str) -> None:
    line = the_one_line(start(tmp_path, module, API_HOST="0.0.0.0"))
    assert line.startswith("audiophile: API_HOST=0.0.0.0: ")
    assert "openssl rand -hex 24" in line
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("module", ["flows.up", "api"])
def test_a_key_that_is_too_short_is_refused_and_not_shown(tmp_path: Path, module: str) -> None:
    line = the_one_line(start(tmp_path, module, AUDIOPHILE_API_KEYS="hunter2"))
    assert "AUDIOPHILE_API_KEYS=**********" in line
    assert "hunter2" not in line


@pytest.mark.parametrize(
    "address", ["json://", "hunter2", "nobody://hunter2/hunter2", "hunter2!://x", "json://a,hunter2"]
)
def test_an_address_that_nothing_can_be_sent_to_is_refused_and_not_shown(
    caplog: pytest.LogCaptureFixture, address: str
) -> None:
    with pytest.raises(StartError) as refused:
        up.require_notify_url(Settings(_env_file=None, NOTIFY_URL=address))
    assert not caplog.records
    assert str(refused.value).startswith("NOTIFY_URL=")
    assert "**********: is no address" in str(refused.value)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("module", ["flows.up", "flows.serve"])
def test_a_wrong_address_keeps_the_service_from_starting(tmp_path: Path, module: str) -> None:
    settings = {"NOTIFY_URL": "nobody://hunter2", "PREFECT_API_URL": "http://127.0.0.1:9/api"}
    line = the_one_line(start(tmp_path, module, **settings))
    assert line.startswith("audiophile: NOTIFY_URL=nobody://**********: ")


def test_addresses_that_apprise_knows_are_taken() -> None:
    for address in ("", "json://127.0.0.1:9/x", "mailto://u:secret,word@example.org?format=text", "slack://a/b/c"):
        up.require_notify_url(Settings(_env_file=None, NOTIFY_URL=address))


def test_one_port_for_both_is_refused(tmp_path: Path) -> None:
    line = the_one_line(start(tmp_path, API_PORT="8123", PREFECT_PORT="8123"))
    assert "API_PORT and PREFECT_PORT are both 8123" in line


def test_a_settings_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "env").write_bytes(b"PHRASES=caf\xe9\n")
    assert f"{tmp_path / 'env'} cannot be read" in the_one_line(
        start(tmp_path, AUDIOPHILE_ENV_FILE=str(tmp_path / "env"))
    )


def test_serving_without_a_server_to_serve_for_is_refused(tmp_path: Path) -> None:
    result = start(tmp_path, "flows.serve")
    assert "PREFECT_API_URL is not set" in the_one_line(result)


def test_the_users_proxy_is_not_asked_for_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "intranet.example")
    monkeypatch.delenv("no_proxy", raising=False)
    variables = up.environment(Settings(_env_file=None))
    assert variables["NO_PROXY"] == variables["no_proxy"] == "intranet.example,localhost,127.0.0.1"


def test_a_wrong_python_is_named(tmp_path: Path) -> None:
    fake = tmp_path / "python3"
    fake.write_text("#!/bin/sh\necho Python 3.9.1\nexit 1\n")
    fake.chmod(0o755)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((PROJECT / name).read_bytes())
    result = subprocess.run(
        ["make", "up", f"PYTHON={fake}"], check=False, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert result.returncode != 0
    assert "needs Python 3.11 or 3.12" in result.stderr
    assert "Python 3.9.1" in result.stderr


def test_variables_of_another_prefect_do_not_reach_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: dict[str, str] = {}
    monkeypatch.setenv("PREFECT_API_KEY", "of another server")
    monkeypatch.setenv("PREFECT_API_URL", "https://prefect.example/api")
    monkeypatch.setenv("PREFECT_LOGGING_LEVEL", "DEBUG")
    monkeypatch.setenv("PREFECT_LOGGING_SETTINGS_PATH", "/nowhere")
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["up"])
    monkeypatch.setattr(up, "_become", lambda command: started.update(os.environ))
    monkeypatch.chdir(PROJECT)
    up.get_settings.cache_clear()
    before = dict(os.environ)
    try:
        up.main()
    finally:
        up.get_settings.cache_clear()
        os.environ.clear()
        os.environ.update(before)
    assert "PREFECT_API_KEY" not in started
    assert started["PREFECT_API_URL"] == f"http://127.0.0.1:{started['PREFECT_PORT']}/api"
    assert started["PREFECT_LOGGING_LEVEL"] == "DEBUG"
    assert "PREFECT_LOGGING_SETTINGS_PATH" not in started
    assert started["PREFECT_HOME"].startswith(str(tmp_path))


def test_a_service_alone_runs_as_in_make_up_but_for_what_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(_env_file=None, PREFECT_API_URL="http://prefect:4200/api", AUDIOPHILE_DATA="/data")
    monkeypatch.setenv("PREFECT_API_URL", "http://prefect:4200/api")
    monkeypatch.setenv("PREFECT_UI_URL", "")
    alone, together = up.alone("flows", settings), up.environment(settings)
    assert alone["PREFECT_API_URL"] == "http://prefect:4200/api"
    assert {name for name, value in together.items() if alone[name] != value} == {"PREFECT_API_URL", "PATH"}


def test_prefects_server_alone_has_a_password_and_postgres_if_they_are_set() -> None:
    of_postgres = {"DB_HOST": "db", "DB_PASSWORD": "hunter2"}
    settings = Settings(_env_file=None, PREFECT_API_AUTH_STRING="admin:a:b", **of_postgres)
    server = up.alone("prefect", settings)
    assert server["PREFECT_SERVER_API_AUTH_STRING"] == server["PREFECT_API_AUTH_STRING"] == "admin:a:b"
    assert server["PREFECT_SERVER_DATABASE_HOST"] == "db"
    assert server["PREFECT_SERVER_DATABASE_PASSWORD"] == "hunter2"
    assert "hunter2" not in up.alone("flows", settings).values()
    assert not any(name.startswith("PREFECT_SERVER_DATABASE") for name in up.of_server(Settings(_env_file=None)))


def test_a_prefect_that_others_reach_needs_a_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_SERVER_API_HOST", "0.0.0.0")
    with pytest.raises(StartError, match="Set PREFECT_API_AUTH_STRING=<user>:<password>"):
        up.alone("prefect", Settings(_env_file=None))
    up.alone("prefect", Settings(_env_file=None, PREFECT_API_AUTH_STRING="admin:hunter2"))


def test_a_service_that_there_is_not_is_named_with_those_that_there_are() -> None:
    with pytest.raises(StartError, match="'workers' is none of the services: name one of prefect, flows, api"):
        up.alone("workers", Settings(_env_file=None))


def test_a_worker_watches_no_folder_of_its_own_host_unless_it_is_told_to(tmp_path: Path) -> None:
    given = {"AUDIOPHILE_DATA": str(tmp_path), "PREFECT_API_URL": "http://head:4200/api"}
    assert up.alone("worker", Settings(_env_file=None, **given))["AUDIOPHILE_WATCH"] == "0"
    assert "AUDIOPHILE_WATCH" not in up.alone("worker", Settings(_env_file=None, AUDIOPHILE_WATCH="1", **given))
    assert "AUDIOPHILE_WATCH" not in up.alone("flows", Settings(_env_file=None, **given))
    up.require_watched(Settings(_env_file=None, AUDIOPHILE_WATCH="0", **given))
    assert not (tmp_path / "incoming").exists()


@pytest.mark.parametrize("service", ["worker", "guard"])
def test_what_serves_a_prefect_elsewhere_needs_its_address(service: str) -> None:
    with pytest.raises(StartError, match="http://head:4200/api"):
        up.alone(service, Settings(_env_file=None))
    named = up.alone(service, Settings(_env_file=None, PREFECT_API_URL="http://head:4200/api"))
    assert named["PREFECT_API_URL"] == "http://head:4200/api", "of `.env` too"
