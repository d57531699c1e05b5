"""The notebooks run from their first cell to their last on a lake of the demo, and are kept with such output."""

import re
import shutil
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.notebooks import NAMES, NOTEBOOKS, execute, fingerprint, make_lake

A_PLACE = re.compile(r"(?<![\w.:/~<-])/(?:work|tmp|root|home|Users|opt|usr|var|private|mnt|srv)/")


@pytest.fixture(scope="module")
def lake(prefect_url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("notebooks") / "data"
    make_lake(data)
    return data


def executed(name: str, lake: Path, folder: Path) -> nbformat.NotebookNode:
    return execute(Path(shutil.copy(NOTEBOOKS / f"{name}.ipynb", folder)), lake)


def outputs(notebook: nbformat.NotebookNode) -> list[Any]:
    return [output for cell in notebook.cells for output in cell.get("outputs", ())]


def texts(notebook: nbformat.NotebookNode) -> str:
    found = [output.get("text", "") for output in outputs(notebook)]
    for output in outputs(notebook):
        found += [text for kind, text in output.get("data", {}).items() if kind in ("text/plain", "text/markdown")]
    return "\n".join(found)


def pictures(notebook: nbformat.NotebookNode) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs(notebook))


def players(notebook: nbformat.NotebookNode) -> int:
    return sum("<audio" in output.get("data", {}).get("text/html", "") for output in outputs(notebook))


def warnings(notebook: nbformat.NotebookNode) -> list[str]:
    return [output.text for output in outputs(notebook) if output.get("name") == "stderr"]


def test_predictions_are_explored_on_the_demo(lake: Path, tmp_path: Path) -> None:
    notebook = executed("explore_predictions", lake, tmp_path)
    shown = texts(notebook)
    assert re.search(r"two_cities\.wav +┆ best of times", shown)
    assert "entry 3 to entry 5: {'added': 1, 'unchanged': 19}" in shown
    assert re.search(r"beckett\.wav ┆ moonshine-tiny-en ┆ try again .* added", shown)
    assert re.search(r'phrases +┆ \[\] +┆ \["try again"\]', shown)
    assert pictures(notebook) == 3
    assert not warnings(notebook)


def test_drift_is_analysed_on_the_demo_which_has_too_little_for_a_verdict(lake: Path, tmp_path: Path) -> None:
    notebook = executed("drift_analysis", lake, tmp_path)
    shown = texts(notebook)
    assert "Together: **insufficient**" in shown
    assert re.search(r"level_dbfs .* insufficient +┆ the baseline has \d+ of 300 utterances", shown)
    assert "(False, 'insufficient')" in shown
    assert "There is no baseline yet" in shown
    assert "stretches of 4 recordings" in shown
    assert pictures(notebook) == 6
    assert players(notebook) == 3 + 5
    assert not warnings(notebook)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_kept_with_the_output_of_its_code(name: str) -> None:
    path = NOTEBOOKS / f"{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert notebook.metadata.get("executed") == fingerprint(notebook), f"{name} was changed: make notebook-run"
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [output for output in outputs(notebook) if output.output_type == "error"]
    assert not warnings(notebook)
    assert not A_PLACE.search(texts(notebook))
    assert path.stat().st_size < 1_500_000
