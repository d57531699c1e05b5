"""GET /api/files: recordings with the predictions of their latest reference."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Annotated, Any, Final, TypeVar
from uuid import UUID

from fastapi import APIRouter, Path, Query

from api.answers import JSON, File, confidence_answer, file_answer, pending_answer, transcript_answer, utc
from api.dependencies import Service, ServiceDep
from api.problems import GoneProblem, NotFoundProblem, problems
from storage.errors import IndexDamagedError
from storage.history import file_in_reference
from storage.inbox import Receipt
from storage.recordings import Prediction, Utterance, known_models, predictions, recordings, utterances

KNOWN_SHOWN: Final = 5  # of the files, in the answer to an unknown one

router = APIRouter(prefix="/api/files", tags=["files"])

MinConfidence = Annotated[
    float | None,
    Query(ge=0, le=1, description="Show detections from this confidence on. Default: MODEL_CONFIDENCE_THRESHOLD."),
]
WithTranscript = Annotated[bool, Query(alias="transcript", description="Add the text of each utterance.")]
InReference = Annotated[
    UUID | None, Query(description="Show what this reference said. Default: the latest. 410: it is not kept any more.")
]
FileId = Annotated[str, Path(description="The recording.", examples=["e5a26b3d-29e5-b0bc-8dbd-72c11d16a380"])]
ModelName = Annotated[
    str, Path(description="A model of the group, or one that has answered for the recording.", examples=["callscene"])
]
Row = TypeVar("Row", Prediction, Utterance)


@router.get("", response_model=list[File])
@router.get("/", include_in_schema=False)
def list_files(service: ServiceDep, min_confidence: MinConfidence = None, transcript: WithTranscript = False) -> JSON:
    """All recordings, those that arrived last first, each with the predictions of its latest reference."""
    receipts = service.lake.inbox.receipts()  # before the index: what leaves the inbox meanwhile is in the index then
    service.index.catch_up()
    return JSON(_answers(service, receipts, None, None, min_confidence, transcript))


@router.get("/{file_id}", response_model=File, responses=problems(NotFoundProblem, GoneProblem))
@router.get("/{file_id}/", include_in_schema=False)
def get_file(
    service: ServiceDep,
    file_id: FileId,
    min_confidence: MinConfidence = None,
    transcript: WithTranscript = False,
    reference: InReference = None,
) -> JSON:
    """One recording with the predictions of its latest reference, or of an older one."""
    answer = _one(service, file_id, None, min_confidence, transcript)
    return JSON(answer if reference is None else _as_in(service, answer, reference, min_confidence, transcript))


@router.get("/{file_id}/{model}", response_model=File, responses=problems(NotFoundProblem, GoneProblem))
@router.get("/{file_id}/{model}/", include_in_schema=False)
def get_file_of_model(
    service: ServiceDep,
    file_id: FileId,
    model: ModelName,
    min_confidence: MinConfidence = None,
    transcript: WithTranscript = False,
) -> JSON:
    """One recording with the predictions of one model."""
    return JSON(_one(service, file_id, model, min_confidence, transcript))


def _one(service: Service, raw_id: str, model: str | None, min_confidence: float | None, transcript: bool) -> Any:
    try:
        file_id = UUID(raw_id)
    except ValueError:
        raise _unknown_file(service, raw_id) from None
    receipts = service.lake.inbox.receipts(file_id)
    service.index.catch_up()
    answers = _answers(service, receipts, file_id, model, min_confidence, transcript)
    if not answers and service.index.erased([file_id]):
        raise GoneProblem(f"The file {file_id} was erased")
    if not answers:
        raise _unknown_file(service, raw_id)
    if model is not None:
        known = sorted(known_models(service.index, file_id))
        if model not in known:
            raise NotFoundProblem(f"No model {model!r}; known here: {', '.join(known) or 'none yet'}", known=known)
    return answers[0]


def _answers(
    service: Service,
    receipts: Iterable[Receipt],
    file_id: UUID | None,
    model: str | None,
    min_confidence: float | None,
    transcript: bool,
) -> list[dict[str, Any]]:
    if min_confidence is None:
        min_confidence = service.settings.model_confidence_threshold
    try:
        return _read(service, receipts, file_id, model, min_confidence, transcript)
    except IndexDamagedError:  # and it has been made anew
        return _read(service, receipts, file_id, model, min_confidence, transcript)


def _read(
    service: Service,
    receipts: Iterable[Receipt],
    file_id: UUID | None,
    model: str | None,
    min_confidence: float,
    transcript: bool,
) -> list[dict[str, Any]]:
    receipts = list(receipts)
    base_url = service.settings.public_url
    with service.index.reading():
        found = recordings(service.index, file_id)
        seq = found[0].seq if file_id is not None and found else None
        detected = _by_file(predictions(service.index, file_id, seq=seq, model=model, min_confidence=min_confidence))
        erased = service.index.erased(receipt.file_id for receipt in receipts)
        said = _by_file(utterances(service.index, file_id, seq=seq, model=model)) if transcript else None
    known = {recording.file_id for recording in found} | erased
    pending = {receipt.file_id: receipt for receipt in reversed(receipts) if receipt.file_id not in known}
    return [
        pending_answer(receipt, base_url, transcript=transcript)
        for receipt in sorted(pending.values(), key=lambda receipt: receipt.received_at, reverse=True)
    ] + [
        file_answer(
            recording,
            base_url,
            detected.get(recording.file_id, ()),
            None if said is None else said.get(recording.file_id, ()),
        )
        for recording in found
    ]


def _as_in(
    service: Service, answer: dict[str, Any], id_: UUID, min_confidence: float | None, transcript: bool
) -> dict[str, Any]:
    """Return a recording's answer with what one reference said of it."""
    if min_confidence is None:
        min_confidence = service.settings.model_confidence_threshold
    said_then = file_in_reference(service.lake, service.index, id_, answer["id"])
    if said_then is None:
        raise NotFoundProblem(f"The reference {id_} does not contain the file {answer['id']}")
    past = {
        "reference": said_then.reference.reference,
        "predicted_at": utc(said_then.reference.committed_at),
        "confidences": [
            confidence_answer(found) for found in said_then.predictions if found.confidence >= min_confidence
        ],
    }
    return (
        answer
        | past
        | ({"transcript": [transcript_answer(said) for said in said_then.utterances]} if transcript else {})
    )


def _by_file(rows: Iterable[Row]) -> dict[UUID, list[Row]]:
    grouped: dict[UUID, list[Row]] = defaultdict(list)
    for row in rows:
        grouped[row.file_id].append(row)
    return grouped


def _unknown_file(service: Service, raw_id: str) -> NotFoundProblem:
    waiting = [receipt.file_id for receipt in service.lake.inbox.receipts()]
    service.index.catch_up()
    known = dict.fromkeys([*waiting, *(recording.file_id for recording in recordings(service.index))])
    return NotFoundProblem(
        f"No file {raw_id!r}; {len(known)} files are known, listed at {service.settings.public_url}/api/files",
        known=list(known)[:KNOWN_SHOWN],
    )
