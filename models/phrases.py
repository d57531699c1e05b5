"""Phrases in text: what counts as a word, and where a phrase stands. It must not know how the text came about."""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_LETTERS: Final = r"(?:[^\W_][\u0300-\u036f]*)+"  # with combining accents, if they are written apart
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

    Joints do not count: "voicemail" is found in "voice-mail" and "voice mail", and the other way round. But a phrase
    begins and ends where words do, and letters that are spelled out make no word.
    """
    wanted = [word.text for word in words_of(phrase)]
    length = sum(map(len, wanted))
    if not wanted:
        return
    for first in range(len(words)):
        said: list[str] = []
        while first + len(said) < len(words) and sum(map(len, said)) < length:
            said.append(words[first + len(said)].text)
        if said == wanted or ("".join(said) == "".join(wanted) and min(map(len, said)) > 1):
            yield first, first + len(said)
