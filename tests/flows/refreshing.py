"""A refresh in this process, without Prefect: what the flow does, step by step."""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

from flows.plan import Plan, make_plan
from flows.refresh import publish_refresh, record_group
from flows.shards import score_shard
from models.group import Group
from storage.index import Index
from storage.lake import Lake
from storage.log import LogEntry


@dataclass(frozen=True)
class Refreshed:
    """What a refresh came to."""

    plan: Plan
    refused: set[str]  # models that could not be loaded
    entry: LogEntry | None


def refreshed(lake: Lake, index: Index, group: Group, unavailable: frozenset[str] = frozenset()) -> Refreshed:
    """Score and publish what is missing, but for models that are known to be unavailable."""
    reference = uuid.uuid4()
    record_group(lake, index, group, uuid.uuid4())
    plan = make_plan(index, None, unavailable)
    specs = tuple(spec for spec in group.enabled if spec.name not in unavailable)
    scored = [
        score_shard(shard, place=lake.place, specs=specs, reference=reference) for shard in plan.shards + plan.suspects
    ]
    refused = {name for part in scored for name in part.refused}
    entry = publish_refresh(
        lake,
        index,
        reference=reference,
        scored=scored,
        carried=plan.carried,
        started_at=datetime.now(UTC),
        unavailable=unavailable | refused,
    )
    return Refreshed(plan, refused, entry)
