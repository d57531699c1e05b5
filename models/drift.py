"""A baseline, and what is compared with it: does data drift exist? It must not know where rows come from."""

import json
import shutil
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models import drift_detectors
from models.drift_detectors import Detector
from models.drift_null import p_value
from models.drift_samples import Family, Frame, Kind, Sample, at_most, family_of, samples_of, without
from models.drift_verdicts import Budget, Outcome, Verdict, in_order, verdict_of
from models.errors import DriftError

LEAST_UTTERANCES: Final = 300  # of a baseline
LEAST_ROWS: Final = 20  # of a sample, on either side: detections of a rare phrase, for example
LEAST_RECORDINGS: Final = 10  # likewise
VECTORS: Final = 1_000  # of either side at most: MMD costs their number squared
FORMAT: Final = 1  # of a saved baseline
FILE: Final = "baseline.json"


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """One sample of a baseline, and the detector that holds its values."""

    name: str
    kind: Kind
    model_version: str
    recordings: NDArray[np.str_]  # of each row. Shape (row,)
    detector: Detector

    @property
    def family(self) -> Family:
        """What it shares a part of the budget with."""
        return family_of(self.name, self.kind)

    @property
    def lacking(self) -> str:
        """Why nothing can be compared with it; empty: it can."""
        return _lacking(self.recordings, "the baseline")


@dataclass(frozen=True, slots=True, eq=False)
class Baseline:
    """A named, versioned set of utterances that windows are compared with."""

    name: str
    version: int
    utterances: int
    least_utterances: int
    references: tuple[Reference, ...]

    @classmethod
    def fit(
        cls,
        name: str,
        version: int,
        samples: Sequence[Sample],
        *,
        least_utterances: int = LEAST_UTTERANCES,
    ) -> "Baseline":
        """Return the baseline of some samples; the largest tells the number of utterances.

        An utterance has any number of detections, so samples of those count only where there are no others.
        """
        references = []
        for whole in samples:
            sample = at_most(whole, VECTORS) if whole.kind == "vectors" else whole
            if len(sample):
                detector = drift_detectors.fit(sample.kind, sample.values)
                references.append(
                    Reference(sample.name, sample.kind, sample.model_version, sample.recordings, detector)
                )
        of_utterances = [sample for sample in samples if family_of(sample.name, sample.kind) != "answers"]
        utterances = max((len(sample) for sample in of_utterances or samples), default=0)
        return cls(name, version, utterances, least_utterances, tuple(references))

    @property
    def tests(self) -> Counter[Family]:
        """How many tests of a window, by family, share the budget: all that may ever be made."""
        return Counter(reference.family for reference in self.references if not reference.lacking)

    @property
    def recordings(self) -> frozenset[str]:
        """The recordings in it: they are in no window."""
        return frozenset(str(name) for reference in self.references for name in np.unique(reference.recordings))

    def verdicts(self, samples: Sequence[Sample], budget: Budget) -> tuple[Verdict, ...]:
        """Compare a window with the baseline, once, and return what each test says, what moved most first.

        Args:
            samples: Of the window. Rows of the baseline's recordings are left out; samples that the baseline does not
                have are passed over.
            budget: Of false alarms.
        """
        of_window = {sample.name: sample for sample in samples}
        thresholds = budget.thresholds(self.tests)
        return in_order(
            self._verdict(reference, of_window.get(reference.name), thresholds.get(reference.family))
            for reference in self.references
        )

    def _verdict(self, reference: Reference, sample: Sample | None, threshold: float | None) -> Verdict:
        nothing = Verdict(reference.detector.name, reference.name, None, None, threshold, "insufficient")
        if self.utterances < self.least_utterances:
            return replace(nothing, reason=f"the baseline has {self.utterances} of {self.least_utterances} utterances")
        if sample is None:
            return replace(nothing, reason="the window has nothing of it")
        if sample.model_version != reference.model_version:
            return replace(
                nothing,
                reason=f"answers of version {sample.model_version} and a baseline of {reference.model_version}: "
                "a change of the model is compared on the same files",
            )
        current = without(sample, np.unique(reference.recordings))
        reason = reference.lacking or _lacking(current.recordings, "the window")
        if reason or threshold is None:
            return replace(nothing, reason=reason)
        return _compared(reference, current, threshold)

    def save(self, folder: Path) -> None:
        """Write it into `folder`, which must not be there yet and is there whole or not at all."""
        unfinished = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
        unfinished.mkdir(parents=True)
        try:
            rows: list[dict[str, Any]] = []
            for number, reference in enumerate(self.references):
                reference.detector.save(unfinished / str(number))
                np.save(unfinished / str(number) / "recordings.npy", reference.recordings)
                rows.append({"name": reference.name, "kind": reference.kind, "model_version": reference.model_version})
            said = {"format": FORMAT, "references": rows} | {
                field: getattr(self, field) for field in ("name", "version", "utterances", "least_utterances")
            }
            (unfinished / FILE).write_text(json.dumps(said, ensure_ascii=False, indent=1), encoding="utf-8")
            unfinished.rename(folder)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise

    @classmethod
    def load(cls, folder: Path) -> "Baseline":
        """Return a baseline that was saved. Its folder must be one's own: see `drift_detectors.load`.

        Raises:
            DriftError: It is not whole, or of another format.
        """
        try:
            said = json.loads((folder / FILE).read_text(encoding="utf-8"))
            if said["format"] != FORMAT:
                raise DriftError(f"the baseline in {folder} has format {said['format']}, and {FORMAT} is known")
            recordings = [np.load(folder / str(n) / "recordings.npy") for n in range(len(said["references"]))]
            rows = [(row["name"], row["kind"], row["model_version"]) for row in said["references"]]
            fields = said["name"], said["version"], said["utterances"], said["least_utterances"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DriftError(f"the baseline in {folder} cannot be read: {error}. Choose it anew") from error
        references = tuple(
            Reference(name, kind, version, of_row, drift_detectors.load(kind, folder / str(number)))
            for number, ((name, kind, version), of_row) in enumerate(zip(rows, recordings, strict=True))
        )
        return cls(*fields, references)


@dataclass(frozen=True, slots=True)
class Answer:
    """Yes or no, and why: `bool(answer)`, `answer.verdicts`."""

    is_drift: bool
    verdicts: tuple[Verdict, ...]  # what moved most first

    def __bool__(self) -> bool:
        return self.is_drift

    @property
    def verdict(self) -> Outcome:
        """Drift; no drift; or insufficient: none could be found."""
        return verdict_of(self.verdicts)

    def rows(self) -> list[dict[str, Any]]:
        """Return the verdicts as rows of a table."""
        return [asdict(each) for each in self.verdicts]


def does_data_drift_exist(
    existing: Frame, new: Frame, *, budget: Budget | None = None, least_utterances: int = LEAST_UTTERANCES
) -> Answer:
    """Return whether drift exists between two tables of descriptors or of predictions, at the flow's own thresholds.

    Args:
        existing: The baseline: see `models.drift_samples.samples_of` for its columns.
        new: The window, with the same columns.
        budget: Of false alarms; by default one a month, at a window an hour.
        least_utterances: With fewer rows in `existing` the answer is no, and every verdict `insufficient`.

    Raises:
        DriftError: A table has no `file_id`, or nothing in which drift could be looked for.
    """
    baseline = Baseline.fit("existing", 1, samples_of(existing), least_utterances=least_utterances)
    verdicts = baseline.verdicts(samples_of(new), budget or Budget())
    return Answer(verdict_of(verdicts) == "drift", verdicts)


def _compared(reference: Reference, current: Sample, threshold: float) -> Verdict:
    if current.kind == "vectors":
        current = at_most(current, VECTORS)
    recordings = np.concatenate([reference.recordings, current.recordings])
    is_current = np.arange(len(recordings)) >= len(reference.recordings)
    detector = reference.detector
    found = detector.compare(current.values)
    p = p_value(found.scores, recordings, is_current)
    return Verdict(
        detector.name,
        reference.name,
        found.statistic,
        p,
        threshold,
        "drift" if p < threshold else "no_drift",
        found.effect,
    )


def _lacking(recordings: NDArray[np.str_], side: str) -> str:
    """Return what a side of a comparison has too little of; empty: nothing."""
    if len(recordings) < LEAST_ROWS:
        return f"{side} has {len(recordings)} rows, and {LEAST_ROWS} are needed"
    found = len(np.unique(recordings))
    if found < LEAST_RECORDINGS:
        return f"{side} has {found} recordings, and {LEAST_RECORDINGS} are needed"
    return ""
