"""Markdown as Prefect's UI shows it, with pictures in it. It must not know what is told.

Its /v2 pages (and the older ones) show `data:` images, and sanitise HTML. What anybody may have named, recordings,
labels and models, is written as code: elsewhere they make links even of escaped addresses.
"""

import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from typing import Final

LARGEST: Final = 480_000  # characters of a report; Prefect keeps every one in its database
LONGEST: Final = 80  # characters of a name


def code(text: str) -> str:
    """Return a text that may be anybody's as code in Markdown: one line, no link, no HTML, no end of a table's cell."""
    line = "".join(letter if letter.isprintable() else " " for letter in text).replace("|", "¦").strip()
    line = line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"
    if not line:
        return "(no name)"
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    return f"{fence} {line} {fence}" if line[0] == "`" or line[-1] == "`" else f"{fence}{line}{fence}"


def table(head: Sequence[str], cells: Iterable[Sequence[object]]) -> str:
    """Return a table; texts of its cells must be safe already."""
    lines = [head, ["---"] * len(head), *cells]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def folded(summary: str, content: str) -> list[str]:
    """Return a paragraph that opens at a click: empty lines around it make Markdown of what is inside."""
    return [f"<details><summary>{summary}</summary>", content, "</details>"]


def image(what: str, png: bytes) -> str:
    """Return a picture as a paragraph."""
    return f"![{what}](data:image/png;base64,{b64encode(png).decode()})"


def joined(parts: Sequence[str]) -> str:
    """Return paragraphs as one text; where it would be larger than LARGEST, the last pictures are left out."""
    room = LARGEST - sum(len(part) + 2 for part in parts if not part.startswith("!["))
    kept, left = [], 0
    for part in parts:
        if part.startswith("!["):
            room -= len(part) + 2
            if room < 0:
                left += 1
                continue
        kept.append(part)
    if left:
        kept.append(f"{left} pictures are left out: the report would be too large.")
    return "\n\n".join(kept)


def number(value: float | None) -> str:
    """Return a number with three digits that count, nothing for none."""
    return "" if value is None else f"{value:.3g}"
