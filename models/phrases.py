"""Phrases in text: what counts as a word, and where a phrase stands. It must not know how the text came about."""

import itertools
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from models.numbers import SMALL
from models.sayings import Way, ways

MAX_CHARACTERS: Final = 200  # of a phrase
MAX_READINGS: Final = 64  # of one phrase

_LETTERS: Final = r"(?:[^\W_][\u0300-\u036f]*)+"  # with combining accents, if they are written apart
_WORD: Final = re.compile(rf"{_LETTERS}(?:'{_LETTERS})*")
_HYPHENS: Final = "-\N{HYPHEN}\N{NON-BREAKING HYPHEN}"


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a text, lower case, and its place in it."""

    text: str
    start: int  # characters
    end: int
    mark: str = ""  # `.`, `,` or `-`, if it alone is between this word and the next one; or the `%` behind it


@dataclass(frozen=True, slots=True)
class _Reading:
    """One way to say a phrase, its words run together."""

    letters: str
    bounds: frozenset[int]  # between words, and both ends
    fixed: frozenset[int]  # those of words of one letter


def words_of(text: str) -> list[Word]:
    """Return the words of `text`: letters and digits, with apostrophes inside. Case and accents' forms do not count."""
    text = text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    matches = list(_WORD.finditer(text))
    starts = [*(match.start() for match in matches[1:]), len(text)] if matches else []
    return [
        Word(
            unicodedata.normalize("NFKC", match.group()).casefold(),
            match.start(),
            match.end(),
            _mark(text[match.end() : behind]),
        )
        for match, behind in zip(matches, starts, strict=True)
    ]


def find_phrase(phrase: str, words: Sequence[Word]) -> Iterator[tuple[int, int]]:
    """Yield each place of `phrase` in `words`, as (first word, one past the last word).

    A phrase begins and ends where words do. On either side, case, punctuation and these do not count:

    - joints: "voicemail" is "voice-mail" and "voice mail". But letters that are spelled out make no word, and no word
      is letters that are spelled out: "I.T." is not "it". A letter that a hyphen joins to a word is no such: "e-mail";
    - numbers: "25" is "twenty-five" and "two five"; "205" is "two hundred five" and "two hundred and five"; "1500" is
      "1,500", "fifteen hundred" and "one thousand five hundred"; "100" is "a hundred"; "1984" is "nineteen
      eighty-four"; "3.5" is "three point five"; "oh" between numbers is "0";
    - "1st" is "first", "50%" is "fifty percent" and "per cent", "10am" is "ten a.m.".

    Punctuation between digits may be silent, so that "3.5" and "3-5" are "35" too, said digit by digit. A part of a
    number is in its words and not in its digits: "5" is in "twenty-five", not in "25". What is not known to be the
    same: "double five", "half", "quarter past", "1/2", "-5", "$5", "IV", "Dr.", and other spellings ("colour").
    """
    read = _readings(phrase)
    said = _ways(tuple(words))
    for first in range(len(said) if read else 0):
        last = max(_end(reading, said, first) for reading in read)
        if last:
            yield first, last


def spellings(phrase: str) -> list[str]:
    """Return how a recogniser may write a phrase: in the midst of a sentence or at its start, numbers either way."""
    words = words_of(phrase)
    plain = [word.text for word in words]
    written = {" ".join(plain), phrase.strip(), *map(" ".join, _spoken(words))}
    written.add(" ".join(str(SMALL.index(word)) if word in SMALL else word for word in plain))
    return sorted(spelling for text in written for spelling in {text, text[:1].upper() + text[1:]} if spelling)


def _mark(gap: str) -> str:
    if gap.lstrip().startswith("%"):
        return "%"
    return "-" if gap and gap in _HYPHENS else gap if gap in (".", ",") else ""


@lru_cache(maxsize=16)  # the same text is searched for each phrase
def _ways(words: tuple[Word, ...]) -> tuple[tuple[Way, ...], ...]:
    return ways([word.text for word in words], [word.mark for word in words])


def _spoken(words: Sequence[Word]) -> list[tuple[str, ...]]:
    """Return the ways to say a phrase, MAX_READINGS at most."""
    said = _ways(tuple(words))

    def onward(at: int) -> Iterator[tuple[str, ...]]:
        if at == len(said):
            yield ()
            return
        for way in said[at]:
            if words[at].mark == "%" and way.said[-1] != "percent":
                continue
            for rest in onward(way.end):
                yield (*way.said, *rest)

    return list(dict.fromkeys(itertools.islice(onward(0), MAX_READINGS)))


@lru_cache(maxsize=1024)
def _readings(phrase: str) -> tuple[_Reading, ...]:
    words = words_of(phrase)
    return tuple(_run_together(spoken) for spoken in _spoken(words)) if words else ()


def _run_together(spoken: tuple[str, ...]) -> _Reading:
    ends = list(itertools.accumulate(map(len, spoken), initial=0))
    spelled = [at for at, word in enumerate(spoken) if len(word) == 1]
    return _Reading(
        "".join(spoken), frozenset(ends), frozenset(end for at in spelled for end in (ends[at], ends[at + 1]))
    )


def _end(reading: _Reading, said: Sequence[Sequence[Way]], first: int) -> int:
    """Return one past the last of the words from `first` on that are said as `reading`; 0 where they are not."""
    begun = {first: {0}}  # by word: how many letters of the reading may be said before it
    for at in range(first, len(said)):
        for letters in begun.pop(at, ()):
            for way in said[at]:
                ahead = _ahead(reading, letters, way.said)
                if ahead:
                    begun.setdefault(way.end, set()).add(ahead)
        if len(reading.letters) in begun.get(at + 1, ()):
            return at + 1
        if not begun:
            break
    return 0


def _ahead(reading: _Reading, letters: int, spoken: tuple[str, ...]) -> int:
    """Return how many letters of a reading are said once `spoken` goes on with it; 0 if it does not."""
    for word in spoken:
        end = letters + len(word)
        if not reading.letters.startswith(word, letters):
            return 0
        if len(word) == 1 and not {letters, end} <= reading.bounds:
            return 0
        if any(letters < bound < end for bound in reading.fixed):
            return 0
        letters = end
    return letters
