"""What every test run shares: one Prefect server, which takes seconds to start, and one S3 server."""

import os
import sys
from collections.abc import Iterator

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from flows.runs import end_quietly
from storage.settings import ENV_FILE, Settings
from tests.s3 import S3Server
from tests.s3 import s3_server as running_s3_server

NEED_PREFECT = ("tests/flows/", "tests/test_notebooks.py")


def pytest_configure() -> None:
    """Take the user's settings out of the way: no test may see his folders, nor depend on his phrases."""
    for field in Settings.model_fields.values():
        os.environ.pop(str(field.validation_alias), None)
    os.environ[ENV_FILE] = os.devnull
    end_quietly()  # DuckDB's report of what is alive at the interpreter's end would hide the summary


class OnePrefect(LoadFileScheduling):
    """Gives each process of xdist a file at a time, but all that need Prefect's server to one, which alone starts it.

    This is no loadgroup: its groups are not seen by xdist 3.8 with pytest 9.
    """

    def _split_scope(self, nodeid: str) -> str:
        return "prefect" if nodeid.startswith(NEED_PREFECT) else super()._split_scope(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> OnePrefect | None:
    return OnePrefect(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture(autouse=True)
def _real_modules_only() -> Iterator[None]:
    """Forget the modules that SpeechBrain keeps for its old names: looking at one, as hypothesis does, imports it.

    That warns, and fails where it needs a package that is not installed.
    """
    yield
    if "speechbrain" in sys.modules:
        for name, module in sys.modules.copy().items():  # in one step: other threads may be importing
            if type(module).__module__ == "speechbrain.utils.importutils":
                del sys.modules[name]


@pytest.fixture(scope="session")
def prefect_url() -> Iterator[str]:
    os.environ |= {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    os.environ |= {name: f"{os.environ.get(name, '')},127.0.0.1" for name in ("NO_PROXY", "no_proxy")}
    from prefect.settings import PREFECT_API_URL  # seconds of import, which not every process of the tests needs
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield str(PREFECT_API_URL.value())


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with running_s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server
