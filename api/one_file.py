"""One file's answer, as bytes: of its latest reference or of an older one. It must not know who asks for it."""

from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from api import etags
from api.answers import confidence_answer, encoded, file_answer, pending_answer, transcript_answer, utc
from api.dependencies import Service
from api.file_queries import FileQuery
from api.problems import GoneProblem, NotFoundProblem, shown
from storage.choosing import Wanted
from storage.history import as_it_is_now, file_in_reference
from storage.listing import Listing
from storage.recordings import known_models, predictions, recordings, utterances

KNOWN_SHOWN: Final = 5  # of the files, in the answer to an unknown one


@dataclass(frozen=True, slots=True)
class FileBytes:
    """An answer.

    Attributes:
        body: In JSON.
        etag: Of exactly these bytes.
        file_id: Of the file.
        seq: The log entry that the index had come to when it was read; None of a pending file, which depends on the
            inbox as well.
    """

    body: bytes
    etag: str
    file_id: UUID
    seq: int | None


def file_bytes(service: Service, raw_id: str, asked: FileQuery, model: str | None = None) -> FileBytes:
    """Return the answer for one file, of one model only where that is given.

    Raises:
        NotFoundProblem: There is no such file, or no such model.
        GoneProblem: It was erased.
        UnknownReferenceError: There never was such a reference.
        ExpiredReferenceError: It is not kept any more.
    """
    try:
        file_id = UUID(raw_id)
    except ValueError:
        raise _unknown_file(service, raw_id) from None
    answer, seq = as_it_is_now(service.index, lambda: _read(service, file_id, asked, model))
    if answer is None and service.index.erased([file_id]):
        raise GoneProblem(f"The file {file_id} was erased")
    if answer is None:
        raise _unknown_file(service, raw_id)
    if model is not None:
        known = sorted(known_models(service.index, file_id))
        if model not in known:
            raise NotFoundProblem(f"No model {shown(model)}; known here: {', '.join(known) or 'none yet'}", known=known)
    if asked.reference is not None:
        answer |= _then(service, file_id, asked.reference, asked, model)
    body = encoded(answer)
    return FileBytes(body, etags.strong(body), file_id, seq)


def least_shown(service: Service, min_confidence: float | None) -> float:
    """Return the confidence from which on detections are shown."""
    return service.settings.model_confidence_threshold if min_confidence is None else min_confidence


def _read(
    service: Service, file_id: UUID, asked: FileQuery, model: str | None
) -> tuple[dict[str, Any] | None, int | None]:
    """Return the answer with the latest reference, and the log entry that it was read at where the log has the file."""
    receipts = service.lake.inbox.receipts(file_id)  # before the index, which has what leaves the inbox meanwhile
    service.index.catch_up()
    base_url, least = service.settings.public_url, least_shown(service, asked.min_confidence)
    latest = asked.reference is None
    seq_read = service.index.applied_seq  # or a newer one
    with service.index.at_once():
        found = recordings(service.index, file_id)
        if not found:
            if not receipts or service.index.erased([file_id]):
                return None, None
            pending = pending_answer(receipts[0], base_url, confidences=asked.confidences, transcript=asked.transcript)
            return pending, None
        seq = found[0].seq
        detected = said = None
        if asked.confidences:
            detected = predictions(service.index, file_id, seq=seq, model=model, min_confidence=least) if latest else []
        if asked.transcript:
            said = utterances(service.index, file_id, seq=seq, model=model) if latest else []
    return file_answer(found[0], base_url, detected, said), seq_read


def _then(service: Service, file_id: UUID, reference: UUID, asked: FileQuery, model: str | None) -> dict[str, Any]:
    """Return what one reference said of a file, by one model only where that is given, as part of an answer."""
    least = least_shown(service, asked.min_confidence)
    said_then = file_in_reference(service.lake, service.index, reference, file_id)
    if said_then is None:
        raise NotFoundProblem(f"The reference {reference} does not contain the file {file_id}")
    then: dict[str, Any] = {
        "reference": said_then.reference.reference,
        "predicted_at": utc(said_then.reference.committed_at),
    }
    if asked.confidences:
        then["confidences"] = [
            confidence_answer(found)
            for found in said_then.predictions
            if found.confidence >= least and model in (None, found.model)
        ]
    if asked.transcript:
        then["transcript"] = [transcript_answer(said) for said in said_then.utterances if model in (None, said.model)]
    return then


def _unknown_file(service: Service, raw_id: str) -> NotFoundProblem:
    waiting = {receipt.file_id: None for receipt in service.lake.inbox.receipts()}
    service.index.catch_up()
    with service.index.at_once():
        first = [UUID(row.file_id) for row in Listing(service.index).choose(Wanted(), None, KNOWN_SHOWN)]
        ingested = Listing(service.index).known(list(waiting))
        count = service.index.query("SELECT count(*) AS n FROM files")[0]["n"] + len(waiting) - len(ingested)
    known = list(dict.fromkeys([*(one for one in waiting if one not in ingested), *first]))
    return NotFoundProblem(
        f"No file {shown(raw_id)}; {count} files are known, listed at {service.settings.public_url}/api/files",
        known=known[:KNOWN_SHOWN],
    )
