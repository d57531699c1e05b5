"""Processes end in an order that lets runs in hand say how they ended, and with the time for it."""

import inspect
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prefect.concurrency import _leases

from flows.runs import LEASE_ATTEMPTS, outlast_server
from tests.system.service import PROJECT
from tests.waiting import wait_for

PROCESS = "trap 'sleep {seconds}; echo {name} >> order; exit 0' TERM; touch {name}.up; while :; do sleep 0.1; done"


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGHUP])
def test_the_server_ends_last_and_none_is_killed_before_its_time(tmp_path: Path, told: signal.Signals) -> None:
    seconds = {"prefect": 0, "flows": 7, "api": 0}  # honcho's own limit is 5
    lines = [f"{name}: {PROCESS.format(name=name, seconds=takes)}" for name, takes in seconds.items()]
    (tmp_path / "Procfile").write_text("\n".join(lines))
    processes = subprocess.Popen(
        ["env", "--default-signal=HUP", sys.executable, "-m", "flows.processes"],  # the tests may run under nohup
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
    )
    try:
        while len(list(tmp_path.glob("*.up"))) < len(seconds):
            assert processes.poll() is None
            time.sleep(0.1)
        processes.send_signal(told)
        assert processes.wait(60) == 128 + signal.SIGTERM
    finally:
        processes.kill()
        processes.wait()
    assert (tmp_path / "order").read_text().split() == ["api", "flows", "prefect"]


def test_who_is_told_to_end_before_all_have_started_ends_them_all(tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text("\n".join(f"{name}: exec sleep 600" for name in ("prefect", "flows", "api")))
    early = """
import os, signal
from honcho.manager import Manager
start = Manager._start
def started(self):
    start(self)
    os.kill(os.getpid(), signal.SIGTERM)  # honcho has yet to hear of their numbers
Manager._start = started
from flows.processes import main
main()
"""
    command = [sys.executable, "-c", early]
    ended = subprocess.run(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(PROJECT)}, timeout=60)  # noqa: PLW1510
    assert ended.returncode == 128 + signal.SIGTERM


def test_nohup_keeps_it_going(tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text("api: touch up; exec sleep 600")
    processes = subprocess.Popen(
        ["nohup", sys.executable, "-m", "flows.processes"], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(PROJECT)}
    )
    try:
        wait_for("the process", (tmp_path / "up").exists)
        processes.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        assert processes.poll() is None
    finally:
        processes.terminate()
        assert processes.wait(60) == 128 + signal.SIGTERM


def test_a_run_renews_the_lease_of_its_slot_for_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a constant of Prefect's, which another version may not have."""
    monkeypatch.setattr(_leases, "_RENEWAL_MAX_ATTEMPTS", _leases._RENEWAL_MAX_ATTEMPTS)
    outlast_server()
    assert _leases._RENEWAL_MAX_ATTEMPTS == LEASE_ATTEMPTS
    assert "range(_RENEWAL_MAX_ATTEMPTS)" in inspect.getsource(_leases._renew_concurrency_lease_with_retries)
