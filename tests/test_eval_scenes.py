"""What `make eval` says of callscene, on cases whose figures can be counted by hand."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models import callscene_tones
from tests.eval import corpora, corpus_tones, scenes, scenes_report
from tests.eval.corpus_nonspeech import EFFECTS, PIECES, Cadence
from tests.eval.corpus_scenes import CONDITIONS, LABELS, SOURCES, Sources
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
    for kind in ("speakers", "hums_hz", "ringing", "busy"):
        assert not set(getattr(fitting, kind)) & set(getattr(reporting, kind))
    assert not packages_of(fitting) & packages_of(reporting)


def packages_of(sources: Sources) -> set[tuple[str, ...]]:
    """The folders of the packages whose music and effects a half has."""
    folders = [PIECES[name][0] for name in sources.games] + [EFFECTS[name][0] for name in sources.effects]
    return {folder.parts[:5] for folder in folders}


def is_alike(cadence: Cadence, hertz: tuple[float, ...], stretches: tuple[float, ...]) -> bool:
    """Whether two tones can be the same, each off in frequency and, as a whole, in time by what E.180 allows."""
    sent, lengths = cadence.stretches[0][0], [length_s for _, length_s in cadence.stretches]
    if len(sent) != len(hertz) or len(lengths) != len(stretches):
        return False
    tempi = np.divide(lengths, stretches)
    return bool(
        np.max(np.abs(np.divide(sorted(sent), sorted(hertz)) - 1)) <= 2 * corpus_tones.TONE_OFFSET
        and np.ptp(tempi) <= 0.1 * tempi.mean()
        and np.abs(np.log(tempi)).max() <= 2 * corpus_tones.TIME_OFFSET
    )


def test_no_country_of_the_figures_is_trained_on() -> None:
    pairs = [(SOURCES["reporting"].ringing, callscene_tones.RINGING), (SOURCES["reporting"].busy, callscene_tones.BUSY)]
    for reported, trained in pairs:
        alike = {one.name for one in reported for each in trained if is_alike(one, each.hertz, each.stretches)}
        assert not alike
    assert is_alike(Cadence("israel", (((400,), 0.5), ((), 0.5))), (400,), (0.5, 0.5))


def test_keys_of_the_figures_are_as_uneven_and_short_as_q24_allows() -> None:
    waveform, spans = corpus_tones.dialled(np.random.default_rng(24), 60)
    shortest_s = min(end_s - start_s for start_s, end_s in spans)
    assert 0.04 <= shortest_s < 0.045
    low, high = zip(*(strengths_of(waveform, *span) for span in spans), strict=True)
    twists_db = 20 * np.log10(np.divide(high, low))
    assert twists_db.min() < -8.5
    assert twists_db.max() > 8.5
    assert np.abs(twists_db).max() < 11


def strengths_of(waveform: NDArray[np.float32], start_s: float, end_s: float) -> tuple[float, float]:
    """How strong the low and the high tone of a key are."""
    key = waveform[round(start_s * corpus_tones.RATE) : round(end_s * corpus_tones.RATE)]
    spectrum = np.abs(np.fft.rfft(key * np.hanning(len(key)), 2**14))
    middle = round(1_075 / corpus_tones.RATE * 2**14)
    return float(spectrum[:middle].max()), float(spectrum[middle:].max())


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
