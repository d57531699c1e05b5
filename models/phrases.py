"""Phrases in text: what counts as a word, and where a phrase stands. It must not know how the text came about."""

import itertools
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from models.numbers import SMALL, cardinal

_LETTERS: Final = r"(?:[^\W_][\u0300-\u036f]*)+"  # with combining accents, if they are written apart
MAX_DIGITS: Final = 6  # longer numbers are said digit by digit
MAX_READINGS: Final = 64  # of one phrase
MAX_CHARACTERS: Final = 200  # of one phrase

_WORD: Final = re.compile(rf"{_LETTERS}(?:'{_LETTERS})*")


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a text, lower case, and its place in it."""

    text: str
    start: int  # characters
    end: int


def words_of(text: str) -> list[Word]:
    """Return the words of `text`: letters and digits, with apostrophes inside. Case and accents' forms do not count."""
    text = text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    return [
        Word(unicodedata.normalize("NFKC", match.group()).casefold(), match.start(), match.end())
        for match in _WORD.finditer(text)
    ]


def find_phrase(phrase: str, words: list[Word]) -> Iterator[tuple[int, int]]:
    """Yield each place of `phrase` in `words`, as (first word, one past the last word).

    Numbers may be written either way: "five" is found in "5", and "25" in "twenty-five". Joints do not count:
    "voicemail" is found in "voice-mail" and "voice mail", and the other way round. But a phrase begins and ends where
    words do, and letters that are spelled out make no word.
    """
    wanted = [word.text for word in words_of(phrase)]
    if not wanted:
        return
    spoken = set(_spoken(wanted))
    length = sum(map(len, wanted))
    for first in range(len(words)):
        said: list[str] = []
        while first + len(said) < len(words) and sum(map(len, said)) < length:
            said.append(words[first + len(said)].text)
        last = first + len(said)
        if not (said == wanted or ("".join(said) == "".join(wanted) and min(map(len, said)) > 1)):
            last = max((_end(reading, words, first) for reading in spoken), default=0)
        if last:
            yield first, last


def spellings(phrase: str) -> list[str]:
    """Return how a recogniser may write a phrase: in the midst of a sentence or at its start, numbers either way."""
    words = [word.text for word in words_of(phrase)]
    written = {" ".join(words), phrase.strip()} | {" ".join(reading) for reading in _spoken(words)}
    written |= {" ".join(str(SMALL.index(word)) if word in SMALL else word for word in words)}
    return sorted(spelling for plain in written for spelling in {plain, plain[:1].upper() + plain[1:]} if spelling)


def readings(word: str) -> list[tuple[str, ...]]:
    """Return how a word is said: a number as such, and digit by digit; any other word as it is."""
    if not (word.isascii() and word.isdecimal()):
        return [(word,)]
    digits = tuple(SMALL[int(digit)] for digit in word)
    whole = cardinal(int(word)) if len(word) <= MAX_DIGITS and (word[0] != "0" or word == "0") else digits
    return [whole, digits] if whole != digits else [digits]


def _spoken(words: list[str]) -> Iterator[tuple[str, ...]]:
    """Yield the ways to say words, some of which are numbers."""
    for choice in itertools.islice(itertools.product(*map(readings, words)), MAX_READINGS):
        yield tuple(itertools.chain.from_iterable(choice))


def _end(reading: tuple[str, ...], words: list[Word], first: int) -> int:
    """Return one past the last of the words from `first` on that are said as `reading`; 0 where they are not."""
    said = {0}  # how much of the reading may be said by now
    for at in range(first, len(words)):
        said = {
            begun + len(part)
            for begun in said
            for part in readings(words[at].text)
            if reading[begun : begun + len(part)] == part
        }
        if len(reading) in said:
            return at + 1
        if not said:
            break
    return 0
