"""The notebooks run from their first cell to their last, on a real store."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from flows.infer import infer
from flows.ingest import ingest
from storage.settings import get_settings

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
EXECUTE = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": sys.argv[2]}}).execute()
nbformat.write(notebook, sys.argv[1])
"""


def execute(notebook: Path, data: Path) -> nbformat.NotebookNode:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", EXECUTE, str(notebook), str(NOTEBOOKS)],
        check=False,
        env=os.environ | {"AUDIOPHILE_DATA": str(data), "MPLBACKEND": "module://matplotlib_inline.backend_inline"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return nbformat.read(notebook, as_version=4)


def test_predictions_are_explored_on_the_demo(
    prefect_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIOPHILE_DATA", str(tmp_path / "data"))
    get_settings.cache_clear()
    ingest()
    infer()
    get_settings.cache_clear()
    copy = Path(shutil.copy(NOTEBOOKS / "explore_predictions.ipynb", tmp_path))
    notebook = execute(copy, tmp_path / "data")
    outputs = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", ())]
    shown = "".join(str(output.get("text/plain", "")) for output in outputs)
    assert "two_cities.wav" in shown
    assert "best of times" in shown
    assert sum("image/png" in output for output in outputs) == 1
