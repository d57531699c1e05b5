"""Pages of files as clients get them: what a listing has, with the uploads that are pending, in order of their ids."""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from api import etags
from api.answers import file_answer, pending_answer
from api.dependencies import Service
from api.file_queries import FilesQuery
from api.one_file import least_shown
from api.problems import NotFoundProblem, shown
from storage.choosing import Wanted, names_with
from storage.errors import IndexDamagedError
from storage.inbox import Receipt
from storage.listing import Listing, Shown
from storage.past_listing import PastListing


@dataclass(frozen=True, slots=True)
class Page:
    """Answers in order, and the id after which the next page begins; None where this is the last."""

    answers: list[dict[str, Any]]
    next: UUID | None


class Pages:
    """The pages of one request's list, read one by one as they are asked for."""

    def __init__(self, service: Service, asked: FilesQuery) -> None:
        """Look at what is asked, and at the inbox; read no file.

        Raises:
            NotFoundProblem: There is no such model.
            UnknownReferenceError: There never was such a reference.
            ExpiredReferenceError: It is not kept any more.
        """
        self._service, self._asked = service, asked
        # The inbox before the index, which has what leaves the inbox meanwhile.
        receipts = service.lake.inbox.receipts() if _may_be_pending(asked) else []
        seq = service.index.catch_up()
        self._wanted = Wanted(
            name=asked.name,
            status=asked.status,
            model=asked.model,
            label=asked.utterance,
            min_confidence=least_shown(service, asked.min_confidence),
            since=asked.since,
        )
        if asked.model is not None:
            require_model(service, asked.model)
        self._latest = Listing(service.index)
        self._listing: Listing | PastListing = self._latest
        if asked.reference is not None:
            self._listing = PastListing(service.lake, service.index, asked.reference)
        self._pending = self._named({receipt.file_id: receipt for receipt in reversed(receipts)}.values())
        self._order = sorted(self._pending)
        self.etag = self._tag(seq, [receipt.path for receipt in receipts])

    def page(self, after: UUID | None, limit: int, *, most_rows: int, scan: bool = False) -> Page:
        """Return the files after one.

        Args:
            after: The last one of the page before.
            limit: How many at most.
            most_rows: How many rows of theirs at most, unless the first one has more: then the page is shorter.
            scan: Pages follow, down to the last file, and nothing is to be kept of them in memory.
        """
        try:
            return self._page(after, limit, most_rows, scan=scan)
        except IndexDamagedError:  # and it has been made anew
            return self._page(after, limit, most_rows, scan=scan)

    def _page(self, after: UUID | None, limit: int, most_rows: int, *, scan: bool) -> Page:
        shown = Shown(self._asked.confidences, self._asked.transcript, most_rows, scan)
        with self._listing.reading():
            chosen = []
            if self._asked.status != "pending":
                chosen = self._listing.choose(self._wanted, after, limit + 1, scan=scan)
            waiting = self._waiting(after, limit + 1)
            every = sorted([*(row.file_id for row in chosen), *map(str, waiting)])
            keys = every[:limit]
            wanted = [row for row in chosen if row.file_id <= keys[-1]] if keys else []
            listed = self._listing.read(wanted, self._wanted, shown)
        if len(listed) < len(wanted):
            keys = [key for key in keys if key < wanted[len(listed)].file_id]
        answers = {str(one.recording.file_id): self._answer(one) for one in listed}
        answers |= {str(file_id): self._pending_answer(file_id) for file_id in waiting if str(file_id) not in answers}
        return Page([answers[key] for key in keys], UUID(keys[-1]) if len(keys) < len(every) else None)

    def _answer(self, listed: Any) -> dict[str, Any]:
        return file_answer(
            listed.recording,
            self._service.settings.public_url,
            listed.predictions if self._asked.confidences else None,
            listed.utterances if self._asked.transcript else None,
        )

    def _pending_answer(self, file_id: UUID) -> dict[str, Any]:
        return pending_answer(
            self._pending[file_id],
            self._service.settings.public_url,
            confidences=self._asked.confidences,
            transcript=self._asked.transcript,
        )

    def _waiting(self, after: UUID | None, limit: int) -> list[UUID]:
        """Return the first uploads after one that are still pending."""
        start = 0 if after is None else bisect_right(self._order, after)
        found: list[UUID] = []
        while len(found) < limit and start < len(self._order):
            part = self._order[start : start + limit]
            start += limit
            known = self._latest.known(part)
            found += [file_id for file_id in part if file_id not in known]
        return found[:limit]

    def _named(self, receipts: Iterable[Receipt]) -> dict[UUID, Receipt]:
        """Return the receipts whose names have what is asked for."""
        those = list(receipts)
        if self._asked.name is not None:
            fits = names_with(self._service.index, [receipt.name for receipt in those], self._asked.name)
            those = [receipt for receipt, fit in zip(those, fits, strict=True) if fit]
        return {receipt.file_id: receipt for receipt in those}

    def _tag(self, seq: int, receipts: list[str]) -> str:
        """Return a tag of all that the list depends on, so that whether it has changed is known without reading it."""
        settings = self._service.settings
        return etags.weak(
            etags.state_of(self._service.index, seq),
            sorted(receipts),
            settings.public_url,
            settings.model_confidence_threshold,
            self._asked.model_dump_json(),
        )


def _may_be_pending(asked: FilesQuery) -> bool:
    """Say whether pending uploads can be among what is asked for: no model and no log entry says anything of them."""
    others = (asked.model, asked.utterance, asked.since, asked.reference)
    return asked.status in (None, "pending") and all(one is None for one in others)


def require_model(service: Service, model: str) -> None:
    """Refuse a model that is neither in the group nor has answered for any file."""
    index = service.index
    enabled = "SELECT name FROM group_models WHERE enabled AND seq = ?"
    known = {row["name"] for row in index.query(enabled, [index.group_seq])}
    if model in known or index.query("SELECT 1 FROM coverage WHERE model = ? LIMIT 1", [model]):
        return
    known |= {row["model"] for row in index.query("SELECT DISTINCT model FROM coverage")}
    raise NotFoundProblem(
        f"No model {shown(model)}; known: {', '.join(sorted(known)) or 'none yet'}", known=sorted(known)
    )
