"""What `make eval` says of callscene, on cases whose figures can be counted by hand."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.eval import corpora, scenes, scenes_report
from tests.eval.corpus_scenes import CONDITIONS, LABELS, SOURCES
from tests.eval.plots import draw_confusion
from tests.eval.samples import Spoken

SILENT = Spoken("silence", 0.0, 4.0)


def truth(*stretches: tuple[str, float, float]) -> list[tuple[str, bool]]:
    """The class of each of four seconds, and whether it is clear, over a silent line."""
    labels, is_clear = scenes.truth([*(Spoken(*stretch) for stretch in stretches), SILENT], 4)
    return [(LABELS[label], bool(clear)) for label, clear in zip(labels, is_clear, strict=True)]


@pytest.mark.parametrize(("start_s", "second"), [(1.2, ("speech", True)), (1.3, ("speech", False))])
def test_a_second_is_clear_with_three_quarters_of_one_class(start_s: float, second: tuple[str, bool]) -> None:
    assert truth(("speech", start_s, 3.0)) == [("silence", True), second, ("speech", True), ("silence", True)]


def test_a_second_is_what_most_of_it_is() -> None:
    assert truth(("music", 1.6, 2.1))[1:3] == [("silence", False), ("silence", True)]


@pytest.mark.parametrize(
    ("key_s", "second"), [(0.03, ("speech", False)), (0.05, ("DTMF", False)), (0.08, ("DTMF", True))]
)
def test_a_key_makes_a_second_one_of_dtmf(key_s: float, second: tuple[str, bool]) -> None:
    assert truth(("speech", 0.0, 4.0), ("DTMF", 2.5, 2.5 + key_s))[2] == second


def matrix(**counts: int) -> scenes.Matrix:
    """Counts by names of the form true_found."""
    found = np.zeros((len(LABELS), len(LABELS)), np.int64)
    for names, count in counts.items():
        true, said = names.split("_")
        found[LABELS.index(true), LABELS.index(said)] = count
    return found


def test_precision_recall_and_f1_of_a_class() -> None:
    counted = matrix(speech_speech=6, speech_noise=2, music_speech=3)
    classes = scenes.by_class(counted)
    assert classes["speech"] == {"precision": 0.6667, "recall": 0.75, "f1": 0.7059, "seconds": 8}
    assert classes["music"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "seconds": 3}


def test_macro_f1_counts_classes_alike_however_long_they_are() -> None:
    perfect = np.diag(np.arange(1, len(LABELS) + 1))
    assert scenes.macro_f1(perfect) == 1
    perfect[0] = np.roll(perfect[0], 1)  # the shortest class, all of it taken for the next one
    assert scenes.macro_f1(perfect) == pytest.approx((0 + 2 * 2 / (2 + 3) + 5) / 7)


def test_seconds_are_counted_by_what_they_are_and_were_found_to_be() -> None:
    speech, music = LABELS.index("speech"), LABELS.index("music")
    rows = [(speech, True, speech, 0.95), (speech, True, speech, 0.7), (music, False, speech, 0.99)]
    seconds = np.array(rows, scenes.SECOND).view(np.recarray)
    assert (scenes.confusion(seconds) == matrix(speech_speech=2, music_speech=1)).all()
    assert (scenes.confusion(seconds[seconds.is_clear]) == matrix(speech_speech=2)).all()
    assert scenes.right_shown(seconds) == 0.5
    assert scenes.precision_of_shown(seconds) == 0.5
    assert scenes.calibration_error(seconds, bins=1) == pytest.approx(abs(2 / 3 - 0.88))


def test_halves_share_no_source() -> None:
    fitting, reporting = SOURCES["fitting"], SOURCES["reporting"]
    for kind in ("speakers", "games", "effects", "hums_hz"):
        assert not set(getattr(fitting, kind)) & set(getattr(reporting, kind))


@pytest.fixture
def figures() -> dict[str, Any]:
    """Those of two matrices, as `scenes.measure` names them."""
    clear, every = np.eye(len(LABELS), dtype=np.int64) * 10, np.eye(len(LABELS), dtype=np.int64) * 10 + 1
    found: dict[str, Any] = {}
    for condition in CONDITIONS:
        ending = "" if condition == "8k" else f"_{condition}"
        found |= {f"callscene_{name}{ending}": 0.9 for name in scenes_report.CONFIDENCES}
        found |= scenes.figures_of(clear, ending) | scenes.figures_of(every, f"{ending}_with_borders")
    return found


def test_the_report_has_every_class_at_both_conditions_without_and_with_borders(
    figures: dict[str, Any], tmp_path: Path
) -> None:
    text = "\n".join(scenes_report.section(figures, tmp_path))
    for label in LABELS:
        assert len(re.findall(rf"^\| {label} \| 1\.0 \| 1\.0 \| 1\.0 \| 10 \|$", text, re.MULTILINE)) == 2
        assert len(re.findall(rf"^\| {label} \| [\d.]+ \| [\d.]+ \| 0\.6471 \| 17 \|$", text, re.MULTILINE)) == 2
    assert "*border second*" in text
    (picture,) = re.findall(r"\((eval/\S+)\)", text)
    assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")


def test_a_class_that_never_comes_is_drawn(tmp_path: Path) -> None:
    draw_confusion({"8 kHz": [[0, 0], [1, 2]]}, ("a", "b"), tmp_path / "new" / "plot.png")
    assert (tmp_path / "new" / "plot.png").is_file()


def test_all_that_is_missing_is_named_at_once_with_the_line_that_installs_it(tmp_path: Path) -> None:
    recordings = {"there": tmp_path, "some-music": tmp_path / "a", "some-voices": tmp_path / "b"}
    line = "apt-get install --no-install-recommends no-such-program some-music some-voices$"
    with pytest.raises(RuntimeError, match=line):
        corpora.require(("sh", "no-such-program"), recordings)


def test_the_scenes_need_nothing_that_make_eval_does_not_name() -> None:
    speakers = {name for half in SOURCES.values() for name in half.speakers if not name.startswith("flite-")}
    assert speakers <= {path.name for path in corpora.RECORDINGS.values()}
