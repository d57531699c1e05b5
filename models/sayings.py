"""How written words are said: numbers above all. It must not know which words are looked for."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from models.numbers import SCALES, SMALL, TENS, cardinal, ordinal

MAX_DIGITS: Final = 6  # longer numbers are said digit by digit, unless commas part their thousands
MAX_GROUPS: Final = 4  # of three digits, which commas part

_NUMBER_WORDS: Final = frozenset((*SMALL, *TENS, *SCALES, *(ordinal(number)[-1] for number in range(100))))
_ORDINAL: Final = re.compile(rf"([0-9]{{1,{MAX_DIGITS}}})(?:st|nd|rd|th)")
_WITH_UNIT: Final = re.compile(r"([0-9]+)([^\W\d_]+)")
_HUNDREDS: Final = {
    words: number for number in range(11, 100) if number % 10 for words in (cardinal(number), (str(number),))
}


@dataclass(frozen=True, slots=True)
class Way:
    """One way to say the words up to `end`."""

    end: int  # one past the last word
    said: tuple[str, ...]


def ways(words: Sequence[str], marks: Sequence[str]) -> tuple[tuple[Way, ...], ...]:
    """Return for each word the ways to say it, and it with the words behind it.

    Args:
        words: In lower case.
        marks: What alone stands between each word and the next one: `.`, `,`, `-`; or `%` behind it; or nothing.
    """
    return tuple(
        (*_alone(words, marks, at), *_in_context(words, at), *_together(words, marks, at)) for at in range(len(words))
    )


def readings(word: str) -> list[tuple[str, ...]]:
    """Return how a word is said: numbers as a whole, digit by digit, and as years are; any other word as it is."""
    if match := _ORDINAL.fullmatch(word):
        return [ordinal(int(match[1]))]
    if match := _WITH_UNIT.fullmatch(word):
        return [(*number, match[2]) for number in readings(match[1])]
    if not _is_digits(word):
        return [(word,)]
    digits = tuple(SMALL[int(digit)] for digit in word)
    if len(word) > MAX_DIGITS or (word[0] == "0" and word != "0"):
        return [digits]
    found = [cardinal(int(word)), digits]
    if len(word) == 4 and word[2:] != "00":
        low = int(word[2:])
        found.append((*cardinal(int(word[:2])), *(("zero",) if low < 10 else ()), *cardinal(low)))
    return list(dict.fromkeys(found))


def _alone(words: Sequence[str], marks: Sequence[str], at: int) -> Iterator[Way]:
    for said in readings(words[at]):
        yield Way(at + 1, said)
        if marks[at] == "%":
            yield Way(at + 1, (*said, "percent"))
        if marks[at] == "." and _is_digits(words[at]) and _is_digits(_word(words, at + 1)):
            yield Way(at + 1, (*said, "point"))


def _in_context(words: Sequence[str], at: int) -> Iterator[Way]:
    word, before, after = words[at], _word(words, at - 1), _word(words, at + 1)
    if word == "a" and after in SCALES:
        yield Way(at + 1, ("one",))
    if word == "and" and before in SCALES and _is_number(after):
        yield Way(at + 1, ())
    if word in ("oh", "o") and all(_is_number(near) or near in ("oh", "o") for near in (before, after)):
        yield Way(at + 1, ("zero",))


def _together(words: Sequence[str], marks: Sequence[str], at: int) -> Iterator[Way]:
    word, after = words[at], _word(words, at + 1)
    if word in ("a", "p") and after == "m" and _is_number(_word(words, at - 1)):
        yield Way(at + 2, (f"{word}m",))
    if (word, after) == ("per", "cent"):
        yield Way(at + 2, ("percent",))
    if marks[at] == "-" and len(word) == 1 and len(after) > 1:  # e-mail
        yield Way(at + 2, (word + after,))
    for length in (1, 2):  # fifteen hundred
        number = _HUNDREDS.get(tuple(words[at : at + length]))
        if number and _word(words, at + length) == "hundred":
            yield Way(at + length + 1, cardinal(number * 100))
    end = at + 1
    while marks[end - 1] == "," and len(_word(words, end)) == 3 and _is_digits(words[end]):  # 5,000
        end += 1
    if 1 < end - at <= MAX_GROUPS and _is_digits(word) and len(word) <= 3 and word[0] != "0":
        yield Way(end, cardinal(int("".join(words[at:end]))))


def _word(words: Sequence[str], at: int) -> str:
    return words[at] if 0 <= at < len(words) else ""


def _is_digits(word: str) -> bool:
    return word.isascii() and word.isdecimal()


def _is_number(word: str) -> bool:
    return word in _NUMBER_WORDS or _is_digits(word)
