"""Executes the notebooks on a lake that the real flows make of the demo recordings.

`python -m tests.notebooks` (`make notebook-run`) keeps their output. It must not know what they show.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import nbformat
import pytest

from storage.settings import get_settings

NOTEBOOKS: Final = Path(__file__).parents[1] / "notebooks"
NAMES: Final = ("explore_predictions", "drift_analysis")
MORE_PHRASES: Final = "call,is,recorded,try again"  # of a second reference, so that there are two to compare
EXECUTE: Final = """
import sys, nbclient, nbformat
import matplotlib.font_manager  # it makes a list of fonts once, and warns where that takes long
notebook = nbformat.read(sys.argv[1], as_version=4)
client = nbclient.NotebookClient(
    notebook, timeout=300, record_timing=False, resources={"metadata": {"path": sys.argv[2]}}
)
client.execute()
nbformat.write(notebook, sys.argv[1])
"""


def make_lake(data: Path) -> None:
    """Ingest the demo recordings into `data` and score them twice, with more phrases the second time.

    Prefect's server has to be there.
    """
    from flows.infer import infer  # imports Prefect, which takes its server's address from the environment now
    from flows.ingest import ingest

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AUDIOPHILE_DATA", str(data))
        environment.setenv("AUDIOPHILE_WORKERS", "1")  # another one would load all models as well, for six recordings
        get_settings.cache_clear()
        ingest()
        infer()
        environment.setenv("PHRASES", MORE_PHRASES)
        get_settings.cache_clear()
        infer()
    get_settings.cache_clear()


def execute(notebook: Path, data: Path) -> nbformat.NotebookNode:
    """Execute a notebook in place, as one in notebooks/, on the lake in `data`."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", EXECUTE, str(notebook), str(NOTEBOOKS)],
        check=False,
        env=os.environ | {"AUDIOPHILE_DATA": str(data), "MPLBACKEND": "module://matplotlib_inline.backend_inline"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{notebook.name} cannot be executed: {done.stderr[-3000:]}")
    executed = nbformat.read(notebook, as_version=4)
    executed.metadata["language_info"] = {"name": "python"}  # no version: it is not the same everywhere
    executed.metadata["executed"] = fingerprint(executed)
    nbformat.write(executed, notebook)
    return executed


def fingerprint(notebook: nbformat.NotebookNode) -> str:
    """Return a hash of the notebook's code: its output is that of this code if both were kept together."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256(json.dumps(code).encode()).hexdigest()


def main() -> None:
    """Execute all notebooks, and keep them with their output."""
    from prefect.testing.utilities import prefect_test_harness

    from tests.conftest import pytest_configure

    pytest_configure()
    os.environ |= {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    with tempfile.TemporaryDirectory() as folder:
        with prefect_test_harness(server_startup_timeout=120):
            make_lake(Path(folder) / "data")
        for name in NAMES:
            execute(NOTEBOOKS / f"{name}.ipynb", Path(folder) / "data")


if __name__ == "__main__":
    main()
