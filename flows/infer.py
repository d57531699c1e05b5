"""The flow that scores: every two minutes, whatever the latest references lack becomes one new reference.

What it decides needs neither torch nor a model; those are imported by the processes that score, if there is work.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed
from prefect.task_runners import ProcessPoolTaskRunner

from flows.drift_work import ask_for_drift
from flows.maintain import ask_for_fold
from flows.progress import Progress
from flows.refresh import enabled_models, publish_refresh, record_group
from flows.runs import commit_key, end_quietly, end_with_parent
from flows.shards import MODELS, Scored, Shard, cut, failed, jobs_of, score_shard, with_texts
from flows.trials import refused_at_first
from flows.workers import Outcome, Submit, run_shards
from models.errors import ModelUnavailableError
from models.group import Group, ModelSpec, load_group
from storage.availability import Tried, after_trying, read_tried, resting, write_tried
from storage.index import PLANNING_TABLES, Index
from storage.lake import Lake
from storage.log import LogEntry
from storage.missing import missing
from storage.place import Place
from storage.settings import get_settings
from storage.store import Store


@dataclass(frozen=True, slots=True)
class Plan:
    """What a refresh is to do."""

    shards: list[Shard]
    suspects: list[Shard]
    carried: frozenset[UUID]  # recordings that need no computing

    @property
    def audio_s(self) -> float:
        """Seconds of audio to score."""
        return sum(shard.audio_s for shard in self.shards + self.suspects)

    @property
    def models(self) -> frozenset[str]:
        """Names of the models that have something to score."""
        return frozenset(name for shard in self.shards + self.suspects for job in shard.jobs for name in job.tries)

    @property
    def recordings(self) -> int:
        """How many recordings are touched."""
        return sum(len(shard.jobs) for shard in self.shards + self.suspects) + len(self.carried)


@flow(name="infer", description="Score what has no predictions yet, and publish it as one new reference.")
def infer() -> State[Any]:
    """Publish a new reference, or end at once when nothing is missing."""
    end_quietly()
    started_at, started, logger = datetime.now(UTC), time.monotonic(), get_run_logger()
    settings = get_settings()
    group = load_group(settings.searched_phrases)
    lake = Lake.open(settings.place)
    tried = read_tried(lake.store)
    unavailable = resting(tried, {spec.name: spec.entry for spec in group.enabled}, started_at)
    with lake.index(PLANNING_TABLES) as index:
        record_group(lake, index, group, commit_key("group"))
        plan = make_plan(index, started_at, unavailable)
        outcome, entry = Outcome(), None
        if plan.recordings:
            logger.info("missing: %d recordings, %.0f s of audio", plan.recordings, plan.audio_s)
            reference = commit_key("reference")
            specs = tuple(spec for spec in group.enabled if spec.name not in unavailable)
            outcome = score(plan, settings.place, specs, reference, settings.workers, settings.refresh_budget_s)
            unavailable |= outcome.refused
            logger.info("scored: %d recordings", sum(part.recordings for part in outcome.scored))
            entry = publish_refresh(
                lake,
                index,
                reference=reference,
                scored=outcome.scored,
                carried=plan.carried,
                started_at=started_at,
                unavailable=unavailable,
                held="quarantine" in settings.on_drift,
            )
            note_tried(lake.store, tried, group, outcome)  # what can be lost comes last
        ask_for_fold(lake, index)
        ask_for_drift(index, settings)
    report(entry, time.monotonic() - started, unavailable)
    if outcome.error is not None:
        raise outcome.error
    if unavailable and all(spec.name in unavailable for spec in group.enabled):
        raise ModelUnavailableError("; ".join(unavailable.values()))
    if entry is None:
        return Completed(message=nothing_new(plan, outcome, unavailable))
    what = "Held reference" if entry.held else "Reference"
    logger.info("published: %s %s", what.lower(), entry.reference)
    return Completed(message=f"{what} {entry.reference}")


def make_plan(index: Index, now: datetime | None = None, unavailable: Collection[str] = frozenset()) -> Plan:
    """Return what the latest references lack, cut into shards; of models that are unavailable, only what is kept."""
    rows = missing(index, enabled_models(index), now or datetime.now(UTC), unavailable)
    jobs = jobs_of(rows)
    shards, suspects = cut(jobs)
    if any(job.read_seqs for job in jobs):
        texts = index.live_files("utterances")
        shards, suspects = with_texts(shards, texts), with_texts(suspects, texts)
    return Plan(shards, suspects, frozenset(row.file_id for row in rows) - {job.file_id for job in jobs})


def score(
    plan: Plan, place: Place, specs: tuple[ModelSpec, ...], reference: UUID, workers: int, budget_s: float
) -> Outcome:
    """Score a plan on a pool of processes, and show how far it is. What one cannot load is given to no other."""
    progress = Progress("infer-progress", plan.audio_s, "s of audio")
    wanted = plan.models
    refused = refused_at_first((spec for spec in specs if spec.name in wanted), place.local / MODELS)

    def on_scored(scored: Scored) -> None:
        refused.update(scored.refused)
        progress.add(scored.audio_s)

    def usable() -> tuple[ModelSpec, ...]:
        return tuple(spec for spec in specs if spec.name not in refused)

    def worth(shard: Shard) -> bool:
        names = {spec.name for spec in usable()}
        return any(name in names for job in shard.jobs for name in job.tries)

    outcome = run_shards(
        plan.shards,
        plan.suspects,
        pool=partial(processes, place, usable, reference, workers),
        workers=workers,
        budget_s=budget_s,
        on_scored=on_scored,
        worth=worth,
    )
    reason = "the process that scored it ended: the recording may need more memory than there is"
    outcome.scored += [
        failed(shard, place=place, specs=usable(), reference=reference, reason=reason) for shard in outcome.killers
    ]
    outcome.refused = refused
    return outcome


@task(name="score", task_run_name="shard {shard.number}", cache_policy=NO_CACHE)
def score_task(shard: Shard, place: Place, specs: tuple[ModelSpec, ...], reference: UUID) -> Scored:
    """Score one shard in a process of the pool."""
    return score_shard(shard, place=place, specs=specs, reference=reference)


@contextmanager
def processes(
    place: Place, specs: Callable[[], tuple[ModelSpec, ...]], reference: UUID, workers: int
) -> Iterator[Submit]:
    """Yield what submits a shard to a pool of processes, with the models that `specs` returns by then."""
    with ProcessPoolTaskRunner(max_workers=workers, initializer=end_with_parent) as runner:
        yield lambda shard: runner.submit(
            score_task, {"shard": shard, "place": place, "specs": specs(), "reference": reference}
        )


def note_tried(store: Store, tried: Mapping[str, Tried], group: Group, outcome: Outcome) -> None:
    """Write down which models could be loaded, where that is news."""
    models = {spec.name: (spec.version, spec.entry) for spec in group.enabled}
    now_known = after_trying(tried, models, outcome.loaded, outcome.refused, datetime.now(UTC))
    if now_known != tried:
        write_tried(store, now_known.values())


def nothing_new(plan: Plan, outcome: Outcome, unavailable: Mapping[str, str]) -> str:
    """Say why there is no new reference."""
    if unavailable and not any(part.recordings for part in outcome.scored):
        return f"Nothing is missing, but for what cannot be loaded: {', '.join(sorted(unavailable))}"
    return "Others were faster" if plan.recordings else "Nothing is missing"


def report(entry: LogEntry | None, seconds: float, unavailable: Mapping[str, str]) -> None:
    """Show in Prefect's UI what the run came to."""
    counts = entry.counts if entry else {}
    create_table_artifact(
        key="infer",
        description="The refresh" if entry else "No new reference",
        table=[
            {
                "files": int(counts.get("files", 0)),
                "utterances": int(counts.get("utterances", 0)),
                "predictions": int(counts.get("predictions", 0)),
                "failures": int(counts.get("failures", 0)),
                "audio seconds": counts.get("audio_s", 0),
                "seconds": round(seconds, 1),
                "reference": str(entry.reference) if entry else "",
                "unavailable models": "; ".join(unavailable.values()),
            }
        ],
    )
