"""Baselines: the first recordings by themselves, others when somebody chooses them; fitted once on each host.

It must not know windows.
"""

import contextlib
import hashlib
import math
import shutil
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final
from uuid import UUID

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from flows.drift_evidence import evidence
from models.drift import LEAST_RECORDINGS, Baseline
from models.errors import DriftError
from storage.answers import answers_of, enabled_group
from storage.commit import Draft
from storage.drift import BaselineRow, Waiting, active_baseline, baselines, files_of_window, table_of_files, waiting
from storage.index import Index
from storage.lake import Lake
from storage.place import Place
from storage.tables import table_from_rows

FITTED: Final = "drift"  # in the host's own folder: baselines as alibi-detect saves them
FIRST: Final = "first"  # the name of the baseline that is made by itself
KEPT: Final = 0.5
"""Of the utterances that a baseline must have when it is made: with fewer left, after erasures, it is none any more."""

MOST_UTTERANCES: Final = 10_000
"""Of a baseline: a test costs their number, and more of them find hardly anything more."""


_CHOSEN: Final = """
SELECT f.file_id, l.seq, f.ingested_at AS at, max(coalesce(c.descriptors, 0))::INTEGER AS utterances
FROM files f JOIN latest l USING (file_id) JOIN coverage c ON c.file_id = f.file_id AND c.seq = l.seq
WHERE f.status = 'accepted' AND c.state <> 'failed'
  AND ($since::TIMESTAMPTZ IS NULL OR f.ingested_at >= $since)
  AND ($until::TIMESTAMPTZ IS NULL OR f.ingested_at < $until)
  AND ($reference::UUID IS NULL OR f.file_id IN (
       SELECT file_id FROM coverage
       WHERE seq IN (SELECT seq FROM entries WHERE op = 'refresh' AND reference = $reference)))
  AND f.file_id IN (
       SELECT file_id FROM sources WHERE kind <> 'demo'
       AND ($folders::VARCHAR[] IS NULL OR len(list_filter($folders, lambda folder: starts_with(uri, folder))) > 0))
GROUP BY ALL ORDER BY f.ingested_at, f.file_id
"""

Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\w .,:()-]+$")]


class ChosenBaseline(BaseModel):
    """A choice of recordings that windows are compared with from now on; what is given must all be so."""

    model_config = ConfigDict(extra="forbid")

    name: Name = Field("chosen", description="Its name; the same name again is its next version.")
    since: datetime | None = Field(None, description="Recordings that were taken in since then.")
    until: datetime | None = Field(None, description="Recordings that were taken in before then.")
    reference: UUID | None = Field(None, description="Recordings that this reference has answers for.")
    folder: str | None = Field(
        None,
        min_length=1,
        max_length=4096,
        pattern=r"^[^\x00]*$",
        description="Recordings from below this folder (a path), or whose URI begins so.",
    )

    @model_validator(mode="after")
    def _chooses(self) -> "ChosenBaseline":
        if not any((self.since, self.until, self.reference, self.folder)):
            raise ValueError("it chooses nothing: give since, until, reference or folder")
        return self

    @property
    def uris(self) -> list[str] | None:
        """How URIs of the folder's recordings begin: with the path as it is written, or with what its links lead to."""
        if self.folder is None or "://" in self.folder:
            return None if self.folder is None else [self.folder]
        path = Path(self.folder)
        return [one.as_uri().rstrip("/") + "/" for one in (path.absolute(), path.resolve())]

    def __str__(self) -> str:
        since, until = (None if at is None else _utc(at).isoformat() for at in (self.since, self.until))
        said = {"since": since, "until": until, "reference": self.reference, "folder": self.folder}
        return ", ".join(f"{name} {value}" for name, value in said.items() if value is not None)


def first_baseline(lake: Lake, index: Index, least_utterances: int, key: UUID) -> BaselineRow | None:
    """Return the active baseline; where there is none, make one of the recordings that came first, once they suffice.

    Args:
        lake: Where to.
        index: Needs sources, coverage, baselines and drift_files.
        least_utterances: How many suffice; of LEAST_RECORDINGS or more.
        key: Of the commit, the same whoever makes it.
    """

    def plan() -> Draft | None:
        chosen = None if active_baseline(index) else enough(waiting(index), least_utterances)
        return None if chosen is None else _draft(index, FIRST, f"the first {least_utterances} utterances", chosen)

    if active_baseline(index) is None:
        lake.commit(index, op="drift", key=key, plan=plan, started_at=datetime.now(UTC))
    return active_baseline(index)


def enough(recordings: Iterable[Waiting], least_utterances: int) -> list[Waiting] | None:
    """Return the first recordings that suffice for a baseline, None where there are too few."""
    chosen: list[Waiting] = []
    utterances = spoken = 0
    for one in recordings:
        chosen.append(one)
        utterances, spoken = utterances + one.utterances, spoken + (one.utterances > 0)
        if utterances >= least_utterances and spoken >= LEAST_RECORDINGS:
            return chosen
    return None


def choose_baseline(
    lake: Lake, index: Index, choice: ChosenBaseline, least_utterances: int, key: UUID
) -> BaselineRow | None:
    """Make a baseline of what was chosen, which is the active one from then on.

    Raises:
        DriftError: There are too few of such recordings.
    """

    def plan() -> Draft:
        asked = {
            "since": choice.since and _utc(choice.since),
            "until": choice.until and _utc(choice.until),
            "reference": choice.reference,
            "folders": choice.uris,
        }
        found = [Waiting(**row) for row in index.query(_CHOSEN, asked)]
        if enough(found, least_utterances) is None:
            utterances = sum(one.utterances for one in found)
            raise DriftError(
                f"baseline {choice.name!r} ({choice}): {utterances} utterances in {len(found)} recordings, and "
                f"{least_utterances} in {LEAST_RECORDINGS} are needed (DRIFT_BASELINE_MIN). Choose more of them"
            )
        return _draft(index, choice.name, str(choice), _at_most(found, MOST_UTTERANCES))

    lake.commit(index, op="drift", key=key, plan=plan, started_at=datetime.now(UTC))
    return active_baseline(index)


def fitted(lake: Lake, index: Index, row: BaselineRow, least_utterances: int) -> Baseline:
    """Return a baseline as detectors, from this host's own folder where they were fitted before.

    It is fitted anew when models have another version, more of its recordings have been answered in that version, or
    one of them was erased: nothing of it is left then. What remains is compared with all the same, down to KEPT: else
    the first erasure would end all tests, as a first baseline has hardly more than the least.
    """
    if row.utterances >= least_utterances:
        least_utterances = math.ceil(KEPT * least_utterances)
    members = files_of_window(index, row.baseline_id)
    key = hashlib.sha256(f"{row.baseline_id} {least_utterances} {sorted(members)}".encode())
    for member in enabled_group(index):
        now = [one for one in answers_of(index, member.name, members) if one.model_version == member.version]
        key.update(f"{member} {len(now)}".encode())
    folder = lake.place.local / FITTED / f"{row.baseline_id}-{key.hexdigest()[:16]}"
    if folder.is_dir():
        try:
            return Baseline.load(folder)
        except DriftError:
            shutil.rmtree(folder, ignore_errors=True)
    samples = evidence(lake, index, members).samples
    baseline = Baseline.fit(row.name, row.version, samples, least_utterances=least_utterances)
    forget_fitted(lake.place)
    with contextlib.suppress(OSError):  # it is there already, or is fitted anew the next time
        baseline.save(folder)
    return baseline


def forget_fitted(place: Place) -> None:
    """Remove what this host has of baselines: it can be made anew, and holds numbers of recordings."""
    shutil.rmtree(place.local / FITTED, ignore_errors=True)


def _draft(index: Index, name: str, chosen: str, recordings: Sequence[Waiting]) -> Draft:
    version = 1 + max((row.version for row in baselines(index) if row.name == name), default=0)
    baseline_id = _id(name, version, recordings)
    counts = {"recordings": len(recordings), "utterances": sum(one.utterances for one in recordings)}
    row = {"baseline_id": baseline_id, "name": name, "version": version, "chosen": chosen, **counts}
    return Draft(
        {
            "baselines": table_from_rows("baselines", [row | {"made_at": datetime.now(UTC)}]),
            "drift_files": table_of_files(baseline_id, recordings),
        },
        counts=counts,
    )


def _id(name: str, version: int, recordings: Sequence[Waiting]) -> UUID:
    said = f"{name}/{version}/{recordings[0].file_id}/{recordings[-1].file_id}"
    return UUID(bytes=hashlib.sha256(said.encode()).digest()[:16])


def _at_most(recordings: Sequence[Waiting], utterances: int) -> list[Waiting]:
    """Return recordings chosen by chance that is always the same, up to a number of utterances."""
    order = np.random.default_rng(0).permutation(len(recordings))
    reached = np.cumsum([recordings[at].utterances for at in order])
    chosen = np.sort(order[: max(1, int(np.searchsorted(reached, utterances, side="right")))])
    return [recordings[at] for at in chosen]


def _utc(at: datetime) -> datetime:
    """Return a time, taken for UTC where it does not say."""
    return at if at.tzinfo else at.replace(tzinfo=UTC)
