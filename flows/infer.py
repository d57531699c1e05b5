"""The flow that scores: every two minutes, whatever the latest references lack becomes one new reference.

What it decides needs neither torch nor a model; those are imported by the processes that score, if there is work.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.asked import Asked, Files, Models, Phrases, what_is_asked
from flows.drift_work import ask_for_drift
from flows.handover import forget, note
from flows.heartbeat import heartbeat
from flows.infer_report import nothing_new, report, said_of, short, titled
from flows.maintain import ask_for_fold
from flows.plan import Plan, make_plan
from flows.refresh import Special, enabled_models, enabled_of, publish_refresh, record_group
from flows.runs import commit_key, end_quietly, outlast_server
from flows.scoring import score
from flows.shards import Scored
from flows.story import Stopwatch, name_run, run_name, tell_reference
from flows.workers import Outcome
from models.errors import ModelUnavailableError
from models.group import Group, ModelSpec, load_group
from storage.availability import Tried, after_trying, read_tried, resting, write_tried
from storage.index import PLANNING_TABLES, Index
from storage.lake import Lake
from storage.log import LogEntry
from storage.settings import Settings, get_settings
from storage.store import Store


@dataclass(frozen=True, slots=True)
class Work:
    """What every round of a run works with."""

    lake: Lake
    index: Index
    settings: Settings
    specs: tuple[ModelSpec, ...]  # that score
    one_off: Group | None  # whose specs they are, where that is not the one in the log
    unavailable: dict[str, str]  # models, and why; grows


@dataclass(frozen=True, slots=True)
class Round:
    """What one round came to: at most one reference."""

    plan: Plan
    outcome: Outcome = field(default_factory=Outcome)
    entry: LogEntry | None = None


@flow(name="infer", flow_run_name=run_name, description="Score what has no predictions yet, and publish it.")
def infer(files: Files = (), models: Models = (), phrases: Phrases = ()) -> State[Any]:
    """Publish a new reference, or end at once when nothing is missing.

    Args:
        files: Compute the answers for these files again: their ids, as the API shows them. With models: only those of
            these models. With phrases: look for those in these files only.
        models: Compute the answers of these models again: their names. Without files: for all files.
        phrases: Look for these words and phrases once, instead of those that are set. What is found becomes a reference
            that is held: it is read by its id, and no file shows it.
    """
    end_quietly()
    outlast_server()
    started_at, started = datetime.now(UTC), time.monotonic()
    settings = get_settings()
    group = load_group(settings.searched_phrases)
    lake = Lake.open(settings.place)
    tried = read_tried(lake.store)
    unavailable = resting(tried, {spec.name: spec.entry for spec in group.enabled}, started_at)
    with heartbeat(), lake.index(PLANNING_TABLES) as index:
        record_group(lake, index, group, commit_key("group"))
        asked = what_is_asked(index, group, files, models, phrases)
        one_off = load_group(asked.phrases) if asked.phrases else None
        work = Work(lake, index, settings, (one_off or group).enabled, one_off, unavailable)
        rounds = run_rounds(work, asked)
        if one_off is None:
            for done in rounds:
                note_tried(lake.store, tried, group, done.outcome)  # what can be lost comes last
            ask_for_fold(lake, index)
            ask_for_drift(index, settings)
    return ended(rounds, work, time.monotonic() - started)


def run_rounds(work: Work, asked: Asked) -> list[Round]:
    """Score and publish what is missing; what is to be computed again takes as many rounds as its budget asks for.

    What arrives meanwhile comes first in each, so that nobody waits for a large one.
    """
    rounds: list[Round] = []
    while True:
        done = run_round(work, asked, commit_key(f"reference/{len(rounds)}" if rounds else "reference"))
        rounds.append(done)
        outcome = done.outcome
        if done.entry is None or outcome.error is not None or outcome.is_ended or asked.again is None:
            return rounds
        asked = asked.without(files_of(work.index, done.entry))
        if asked.again is None:
            return rounds


def run_round(work: Work, asked: Asked, reference: UUID) -> Round:
    """Plan, score within the budget, and publish."""
    started_at, logger, watch = datetime.now(UTC), get_run_logger(), Stopwatch()
    enabled = enabled_models(work.index) if work.one_off is None else enabled_of(work.one_off)
    is_handed_over = work.one_off is None  # nobody else asks for what a one-off finds
    plan = make_plan(work.index, started_at, work.unavailable, enabled, asked, work.lake if is_handed_over else None)
    if not plan.recordings:
        logger.info("planned: nothing is missing (%.1f s)", watch.lap())
        return Round(plan)
    logger.info("planned: %d files, %.0f s of audio (%.1f s)", plan.recordings, plan.audio_s, watch.lap())
    name_run(f"reference {short(reference)}: scoring {plan.recordings} files")
    specs = tuple(spec for spec in work.specs if spec.name not in work.unavailable)
    notes = [each.path for each in plan.left]

    def on_scored(scored: Scored) -> None:
        if is_handed_over and (path := note(work.lake.store, scored)):
            notes.append(path)

    outcome = score(plan, specs, reference, work.settings, on_scored)
    work.unavailable.update(outcome.refused)
    logger.info(
        "scored: %d files (%.1f s; processes loaded models for %.1f s, and decoded and asked them for %.1f s together)",
        outcome.recordings,
        watch.lap(),
        outcome.loading_s,
        outcome.scoring_s,
    )
    entry = publish_refresh(
        work.lake,
        work.index,
        reference=reference,
        scored=outcome.scored,
        carried=plan.carried,
        started_at=started_at,
        unavailable=work.unavailable,
        special=Special(
            "quarantine" in work.settings.on_drift,
            asked.again,
            work.one_off,
            tuple(each.scored for each in plan.left),
        ),
    )
    forget(work.lake.store, notes)
    if entry is not None:
        what, count = "held" if entry.held else "published", int(entry.counts["files"])
        logger.info("%s: %d files as reference %s (%.1f s)", what, count, reference, watch.lap())
        tell_reference(reference, entry, work.settings.public_url)
    return Round(plan, outcome, entry)


def files_of(index: Index, entry: LogEntry) -> list[UUID]:
    """Return the files of a refresh."""
    rows = index.query("SELECT DISTINCT file_id FROM coverage WHERE seq = ?", [entry.seq])
    return [row["file_id"] for row in rows]


def ended(rounds: list[Round], work: Work, seconds: float) -> State[Any]:
    """Show what a run came to, and return its state."""
    last, unavailable = rounds[-1], work.unavailable
    entries = [done.entry for done in rounds if done.entry is not None]
    report(entries, seconds, unavailable)
    if last.outcome.error is not None:
        raise last.outcome.error
    if unavailable and all(spec.name in unavailable for spec in work.specs):
        raise ModelUnavailableError("; ".join(unavailable.values()))
    message = said_of(entries) or nothing_new(last.plan.recordings, last.outcome.recordings, unavailable)
    if work.one_off is not None and entries and (left := last.plan.recordings - int(entries[0].counts["files"])) > 0:
        message += f"; {left} files did not fit in REFRESH_BUDGET_S={work.settings.refresh_budget_s:g}: name others"
    name_run(titled(entries) if entries else message)
    return Completed(message=message)


def note_tried(store: Store, tried: Mapping[str, Tried], group: Group, outcome: Outcome) -> None:
    """Write down which models could be loaded, where that is news."""
    models = {spec.name: (spec.version, spec.entry) for spec in group.enabled}
    now_known = after_trying(tried, models, outcome.loaded, outcome.refused, datetime.now(UTC))
    if now_known != tried:
        write_tried(store, now_known.values())
