"""Values of settings, and what is said of one that is out of its bounds. It must not know whose settings they are."""

import sys
from collections.abc import Mapping
from typing import Final

LARGEST: Final = sys.float_info.max


def check_number(name: str, value: object, least: float = -LARGEST, most: float = LARGEST) -> None:
    """Refuse what is no number from `least` to `most`: text, a truth value, nan, infinities.

    Raises:
        TypeError: It is no number.
        ValueError: It is out of bounds.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"`{name}` must be a number, not {shown(value)}")
    if not least <= value <= most:
        bounds = "finite" if (least, most) == (-LARGEST, LARGEST) else f"from {least:g} to {most:g}"
        raise ValueError(f"`{name}` must be {bounds}, not {shown(value)}: change it")


def check_numbers(values: object, bounds: Mapping[str, tuple[float, float]]) -> None:
    """Refuse an object one of whose attributes is out of its bounds, as `check_number` does."""
    for name, (least, most) in bounds.items():
        check_number(name, getattr(values, name), least, most)


def check_text(name: str, value: object) -> None:
    """Refuse what is no text.

    Raises:
        TypeError: It is something else, or empty.
    """
    if not isinstance(value, str) or not value:
        raise TypeError(f"`{name}` must be a text in quotes, not {shown(value)}")


def shown(value: object) -> str:
    """Return a value as a message shows it: not longer than a line."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no integer of more than 4300 digits
        return "a number too long to show"
    return text if len(text) <= 80 else f"{text[:77]}..."
