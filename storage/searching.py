"""Finds utterances by the words of their texts, in order of recording, channel and time. It must not know HTTP.

Words are what is between other characters than letters, digits and apostrophes; case and ways of writing one letter do
not count. DuckDB looks for texts that have the words' letters; here their borders are looked at.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from storage.choosing import FOLDED, LAST, Wanted, rows_of, successor
from storage.index import Index
from storage.listing import Listing, Shown
from storage.ranges import ID, Range, latest_in

WINDOWS: Final = (2_000, 20_000, 100_000)
"""Recordings whose texts are looked at by one statement."""

RECORDINGS_AT_ONCE: Final = 250_000
"""After so many a search stops, whatever it has found, and says where to go on."""

CANDIDATES: Final = 5_000
"""Texts that one statement returns; more of one recording are read alone."""

_WORD: Final = re.compile(r"\w+(?:'\w+)*")
_PART: Final = re.compile(r'"([^"]*)"?|([^\s"]+)')
_QUOTES: Final = str.maketrans("“”„«»", '"' * 5)
_FOLDED_TEXT: Final = FOLDED.format("text")
_COLUMNS: Final = f"{ID}, seq, channel, start_s, end_s, text, model, model_version, {_FOLDED_TEXT}"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a search goes on: behind the first `hits` hits of a recording; behind all of them where that is None."""

    file_id: UUID
    hits: int | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """An utterance that has the words; times in seconds from the start of the recording."""

    file_id: UUID
    name: str
    channel: int
    start_s: float
    end_s: float
    text: str
    model: str
    model_version: str
    reference: UUID


@dataclass(frozen=True, slots=True)
class Found:
    """Hits, and where the search goes on; None where it has seen all."""

    hits: list[Hit]
    next: Place | None


Words = tuple[str, ...]


def phrases_of(index: Index, query: str) -> list[Words]:
    """Return what a query asks for: each a sequence of folded words. None of it has words: nothing."""
    folded = index.run(f"SELECT {FOLDED.format('?')}", [query.translate(_QUOTES)]).fetchall()[0][0]
    parts = [quoted or plain for quoted, plain in _PART.findall(folded)]
    return [words for part in parts if (words := tuple(_WORD.findall(part)))]


def search(index: Index, phrases: Sequence[Words], *, model: str | None, after: Place | None, limit: int) -> Found:
    """Return utterances of latest references that have every one of `phrases`, and whole words only.

    Args:
        index: Within one `reading`.
        phrases: See `phrases_of`; at least one.
        model: Whose texts, where given.
        after: Where the page before ended.
        limit: How many at most.
    """
    skipped = after.hits or 0 if after else 0
    first = _start(after)
    last = LAST
    rows: list[tuple[Any, ...]] = []
    seen = windows = 0
    while first is not None and len(rows) <= limit and seen < RECORDINGS_AT_ONCE:
        size = WINDOWS[min(windows, len(WINDOWS) - 1)]
        candidates, last = _candidates(index, phrases, model, first, size)
        hits = _of_latest(index, [row for row in candidates if _has(row[-1], phrases)])
        if after is not None and windows == 0:
            hits = hits[min(skipped, sum(row[0] == str(after.file_id) for row in hits)) :]
        rows += hits
        first, windows, seen = successor(last), windows + 1, seen + size
    if len(rows) <= limit:
        return Found(_hits(index, rows), None if first is None else Place(last))
    shown = rows[:limit]
    file_id = UUID(shown[-1][0])
    given = sum(row[0] == shown[-1][0] for row in shown) + (skipped if after and after.file_id == file_id else 0)
    return Found(_hits(index, shown), Place(file_id, given))


def _start(after: Place | None) -> UUID | None:
    """Return the first recording that may have hits."""
    if after is None:
        return UUID(int=0)
    return successor(after.file_id) if after.hits is None else after.file_id


def _candidates(
    index: Index, phrases: Sequence[Words], model: str | None, first: UUID, size: int
) -> tuple[list[tuple[Any, ...]], UUID]:
    """Return texts that have the letters of every word, of `first` and what follows, and up to which recording."""
    ends = index.run("SELECT file_id FROM base.files WHERE file_id >= ? LIMIT 1 OFFSET ?", [first, size - 1]).fetchall()
    last = ends[0][0] if ends else LAST
    words = {word for phrase in phrases for word in phrase}
    and_ = "".join(f" AND contains({_FOLDED_TEXT}, ?)" for _ in words)
    values = [*words]
    if model is not None:
        and_, values = f"{and_} AND model = ?", [*values, model]
    within = Range(index, first, last, scan=True)
    sides = [
        within.first_of_base("utterances", _COLUMNS, CANDIDATES, and_, values),
        within.tail("utterances", _COLUMNS, f"{and_} ORDER BY file_id LIMIT {CANDIDATES}", values),
    ]
    cuts = [UUID(side[-1][0]) for side in sides if len(side) == CANDIDATES]
    if cuts and min(cuts) == first:
        return Range(index, first, first, scan=True).rows("utterances", _COLUMNS, and_, values), first
    if cuts:
        last = UUID(int=min(cuts).int - 1)
    whole = [*within.kept(sides[0]), *sides[1]]
    return [row for row in whole if row[0] <= str(last)], last


def _of_latest(index: Index, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return those rows that are of latest references, in order."""
    if not rows:
        return []
    ids = [UUID(file_id) for file_id in sorted({row[0] for row in rows})]
    latest = latest_in(index, Range(index, ids[0], ids[-1], only=ids))
    order = ((row[0], row[2], row[3], row[4], row[6], row) for row in rows if latest.get(row[0], (0, 0))[0] == row[1])
    return [row for *_, row in sorted(order, key=lambda item: item[:-1])]


def _has(folded_text: str, phrases: Sequence[Words]) -> bool:
    words = _WORD.findall(folded_text)
    return all(
        any(tuple(words[at : at + len(phrase)]) == phrase for at in range(len(words) - len(phrase) + 1))
        for phrase in phrases
    )


def _hits(index: Index, rows: Sequence[tuple[Any, ...]]) -> list[Hit]:
    """Return rows with what is known of their recordings."""
    ids = [UUID(file_id) for file_id in sorted({row[0] for row in rows})]
    chosen = rows_of(index, ids, scan=False)
    listed = Listing(index).read(chosen, Wanted(), Shown(predictions=False), sparse=True)
    known = {str(one.recording.file_id): one.recording for one in listed}
    hits = []
    for file_id, _, channel, start_s, end_s, text, model, model_version, _ in rows:
        recording = known[file_id]
        assert recording.reference is not None  # noqa: S101  for the type checker: its rows are of it
        named = (recording.file_id, recording.name, channel, start_s, end_s, text, model, model_version)
        hits.append(Hit(*named, recording.reference))
    return hits
