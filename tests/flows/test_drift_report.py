"""What is shown of a drift run: the table, the report, its pictures and its links."""

import re
from base64 import b64decode
from dataclasses import replace
from datetime import timedelta
from io import BytesIO
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from flows import drift_examples, drift_markdown
from flows.drift_examples import UNITS, Side, embedding_distances, examples, measured
from flows.drift_markdown import code
from flows.drift_report import ReportedWindow, report, rows
from flows.model_change_report import change_report
from models.drift_samples import NONE_AT, Sample
from models.drift_verdicts import Verdict
from models.model_change import model_change
from tests.flows.drifting import MODEL, compared, file_id, samples, side

URL = "http://calls.example:8000"
EVIL = "a`b``c](http://evil.example) <img src=x onerror=alert(1)>\n\n# www.evil.example | $x^$ \u202e日本.wav"


@pytest.fixture(scope="module")
def before() -> Side:
    return side(1)


@pytest.fixture(scope="module")
def noisy(before: Side) -> ReportedWindow:
    """A window with another SNR, other formats, other embeddings, and recordings of hostile names."""
    names = {str(file_id(2, number)): EVIL for number in range(34)}
    return compared(side(2, 34, snr_db=15, shift=1, gsm=0.9), before, names=names)


@pytest.fixture(scope="module")
def quiet(before: Side) -> ReportedWindow:
    return compared(side(3, 34), before)


@pytest.fixture(scope="module")
def told(noisy: ReportedWindow) -> str:
    return report([noisy], URL)


@pytest.fixture(scope="module")
def told_of_quiet(quiet: ReportedWindow) -> str:
    return report([quiet], URL)


def pictures(markdown: str) -> list[bytes]:
    return [b64decode(found) for found in re.findall(r"!\[[\w ]+\]\(data:image/png;base64,([\w+/=]+)\)", markdown)]


def verdict(detector: str, descriptor: str) -> Verdict:
    return Verdict(detector, descriptor, 0.9, 1e-9, 1e-5, "drift", 0.9)


def test_what_drifted_is_named_first_and_pictured(noisy: ReportedWindow, told: str) -> None:
    assert told.startswith("**Drift** in the one window that closed: `snr_db` moved most (KS distance 0.9")
    drifted = [each.descriptor for each in noisy.drifted]
    assert drifted[0] == "snr_db"
    assert {"format", f"embedding:{MODEL}", f"confidence:{MODEL}:goodbye"} <= set(drifted)
    assert re.findall("### `(.*)`", told) == drifted[:6]
    assert len(pictures(told)) == 2 * len(drifted)
    assert "Median from 34.9 dB to 14.5 dB;" in told
    assert "Grew most: `WAV/GSM610`, from 19.0% to 88.2%." in told
    for each in noisy.verdicts:
        assert f"| `{each.descriptor}` | {each.detector} |" in told


def test_pictures_are_small_pngs_that_differ_where_data_differ(told: str, told_of_quiet: str) -> None:
    found = pictures(told)
    assert len(set(found)) == len(found)
    for png in found:
        image = Image.open(BytesIO(png))
        assert image.format == "PNG"
        assert image.width == 690
        assert np.ptp(np.asarray(image.convert("L"))) > 200
        assert len(png) < 25_000
    assert not set(found) & set(pictures(told_of_quiet))


def test_no_drift_is_a_short_report_with_one_picture(told_of_quiet: str) -> None:
    told = told_of_quiet
    assert told.startswith("**No drift** in the one window that closed: none of 8 tests is below its threshold.")
    assert len(pictures(told)) == 1
    assert "/api/audio/" not in told
    assert len(told) < 60_000


def test_an_insufficient_window_says_why(before: Side) -> None:
    few = compared(side(4, 4, each=4), before)
    told = report([few], URL)
    assert told.startswith("**Insufficient**: nothing could be tested in the one window that closed. `the window has ")
    assert "`the window has 16 rows, and 20 are needed` (7 tests)" in told
    assert pictures(told) == []
    row = rows([few])[0]
    assert row["verdict"] == "insufficient"
    assert row["why insufficient"].startswith("the window has ")


def test_the_table_has_a_row_for_each_window(noisy: ReportedWindow, quiet: ReportedWindow) -> None:
    first, second = rows([quiet, noisy])
    assert first.keys() == second.keys()
    assert (first["verdict"], second["verdict"]) == ("no drift", "drift")
    assert (
        second
        | {
            "window closed at": "2026-03-01 21:00",
            "moved most": "snr_db",
            "detector": "ks",
            "recordings": 34,
            "utterances": 102,
            "drifted tests": len(noisy.drifted),
        }
        == second
    )
    assert float(second["p-value"]) < float(second["threshold"])


def test_many_windows_stay_below_the_limit(noisy: ReportedWindow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift_markdown, "LARGEST", 40_000)
    one = replace(noisy, verdicts=noisy.verdicts[:1])
    several = [replace(one, closed_at=one.closed_at + timedelta(hours=hour)) for hour in range(5)]
    told = report(several, URL)
    assert told.startswith("**Drift** in 5 of 5 windows that closed")
    assert re.findall(r"^## Window of \S+ \S+ to \S+ (\S+)$", told, flags=re.MULTILINE) == ["01:00", "00:00", "23:00"]
    assert 20_000 < len(told) < 40_000 + 100
    assert re.search(r"^\d pictures are left out: the report would be too large\.$", told, flags=re.MULTILINE)


def test_hostile_names_are_only_text(noisy: ReportedWindow, told: str) -> None:
    spans = re.findall(r"^- (`+)(.*?)\1, \[channel [01], [\d.]+ to [\d.]+ s\]\((\S+)\): .*$", told, flags=re.MULTILINE)
    assert len(spans) == 3 * len(noisy.drifted)
    for fence, name, url in spans:
        assert fence == "```"  # longer than any in the name
        assert "evil.example" in name
        assert url.startswith(f"{URL}/api/audio/")
    assert "evil" not in re.sub(r"```.*?```", "", told)


def test_code_is_one_line_of_one_cell() -> None:
    assert code("plain.wav") == "`plain.wav`"
    assert code("`a`") == "`` `a` ``"
    assert code("a|b\nc\u202ed\0") == "`a¦b c d`"
    assert code(" \n") == "(no name)"
    assert len(code("x" * 1000)) == 82


def test_examples_of_numbers_are_those_that_lie_farthest_along_the_change(before: Side) -> None:
    now = side(5, 30, snr_db=15)
    found = examples(verdict("ks", "snr_db"), before, now)
    of_recordings = now.utterances.group_by("file_id").agg(pl.col("snr_db").min()).sort("snr_db").head(3)
    assert [each.value for each in found] == [f"{value:.1f} dB" for value in of_recordings["snr_db"]]
    place = now.utterances.sort("snr_db").row(0, named=True)
    assert found[0].url(URL).endswith(f"#t={place['start_s']:.2f},{place['end_s']:.2f}")
    assert found[0].channel == place["channel"]
    louder = examples(verdict("ks", "snr_db"), before, side(5, 30, snr_db=60))
    assert min(float(each.value.split()[0]) for each in louder) > 65


def test_examples_of_what_cannot_be_said_any_more_have_no_value(before: Side) -> None:
    now = side(6, 30)
    unvoiced = pl.when(pl.col("utterance") > 0).then(None).otherwise(pl.col("pitch_median_hz")).alias("pitch_median_hz")
    found = examples(
        verdict("ks", "pitch_median_hz"), before, replace(now, utterances=now.utterances.with_columns(unvoiced))
    )
    assert [each.value for each in found] == ["none"] * 3
    higher = now.utterances.with_columns(pl.col("pitch_median_hz") + 100)
    found = examples(verdict("ks", "pitch_median_hz"), before, replace(now, utterances=higher))
    assert [each.value for each in found] == ["269 Hz", "267 Hz", "264 Hz"]


def test_examples_of_a_category_are_of_the_one_that_grew_most(before: Side) -> None:
    now = side(7, 30, gsm=0.8)
    found = examples(verdict("chi_square", "format"), before, now)
    assert [each.value for each in found] == ["WAV/GSM610"] * 3


def test_examples_of_confidences_are_detections(before: Side) -> None:
    now = side(8, 30, shift=1)
    found = examples(verdict("ks", f"confidence:{MODEL}:goodbye"), before, now)
    least = now.predictions.sort("confidence").row(0, named=True)
    assert found[0].value == f"{least['confidence']:.3f}"
    assert found[0].start_s == least["start_s"]


def test_examples_of_a_rate_are_whole_recordings(before: Side) -> None:
    found = examples(verdict("ks", f"detections_per_minute:{MODEL}"), before, side(9, 30))
    assert re.fullmatch(r"\d+\.\d detections/min", found[0].value)
    assert re.fullmatch(rf"{URL}/api/audio/[0-9a-f-]{{36}}", found[0].url(URL))


def test_examples_of_embeddings_are_those_that_are_far_in_any_direction(before: Side) -> None:
    now = side(10, 30)
    vectors = np.array([np.frombuffer(row, "<f2") for row in now.utterances["embedding"]], np.float32)
    vectors[[10, 40, 70]] += 5
    column = pl.Series("embedding", [row.astype("<f2").tobytes() for row in vectors])
    found = examples(
        verdict("mmd", f"embedding:{MODEL}"), before, replace(now, utterances=now.utterances.with_columns(column))
    )
    assert {each.file_id for each in found} == {str(file_id(10, row // 3)) for row in (10, 40, 70)}
    assert all(each.value.endswith(" times as far as usual") for each in found)


def test_alike_embeddings_lie_as_far_as_usual() -> None:
    chance = np.random.default_rng(0)
    before, now = (chance.normal(size=(rows, 288)).astype(np.float32) for rows in (300, 100))
    assert np.median(embedding_distances(before, now)) == pytest.approx(1, abs=0.15)


def test_what_is_shown_is_what_was_tested(before: Side) -> None:
    twice = pl.concat([before.utterances, before.utterances.with_columns(model=pl.lit("other"))])
    both = replace(before, utterances=twice)
    tested: list[Sample] = samples(both)
    assert len(tested) >= 8
    for sample in tested:
        shown = measured(sample.name, both)
        assert shown.kind == sample.kind
        assert np.array_equal(shown.values, sample.values)
        if not sample.name.startswith("detections"):
            assert [each.replace("-", "") for each in shown.rows["file_id"]] == sample.recordings.tolist()
    assert np.sum(measured("pitch_median_hz", both).values == NONE_AT) == 34


def test_descriptors_have_the_units_of_the_readme() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    rows_of = dict(re.findall(r"^\| `([a-z_]+)` \| ([^|]+) \| [^|]+ \| [^|]+ \|$", readme, flags=re.MULTILINE))
    assert {name: unit for name, unit in UNITS.items() if name in rows_of} == rows_of
    assert set(UNITS) - set(rows_of) == {"confidence", drift_examples.RATE}


def test_labels_that_are_formulas_or_foreign_are_drawn_as_they_are(before: Side) -> None:
    evil = pl.lit("$\\frac{$ 日本 \u202e")
    now = side(11, 30)
    labels = [each.with_columns(label=evil) for each in (before.predictions, now.predictions)]
    formats = [each.with_columns(format=evil) for each in (before.utterances, now.utterances.head(60))]
    of_evil = compared(
        replace(now, predictions=labels[1].with_columns(pl.col("confidence") / 2), utterances=formats[1]),
        replace(before, predictions=labels[0]),
    )
    assert any(each.descriptor.startswith("confidence") for each in of_evil.drifted)
    assert pictures(report([of_evil], URL))


def test_a_model_change_is_told_by_label() -> None:
    asked = pl.DataFrame({"file_id": ["a"] * 10, "channel": 0, "utterance": range(10)})
    found = asked.with_columns(label=pl.lit("good|bye"), confidence=pl.lit(0.9))
    change = model_change(
        "moonshine",
        "v1",
        "v2",
        before=found.head(6),
        after=found.slice(2, 6).with_columns(confidence=pl.lit(0.7)),
        asked=asked,
    )
    told = "\n\n".join(change_report(change))
    assert "| `good¦bye` | 4 | 2 | 2 | 0.6000 | 0.167 | 4 | -0.2 | 0.2 |" in told
    assert "This is no drift of data." in told
    assert report([], URL, [change]).startswith("1 model change compared on the same recordings.")
    assert rows([], [change])[0]["verdict"] == "model change"
