"""Whole numbers and ordinals in English words. It must not know whether they are looked for or said."""

from typing import Final

SMALL: Final = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
DIGITS: Final = SMALL[:10]

TENS: Final = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
SCALES: Final = ("hundred", "thousand", "million", "billion")

_GROUPS: Final = ((10**9, "billion"), (10**6, "million"), (10**3, "thousand"), (10**2, "hundred"))
_ORDINALS: Final = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}


def cardinal(number: int) -> tuple[str, ...]:
    """Return the words of a whole number below a million millions, without "and"."""
    for size, name in _GROUPS:
        if number >= size:
            return (*cardinal(number // size), name, *(cardinal(number % size) if number % size else ()))
    if number < len(SMALL):
        return (SMALL[number],)
    return (TENS[number // 10 - 2], *((SMALL[number % 10],) if number % 10 else ()))


def ordinal(number: int) -> tuple[str, ...]:
    """Return the words of a place in an order: 21 is "twenty first"."""
    *rest, last = cardinal(number)
    regular = f"{last[:-1]}ieth" if last.endswith("y") else f"{last}th"
    return (*rest, _ORDINALS.get(last, regular))
