"""What all tests of a process share: one Prefect server, which takes seconds to start, and one S3 server."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, settings

from flows.runs import end_quietly
from storage.settings import ENV_FILE, Settings
from tests.ports import free_port
from tests.s3 import S3Server
from tests.s3 import s3_server as running_s3_server


def pytest_configure() -> None:
    """Take the user's settings out of the way: no test may see his folders, nor depend on his phrases."""
    for field in Settings.model_fields.values():
        os.environ.pop(str(field.validation_alias), None)
    os.environ[ENV_FILE] = os.devnull
    os.environ |= {name: f"{os.environ.get(name, '')},127.0.0.1,localhost" for name in ("NO_PROXY", "no_proxy")}
    end_quietly()  # DuckDB's report of what is alive at the interpreter's end would hide the summary
    # How long an example takes says what else the machine does.
    settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("tests")


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
    from prefect.settings import PREFECT_API_URL  # seconds of import, which not every process of the tests needs
    from prefect.testing.utilities import prefect_test_harness

    with ExitStack() as stack:
        with patch("prefect.testing.utilities._find_available_port", free_port):  # its own may be another's by then
            stack.enter_context(prefect_test_harness(server_startup_timeout=300))
        yield str(PREFECT_API_URL.value())


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with running_s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server
