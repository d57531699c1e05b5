"""From what was heard to build/eval.json and build/eval.md. It must not run a model."""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from tests.eval import metrics, plots, scenes_report
from tests.eval.hearing import Heard
from tests.eval.metrics import Judged
from tests.eval.tables import Row, rounded, table

SPEECH: Final = ("prompts", "voices")  # what is calibrated on
LEAST_CONFIDENCE: Final = 0.1  # below it calibration concerns nobody
PAIRED_S: Final = 2.0  # so far off a start is still an error of time, and not another word
MISSED: Final = ("missed_at_1_false_per_hour", "missed_at_1_false_per_hour_and_word")
FIGURES: Final = {  # the targets; None: none is set
    "f1_8k": "≥ 0.99",
    "f1_gsm": "≥ 0.98",
    "f1_noise10": "≥ 0.85",
    "f1_noise0": "≥ 0.40",
    "f1_other_voices": None,
    "nonspeech_words_per_hour": "≤ 1",
    "word_start_median_ms": "≤ 60",
    "word_start_p95_ms": "≤ 250",
    "precision_at_090": "≥ 0.95",
    "recall_at_090": "≥ 0.90",
    "ece": "≤ 0.05",
    "moonshine_cpu_ratio": "≤ 1.05",
    "phrase_cpu_per_audio_s": "≤ 0.06",
    "refresh_cpu_ratio": "≤ 1.15",
    "memory_3h_mib": "≤ 1536",
    "callscene_f1": "≥ 0.95",
    "callscene_f1_gsm": "≥ 0.90",
    "callscene_cpu_per_audio_s": "≤ 0.02",
}
COLUMNS: Final = (  # of the tables of conditions
    ("samples", "audio_s", "occurrences", "precision", "recall", "f1", "best_threshold", "f1_at_best_threshold"),
    ("precision_occurrences", "recall_occurrences", "f1_occurrences", *MISSED),
    ("precision_at_090", "recall_at_090", "right_shown_at_090"),
    ("ece", "ece_by_chance", "detections_from_010", "ece_of_all"),
    ("starts_compared", "start_median_ms", "start_p95_ms"),
    ("cpu_per_audio_s", "model_cpu_per_audio_s"),
)
EXPLAINED: Final = """\
Figures are of the reporting half, on which nothing was tuned. *Found* is what has a confidence of
{threshold} or more. `f1_*` count each recording once a word; *occurrences* ask for a start within ±0.5 s, one to one.
`precision_at_090` and `recall_at_090` count occurrences in the prompts as they are, at 8 kHz; `…_all` over all
conditions of prompts and voices, noise that drowns every word among them. `ece` is the worst
condition's, over confidences of 0.1 or more, ten bins; *by chance* is what a perfect confidence would show with so few
detections. *Missed* is the lowest miss rate that costs at most one false alarm an hour, or one an hour and word; in the
minutes of a condition the former means none. Start errors, in the headline, are against splices at known places.
Ratios are CPU times of one run, taken in turns.
"""
DESCRIPTORS: Final = """\
## Descriptors

How far `snr_db` of 20 s of speech is off in noise that was mixed in at a known level, over five draws of it.
"""


@dataclass(frozen=True, slots=True)
class Condition:
    """What was heard under one condition, and what became of each label in each sample."""

    corpus: str
    condition: str
    heard: tuple[Heard, ...]
    judged: tuple[tuple[Judged, ...], ...]  # of each sample
    timed: tuple[Judged, ...]  # with a tolerance that hides no error of time

    @property
    def name(self) -> str:
        return f"{self.corpus} {self.condition}"

    @property
    def all_judged(self) -> list[Judged]:
        return [each for sample in self.judged for each in sample]

    @property
    def audio_s(self) -> float:
        return sum(heard.audio_s for heard in self.heard)


def conditions_of(heard: Iterable[Heard], labels: Sequence[str]) -> list[Condition]:
    """Judge what was heard, condition by condition."""
    groups: dict[tuple[str, str], list[Heard]] = {}
    for each in heard:
        groups.setdefault((each.sample.corpus, each.sample.condition), []).append(each)
    return [
        Condition(
            corpus,
            condition,
            tuple(members),
            tuple(tuple(metrics.judge(h.sample.words, h.detections, label) for label in labels) for h in members),
            tuple(metrics.judge(h.sample.words, h.detections, label, PAIRED_S) for h in members for label in labels),
        )
        for (corpus, condition), members in groups.items()
    ]


def figures_of(conditions: Sequence[Condition], others: Row) -> Row:
    """Return the figures that the targets name, and beside them what explains them; None: not measured in this run.

    Args:
        conditions: What the phrase model heard.
        others: Figures that were measured elsewhere, by their names.
    """
    rows = [condition_row(condition) for condition in conditions if condition.corpus != "nonspeech"]
    row_of = {(row["corpus"], row["condition"]): row for row in rows}
    speech = [judged for each in conditions if each.corpus in SPEECH for judged in each.all_judged]
    at_090 = metrics.count(speech, 0.9)
    calibrated = [row["ece"] for row in rows if row["corpus"] in SPEECH and row["ece"] is not None]
    found = {
        **{f"f1_{name}": _of(row_of, "prompts", name, "f1") for name in ("8k", "gsm", "noise10", "noise0")},
        "f1_other_voices": _of(row_of, "voices", "clean", "f1"),
        **nonspeech_figures(conditions),
        "word_start_median_ms": _of(row_of, "splices", "clean", "start_median_ms"),
        "word_start_p95_ms": _of(row_of, "splices", "clean", "start_p95_ms"),
        "precision_at_090": _of(row_of, "prompts", "8k", "precision_at_090"),
        "recall_at_090": _of(row_of, "prompts", "8k", "recall_at_090"),
        "ece": max(calibrated, default=None),
        **others,
    }
    return (
        {name: found.pop(name, None) for name in FIGURES}
        | found
        | {
            "precision_at_090_all": rounded(at_090.precision),
            "recall_at_090_all": rounded(at_090.recall),
            "f1_8k_occurrences": _of(row_of, "prompts", "8k", "f1_occurrences"),
            "conditions": rows,
            "words": part_rows(conditions, lambda _, judged: judged.label),
            "voices": part_rows(conditions, lambda heard, _: heard.sample.voice, "voices"),
            "kinds": part_rows(conditions, lambda heard, _: heard.sample.kind),
        }
    )


def scores(judged: Sequence[Judged]) -> Row:
    """Return precision, recall and F1 of what is found, by sample and by occurrence."""
    by_sample, by_occurrence = metrics.count_samples(judged, metrics.FOUND), metrics.count(judged, metrics.FOUND)
    return {
        "precision": by_sample.precision,
        "recall": by_sample.recall,
        "f1": by_sample.f1,
        "precision_occurrences": by_occurrence.precision,
        "recall_occurrences": by_occurrence.recall,
        "f1_occurrences": by_occurrence.f1,
    }


def condition_row(condition: Condition) -> Row:
    judged = condition.all_judged
    detections = [found for each in judged for found in each.found]
    at_090 = metrics.count(judged, 0.9)
    right = sum(found.right for found in detections)
    bins = metrics.reliability(detections, LEAST_CONFIDENCE)
    errors_ms = [abs(error) * 1000 for error in metrics.start_errors_s(condition.timed, metrics.FOUND)]
    best = metrics.best_threshold(judged, metrics.count_samples)
    points = metrics.trade_off(judged, condition.audio_s)
    row = {
        "corpus": condition.corpus,
        "condition": condition.condition,
        "samples": len(condition.heard),
        "audio_s": condition.audio_s,
        "occurrences": sum(each.spoken for each in judged),
        **scores(judged),
        "best_threshold": best,
        "f1_at_best_threshold": metrics.count_samples(judged, best).f1,
        "missed_at_1_false_per_hour": metrics.miss_rate_at(points, 1.0),
        "missed_at_1_false_per_hour_and_word": metrics.miss_rate_at(points, len(condition.judged[0])),
        "precision_at_090": at_090.precision,
        "recall_at_090": at_090.recall,
        "right_shown_at_090": at_090.right / right if right else math.nan,
        "ece": metrics.calibration_error(bins),
        "ece_by_chance": metrics.calibration_error_by_chance(bins),
        "ece_of_all": metrics.calibration_error(metrics.reliability(detections)),
        "detections_from_010": sum(each.count for each in bins),
        "starts_compared": len(errors_ms),
        "start_median_ms": metrics.percentile(errors_ms, 0.5),
        "start_p95_ms": metrics.percentile(errors_ms, 0.95),
        **speed(condition.heard),
    }
    return {name: rounded(value) for name, value in row.items()} | {
        "reliability": [{name: rounded(value) for name, value in asdict(each).items()} for each in bins]
    }


def speed(heard: Sequence[Heard]) -> Row:
    """Return CPU seconds per second of recording, of what this run has heard: with finding speech, and the model alone.

    Two processes share the machine meanwhile: for a firm figure see the costs.
    """
    fresh = [each for each in heard if each.is_fresh]
    audio_s, model_s = sum(each.audio_s for each in fresh), sum(each.model_cpu_s for each in fresh)
    whole_s = model_s + sum(each.utterances_cpu_s for each in fresh)
    return {
        "cpu_per_audio_s": whole_s / audio_s if fresh else math.nan,
        "model_cpu_per_audio_s": model_s / audio_s if fresh else math.nan,
    }


def nonspeech_figures(conditions: Sequence[Condition]) -> Row:
    silent = [condition for condition in conditions if condition.corpus == "nonspeech"]
    if not silent:
        return {}
    audio_s = sum(condition.audio_s for condition in silent)
    false = [
        {"sample": heard.sample.name, "kind": heard.sample.kind, "label": each.label, "confidence": found.confidence}
        for condition in silent
        for heard, judged in zip(condition.heard, condition.judged, strict=True)
        for each in judged
        for found in each.shown(metrics.FOUND)
    ]
    texts = [text for condition in silent for heard in condition.heard for text in heard.texts if text.strip()]
    return {
        "nonspeech_words_per_hour": rounded(len(false) / audio_s * 3600),
        "nonspeech_hours": rounded(audio_s / 3600),
        "nonspeech_texts_per_hour": rounded(len(texts) / audio_s * 3600),
        "nonspeech_words": false,
    }


def part_rows(
    conditions: Sequence[Condition], part_of: Callable[[Heard, Judged], str], corpus: str | None = None
) -> list[Row]:
    """Return precision, recall and F1 of the parts of each condition, by occurrence and by sample."""
    rows = []
    for condition in conditions:
        if condition.corpus == "nonspeech" or (corpus and condition.corpus != corpus):
            continue
        parts: dict[str, list[Judged]] = {}
        for heard, judged in zip(condition.heard, condition.judged, strict=True):
            for each in judged:
                parts.setdefault(part_of(heard, each), []).append(each)
        for name, members in sorted(parts.items()):
            row = {
                "condition": condition.name,
                "part": name,
                "occurrences": sum(each.spoken for each in members),
                **scores(members),
            }
            rows.append({key: rounded(value) for key, value in row.items()})
    return rows


def write(figures: Row, conditions: Sequence[Condition], folder: Path) -> None:
    """Write eval.json, eval.md and the plots beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "eval.json").write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    against = [{"figure": name, "target": FIGURES[name] or "", "measured": figures[name]} for name in FIGURES]
    others = [
        {"figure": name, "measured": value}
        for name, value in figures.items()
        if name not in FIGURES and not isinstance(value, list | dict)
    ]
    parts = ["# What is found, how sure, when, and at what cost\n", table(against), table(others)]
    if conditions:
        parts += phrases_section(conditions, figures, folder)
    if figures["callscene_f1"] is not None:
        parts += scenes_report.section(figures, folder)
    if "descriptors_snr_errors" in figures:
        parts += [DESCRIPTORS, table(figures["descriptors_snr_errors"])]
    (folder / "eval.md").write_text("\n".join(parts), encoding="utf-8")


def phrases_section(conditions: Sequence[Condition], figures: Row, folder: Path) -> list[str]:
    """Return the parts of eval.md that are of the phrase model; its plots are drawn into `folder`/eval."""
    pictures = plots.draw(conditions, figures, folder, metrics.FOUND)
    rows = figures["conditions"]
    return [
        "## Phrases\n",
        EXPLAINED.format(threshold=metrics.FOUND),
        *(table([{name: row[name] for name in ("corpus", "condition", *names)} for row in rows]) for names in COLUMNS),
        *(f"![{title}](eval/{name})\n" for title, name in pictures.items()),
        "### Voices\n",
        table(figures["voices"]),
        "### Kinds\n",
        table(figures["kinds"]),
        "### Words\n",
        table(figures["words"]),
        "### False words in what is no speech\n",
        table(figures.get("nonspeech_words", [])),
    ]


def dump(conditions: Sequence[Condition], path: Path) -> None:
    """Write every detection, right or wrong, and every occurrence that none took, as a line of JSON."""
    with path.open("w", encoding="utf-8") as lines:
        for condition in conditions:
            for heard, judged in zip(condition.heard, condition.judged, strict=True):
                sample = heard.sample
                place = {
                    name: getattr(sample, name) for name in ("corpus", "condition", "half", "voice", "kind", "name")
                }
                for each in judged:
                    said = place | {"label": each.label, "spoken": each.spoken}
                    missed = each.spoken - sum(found.right for found in each.found)
                    rows = [asdict(found) for found in each.found] + [{"confidence": None, "right": True}] * missed
                    lines.writelines(json.dumps(said | row) + "\n" for row in rows)


def _of(rows: dict[tuple[str, str], Row], corpus: str, condition: str, name: str) -> Any:
    return rows.get((corpus, condition), {}).get(name)
