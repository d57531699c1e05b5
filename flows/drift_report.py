"""What Prefect's UI shows of a drift run: a table, and a report with pictures and links to recordings.

It must not know the lake, nor Prefect.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

import numpy as np
import polars as pl

from flows import drift_pictures
from flows.drift_examples import Example, Measured, Side, examples, grown, measured, with_unit
from flows.drift_markdown import code, folded, image, joined, number, table
from flows.model_change_report import change_report
from models.drift_verdicts import Verdict, verdict_of
from models.model_change import ModelChange

PICTURED: Final = 6  # descriptors of a window that drifted
SUSPICIOUS: Final = 3  # descriptors that are shown over time where nothing drifted
USUAL: Final = (5, 95)  # percentiles of the baseline
DETAILED: Final = 3  # windows that are told in detail
LISTED: Final = 50  # windows of one run
TEXTS: Final = ("window_id", "baseline_id", "descriptor", "detector", "verdict")  # of an earlier test
NUMBERS: Final = ("statistic", "p_value", "threshold")
COLUMNS: Final = (
    "window closed at",
    "verdict",
    "moved most",
    "detector",
    "statistic",
    "p-value",
    "threshold",
    "drifted tests",
    "recordings",
    "utterances",
    "why insufficient",
    "window",
)
CLOSED_BY: Final = {"size": "its size", "age": "its age"}
OVER_TIME: Final = (
    "Over time, a window a point, a diamond where it drifted: on the left p-values with the line of their threshold "
    "(below it is drift); on the right the statistics themselves, which have no threshold of their own."
)
OUTCOMES: Final = {"drift": "drift", "no_drift": "no drift", "insufficient": "insufficient"}
EFFECTS: Final = {"ks": "KS distance", "mmd": "MMD²", "chi_square": "chi-square"}


@dataclass(frozen=True, slots=True, eq=False)
class ReportedWindow:
    """A closed window that was tested, and what it was tested against."""

    window_id: UUID
    opened_at: datetime  # UTC
    closed_at: datetime
    closed_by: Literal["size", "age"]
    recordings: int
    utterances: int
    baseline_id: UUID
    baseline_name: str  # with its version
    baseline_recordings: int
    baseline_utterances: int
    verdicts: tuple[Verdict, ...]  # one at least, what moved most first
    before: Side
    now: Side
    history: pl.DataFrame
    """Earlier rows of the table `drift`, in order of time: `window_id` and `baseline_id` as texts, `closed_at`,
    `descriptor`, `detector`, `statistic`, `p_value`, `threshold`, `verdict`."""
    names: Mapping[str, str]  # of recordings, by their ids as the API writes them

    @property
    def drifted(self) -> list[Verdict]:
        """The tests that say drift, what moved most first."""
        return [each for each in self.verdicts if each.is_drift]


def rows(tested: Iterable[ReportedWindow], changes: Iterable[ModelChange] = ()) -> list[dict[str, Any]]:
    """Return the table of a run: a row per window, with the test whose descriptor moved most, and per model change."""
    found = [_row(each) for each in tested] + [_of_change(each) for each in changes]
    return [dict.fromkeys(COLUMNS, "") | each for each in found]


def report(tested: Sequence[ReportedWindow], public_url: str, changes: Sequence[ModelChange] = ()) -> str:
    """Return the report of a run in Markdown, below LARGEST characters.

    Args:
        tested: The windows that the run closed, in order of time.
        public_url: Where the API is reached, without a slash at its end.
        changes: Of models, that the run compared.
    """
    told = sorted((each for each in tested if each.drifted), key=lambda each: each.closed_at, reverse=True)[:DETAILED]
    parts = [_sentence(tested, changes)]
    if len(tested) > 1:
        parts.append(_windows(tested))
    for each in told:
        parts += _drifted(each, public_url)
    if tested:
        if not told:
            parts += _quiet(tested)
        parts += folded("All tests of the last window", _tests(tested[-1].verdicts))
    for change in changes:
        parts += change_report(change)
    return joined(parts)


def _sentence(tested: Sequence[ReportedWindow], changes: Sequence[ModelChange]) -> str:
    of_changes = f"{len(changes)} model change{'s' if len(changes) > 1 else ''} compared on the same recordings."
    if not tested:
        return of_changes if changes else "No window has closed."
    drifted = [each for each in tested if each.drifted]
    if drifted:
        of_windows = f"**Drift** in {_count(drifted, tested)}: {_finding(drifted[-1].drifted[0])}."
    elif all(verdict_of(each.verdicts) == "insufficient" for each in tested):
        reasons = Counter(verdict.reason for each in tested for verdict in each.verdicts if verdict.reason)
        why = "; ".join(f"{code(reason)} ({_tests_of(count)})" for reason, count in reasons.most_common(3))
        of_windows = f"**Insufficient**: nothing could be tested in {_count(tested, tested)}. {why}."
    else:
        tests = sum(verdict.verdict == "no_drift" for each in tested for verdict in each.verdicts)
        of_windows = f"**No drift** in {_count(tested, tested)}: none of {_tests_of(tests)} is below its threshold."
    last = tested[-1]
    against = (
        f"The last window has {last.utterances} utterances of {last.recordings} recordings, and is compared with "
        f"{last.baseline_utterances} of {last.baseline_recordings} in the baseline {code(last.baseline_name)}."
    )
    return " ".join([of_windows, against, *([of_changes] if changes else [])])


def _count(some: Sequence[ReportedWindow], of: Sequence[ReportedWindow]) -> str:
    return "the one window that closed" if len(of) == 1 else f"{len(some)} of {len(of)} windows that closed"


def _tests_of(count: int) -> str:
    return f"{count} test" + ("" if count == 1 else "s")


def _finding(verdict: Verdict) -> str:
    return (
        f"{code(verdict.descriptor)} moved most ({EFFECTS[verdict.detector]} "
        f"{number(verdict.statistic)}, p = {number(verdict.p_value)} below {number(verdict.threshold)})"
    )


def _drifted(tested: ReportedWindow, public_url: str) -> list[str]:
    """Return a window that drifted: what did, in pictures and examples."""
    parts = [
        f"## Window of {_time(tested.opened_at)} to {_time(tested.closed_at)}",
        f"{tested.utterances} utterances of {tested.recordings} recordings, closed by {CLOSED_BY[tested.closed_by]}.",
        _tests(tested.drifted),
        OVER_TIME,
    ]
    history = _history(tested)
    for verdict in tested.drifted[:PICTURED]:
        before, now = measured(verdict.descriptor, tested.before), measured(verdict.descriptor, tested.now)
        parts += [f"### {code(verdict.descriptor)}", _moved(verdict.descriptor, before, now)]
        if len(before.values) and len(now.values):
            parts.append(image("Baseline and window", drift_pictures.distributions(verdict.descriptor, before, now)))
        parts.append(image("Over time", drift_pictures.courses(history, [verdict.descriptor])))
        found = examples(verdict, tested.before, tested.now)
        if found:
            parts.append("Moved most, to listen to:")
            parts.append("\n".join(f"- {_link(each, tested.names, public_url)}" for each in found))
    if left := tested.drifted[PICTURED:]:
        parts.append(f"{len(left)} more that drifted are in the table alone.")
    return parts


def _quiet(tested: Sequence[ReportedWindow]) -> list[str]:
    """Return the tests that came closest to drift over time, where none drifted."""
    suspicious = sorted(
        (each for each in tested[-1].verdicts if each.p_value is not None),
        key=lambda each: each.p_value or 0.0,
    )[:SUSPICIOUS]
    if not suspicious:
        return []
    names = [each.descriptor for each in suspicious]
    return [f"The smallest p-values. {OVER_TIME}", image("Over time", drift_pictures.courses(_history(*tested), names))]


def _moved(descriptor: str, before: Measured, now: Measured) -> str:
    """Return in a line what became of one descriptor."""
    if not len(before.values) or not len(now.values):
        return "Its values are not at hand."
    match now.kind:
        case "vectors":
            return "Both sides along the two directions in which they vary most; the test looks in all directions."
        case "categories":
            name = grown(before.values, now.values)
            was, is_now = (float(np.mean(side.values == name)) for side in (before, now))
            return f"Grew most: {code(name)}, from {was:.1%} to {is_now:.1%}."
        case "numbers":
            medians = [with_unit(descriptor, float(np.median(side.values))) for side in (before, now)]
            usual = [with_unit(descriptor, float(value)) for value in np.percentile(before.values, USUAL)]
            return f"Median from {medians[0]} to {medians[1]}; 90 % of the baseline lie from {usual[0]} to {usual[1]}."


def _link(example: Example, names: Mapping[str, str], public_url: str) -> str:
    """Return an example with the name outside of the link: the older pages read names in links as Markdown."""
    is_part = example.start_s is not None and example.end_s is not None
    where = [] if example.channel is None else [f"channel {example.channel}"]
    when = f"{example.start_s:.1f} to {example.end_s:.1f} s" if is_part else "the whole recording"
    value = example.value if re.fullmatch(r"[-\w. /]*", example.value) else code(example.value)
    name = code(names.get(example.file_id, example.file_id))
    return f"{name}, [{', '.join([*where, when])}]({example.url(public_url)}): {value}"


def _history(*tested: ReportedWindow) -> pl.DataFrame:
    """Return earlier tests and those of these windows, in order of time, each once."""
    new = pl.DataFrame(
        [
            {"window_id": str(each.window_id), "baseline_id": str(each.baseline_id), "closed_at": each.closed_at}
            | asdict(verdict)
            for each in tested
            for verdict in each.verdicts
        ],
        infer_schema_length=None,
    )
    columns = (
        *(pl.col(name).cast(pl.String) for name in TEXTS),
        *(pl.col(name).cast(pl.Float64) for name in NUMBERS),
        pl.col("closed_at").dt.replace_time_zone(None).cast(pl.Datetime("us")),
    )
    found = pl.concat([part.select(columns) for part in (tested[0].history, new) if not part.is_empty()])
    return found.unique(["window_id", "descriptor"], keep="last", maintain_order=True).sort(
        "closed_at", maintain_order=True
    )


def _row(tested: ReportedWindow) -> dict[str, Any]:
    first = tested.verdicts[0]
    return {
        "window closed at": _time(tested.closed_at),
        "recordings": tested.recordings,
        "utterances": tested.utterances,
        "verdict": OUTCOMES[verdict_of(tested.verdicts)],
        "moved most": first.descriptor,
        "detector": first.detector,
        "statistic": number(first.statistic),
        "p-value": number(first.p_value),
        "threshold": number(first.threshold),
        "drifted tests": len(tested.drifted),
        "why insufficient": first.reason,
        "window": str(tested.window_id),
    }


def _of_change(change: ModelChange) -> dict[str, Any]:
    verdict = change.verdict()
    return {
        "utterances": change.utterances,
        "verdict": "model change",
        "moved most": verdict.descriptor,
        "detector": verdict.detector,
        "statistic": number(verdict.statistic),
    }


def _windows(tested: Sequence[ReportedWindow]) -> str:
    head = ("window closed at", "recordings", "utterances", "verdict", "moved most", "p-value", "threshold")
    found = [_row(each) for each in tested[-LISTED:]]
    return table(head, [[code(row[name]) if name == "moved most" else row[name] for name in head] for row in found])


def _tests(verdicts: Iterable[Verdict]) -> str:
    head = ("descriptor", "detector", "statistic", "p-value", "threshold", "verdict")
    return table(
        head,
        [
            (
                code(each.descriptor),
                each.detector,
                number(each.statistic),
                number(each.p_value),
                number(each.threshold),
                OUTCOMES.get(each.verdict, each.verdict) + (f": {code(each.reason)}" if each.reason else ""),
            )
            for each in verdicts
        ],
    )


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M}"
