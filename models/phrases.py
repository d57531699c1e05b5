"""Phrases in text: what counts as a word, and where a phrase stands. It must not know how the text came about."""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_WORD: Final = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


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
    """Yield each place of `phrase` in `words`, as (first word, one past the last word)."""
    wanted = [word.text for word in words_of(phrase)]
    if not wanted:
        return
    for start in range(len(words) - len(wanted) + 1):
        if all(words[start + offset].text == text for offset, text in enumerate(wanted)):
            yield start, start + len(wanted)
