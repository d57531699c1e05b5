"""A refresh: from what is missing to one log entry with a new reference. It must not know Prefect.

Whole answers only: a recording is in the reference with every enabled model, computed or carried, or not at all. Only
a model that cannot be loaded keeps no recording back: its answers stay missing.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from flows.shards import Scored
from models.group import Group, ModelSpec
from models.registry import FAMILIES
from storage.answers import CUT
from storage.commit import Draft
from storage.index import Index
from storage.lake import Lake
from storage.log import DataFile, GroupModel, LogEntry
from storage.missing import Again, answers_kept, missing
from storage.parquet import read_tables
from storage.tables import ANSWER_TABLES, TABLES

Pair = tuple[UUID, str]
"""A recording and a model."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Rows of some recordings and models: to take from shards, or to carry from the log entry `seq`."""

    files: tuple[DataFile, ...]
    pairs: frozenset[Pair]
    seq: int | None


@dataclass(frozen=True, slots=True)
class Special:
    """In what a refresh differs from others.

    Attributes:
        held: Nobody's latest before it is released; until that is decided, its answers are not computed again.
        again: What was computed although it was there.
        one_off: The group that scored, where that is not the one in the log: then it is held, and waits for nothing.
        adopted: What shards of earlier runs wrote, which did not live to publish it.
    """

    held: bool = False
    again: Again | None = None
    one_off: Group | None = None
    adopted: tuple[Scored, ...] = ()


ORDINARY: Final = Special()


def record_group(lake: Lake, index: Index, group: Group, key: UUID) -> None:
    """Write the model group into the log, where it differs from the one that the log has last."""
    wanted = models_of(group)

    def plan() -> Draft | None:
        rows = index.query("SELECT name, version, task, enabled FROM group_models WHERE seq = ?", [index.group_seq])
        recorded = sorted((row["name"], row["version"], row["task"], row["enabled"]) for row in rows)
        if recorded == sorted((model.name, model.version, model.task, model.enabled) for model in wanted):
            return None
        return Draft(group=wanted, counts={"models": len(wanted)})

    lake.commit(index, op="group", key=key, plan=plan, started_at=datetime.now(UTC))


def models_of(group: Group) -> tuple[GroupModel, ...]:
    """Return the models of a group as the log has them."""
    return tuple(
        GroupModel(model.name, model.version, model.task, model.enabled, _settings(model)) for model in group.models
    )


def _settings(model: ModelSpec) -> dict[str, Any]:
    """Return everything that may be set and changes what a model finds."""
    known = FAMILIES.get(model.family)
    cut = {CUT: dict(model.utterances)} if known is None or known.utterances else {}
    return {**model.settings, **model.search, **cut}


def enabled_models(index: Index) -> list[tuple[str, str]]:
    """Return name and version of the enabled models, as the log has them last."""
    rows = index.query("SELECT name, version FROM group_models WHERE enabled AND seq = ?", [index.group_seq])
    return [(row["name"], row["version"]) for row in rows]


def enabled_of(group: Group) -> list[tuple[str, str]]:
    """Return name and version of the enabled models of a group."""
    return [(model.name, model.version) for model in group.enabled]


def publish_refresh(
    lake: Lake,
    index: Index,
    *,
    reference: UUID,
    scored: Iterable[Scored],
    carried: Iterable[UUID],
    started_at: datetime,
    unavailable: Collection[str] = frozenset(),
    special: Special = ORDINARY,
) -> LogEntry | None:
    """Commit what shards scored and what can be carried, as one reference.

    Args:
        lake: Where to.
        index: Its planning tables.
        reference: The reference's id, which is the commit's key as well.
        scored: What shards wrote.
        carried: Recordings of which every missing answer is kept in some older entry.
        started_at: When the refresh began.
        unavailable: Models that could not be loaded: what they lack is left out, and stays missing.
        special: In what it differs from others.

    Returns:
        The entry, or None where nothing is left: others were faster, or the group has changed.
    """
    scored = special.adopted + tuple(scored)
    shard_files = tuple(file for part in scored for file in part.files)
    coverage = read_tables(lake.store, shard_files, "coverage").select(["file_id", "model", "model_version"])
    computed = {(row["file_id"], row["model"]): row["model_version"] for row in coverage.to_pylist()}
    touched = frozenset(file_id for file_id, _ in computed) | frozenset(carried)

    def plan() -> Draft | None:
        enabled = enabled_models(index) if special.one_off is None else enabled_of(special.one_off)
        take, carry = _whole_answers(index, enabled, computed, touched, started_at, unavailable, special.again)
        if not take and not carry:
            return None
        sources = [Answers(tuple(index.live_files(seq=seq)), frozenset(pairs), seq) for seq, pairs in carry.items()]
        files = shard_files
        if special.adopted or take != set(
            computed
        ):  # some of it names another reference, or is stale by now: written anew
            sources.append(Answers(shard_files, frozenset(take), None))
            files = ()
        tables = {name: _gathered(lake, name, sources, reference) for name in ANSWER_TABLES}
        covered = len({file_id for file_id, _ in take.union(*carry.values())})
        counts = _counts(files, tables, scored) | {"files": covered}
        group = () if special.one_off is None else models_of(special.one_off)
        return Draft(tables, files, counts, reference, group, held=special.held or special.one_off is not None)

    return lake.commit(index, op="refresh", key=reference, plan=plan, started_at=started_at)


def _whole_answers(
    index: Index,
    enabled: list[tuple[str, str]],
    computed: Mapping[Pair, str],
    touched: frozenset[UUID],
    now: datetime,
    unavailable: Collection[str] = frozenset(),
    again: Again | None = None,
) -> tuple[set[Pair], dict[int, set[Pair]]]:
    """Choose, for each touched recording that lacks something, where each enabled model's answer comes from.

    Args:
        index: As it is now, which may be later than when the work was planned.
        enabled: Name and version of each enabled model.
        computed: The version of each answer that shards have computed.
        touched: Recordings that may be published.
        now: When the work was planned: a failure that falls due meanwhile is the next refresh's.
        unavailable: Models of which an answer that is nowhere keeps no recording back.
        again: What was computed although it was there.

    Returns:
        The answers to take from the shards, and those to carry by the seq of the entry that holds them. A recording of
        which some answer is nowhere is left out: the next refresh computes it.
    """
    at_hand = {(*pair, version) for pair, version in computed.items()}
    owed = {
        (row.file_id, row.model): row.kept_seq
        for row in missing(index, enabled, now, unavailable, at_hand, again)
        if row.file_id in touched
    }
    kept = answers_kept(index, touched, enabled)
    take: set[Pair] = set()
    carry: dict[int, set[Pair]] = defaultdict(set)
    for file_id in {file_id for file_id, _ in owed}:
        pairs = {(file_id, model): version for model, version in enabled}
        to_compute = {pair for pair in pairs if pair in owed and owed[pair] is None}
        if any(computed.get(pair) != pairs[pair] for pair in to_compute):
            continue
        take |= to_compute
        for pair in pairs.keys() - to_compute:
            if pair in kept or pair[1] not in unavailable:  # of what cannot be had, an earlier failure
                carry[kept[pair]].add(pair)
    return take, carry


def _gathered(lake: Lake, name: str, sources: list[Answers], reference: UUID) -> pa.Table:
    """Return the rows of table `name` for the pairs of each source, as the refresh `reference` has them."""
    parts = [TABLES[name].empty_table()]
    for source in sources:
        file_ids = frozenset(file_id for file_id, _ in source.pairs)
        rows = read_tables(lake.store, source.files, name, file_ids, source.seq)
        wanted = pa.array(
            [
                (file_id, model) in source.pairs
                for file_id, model in zip(rows["file_id"].to_pylist(), rows["model"].to_pylist(), strict=True)
            ],
            pa.bool_(),
        )
        rows = rows.filter(wanted)
        if name == "coverage":
            rows = _as_computed(rows, reference) if source.seq is None else _as_carried(rows)
        parts.append(rows)
    return pa.concat_tables(parts)


def _as_carried(coverage: pa.Table) -> pa.Table:
    """Return coverage rows as carried ones; a failure stays a failure."""
    state = pc.if_else(pc.equal(coverage["state"], "failed"), "failed", "carried")
    return coverage.set_column(coverage.schema.get_field_index("state"), TABLES["coverage"].field("state"), state)


def _as_computed(coverage: pa.Table, reference: UUID) -> pa.Table:
    """Return coverage rows as first computed in `reference`."""
    field = TABLES["coverage"].field("first_reference")
    column = pa.array([reference.bytes] * coverage.num_rows, pa.binary(16)).cast(field.type)
    return coverage.set_column(coverage.schema.get_field_index("first_reference"), field, column)


def _counts(files: tuple[DataFile, ...], tables: dict[str, pa.Table], scored: tuple[Scored, ...]) -> dict[str, float]:
    counts = {
        name: sum(file.rows for file in files if file.table == name) + table.num_rows for name, table in tables.items()
    }
    return counts | {
        "audio_s": round(sum(part.audio_s for part in scored), 3),
        "failures": sum(part.failures for part in scored),
    }
