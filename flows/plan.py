"""What a refresh is to do: the answers that the latest references lack, cut into shards. It must not know Prefect."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from flows.asked import NOTHING_MORE, Asked
from flows.handover import Left, left
from flows.refresh import enabled_models
from flows.shards import Shard, cut, jobs_of, with_texts
from storage.index import Index
from storage.lake import Lake
from storage.missing import missing


@dataclass(frozen=True, slots=True)
class Plan:
    """What a refresh is to do."""

    shards: list[Shard]
    suspects: list[Shard]
    carried: frozenset[UUID]  # recordings that need no computing
    left: tuple[Left, ...] = ()  # what earlier runs have scored of what is missing

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


def make_plan(
    index: Index,
    now: datetime | None = None,
    unavailable: Collection[str] = frozenset(),
    enabled: list[tuple[str, str]] | None = None,
    asked: Asked = NOTHING_MORE,
    lake: Lake | None = None,
) -> Plan:
    """Return what the latest references lack, cut into shards.

    Of models that are unavailable, only what is kept; of `lake`, what earlier runs have scored and left is taken.
    """
    wanted = enabled_models(index) if enabled is None else enabled
    rows = missing(index, wanted, now or datetime.now(UTC), unavailable, again=asked.again)
    rows = [row for row in rows if asked.files is None or row.file_id in asked.files]
    done = left(lake, rows, failures=asked.again is None) if rows and lake else []
    answers = frozenset(answer for each in done for answer in each.answers)
    jobs = jobs_of(row for row in rows if (row.file_id, row.model, row.model_version) not in answers)
    shards, suspects = cut(jobs)
    if any(job.read_seqs for job in jobs):
        texts = index.live_files("utterances")
        shards, suspects = with_texts(shards, texts), with_texts(suspects, texts)
    return Plan(shards, suspects, frozenset(row.file_id for row in rows) - {job.file_id for job in jobs}, tuple(done))
