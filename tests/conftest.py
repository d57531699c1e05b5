"""What every test run shares: one Prefect server, which takes seconds to start."""

from collections.abc import Iterator

import pytest
from prefect.settings import PREFECT_API_URL
from prefect.testing.utilities import prefect_test_harness

from flows.runs import end_quietly


def pytest_configure() -> None:
    """Keep DuckDB's report of what is alive at the interpreter's end from hiding the summary."""
    end_quietly()


@pytest.fixture(scope="session")
def prefect_url() -> Iterator[str]:
    with prefect_test_harness(server_startup_timeout=120):
        yield str(PREFECT_API_URL.value())
