"""Rows as tables in Markdown. It must not know what they are of."""

import math
from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]


def table(rows: Sequence[Row]) -> str:
    """Return rows as a table in Markdown; a number that a column does not have is left empty."""
    if not rows:
        return "None.\n"
    names = list(rows[0])
    cells = [["" if row[name] is None else str(row[name]) for name in names] for row in rows]
    lines = [names, ["---"] * len(names), *cells]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def rounded(value: Any) -> Any:
    """Return a number as it is written: four digits behind the point, None for what is not a number."""
    if not isinstance(value, float):
        return value
    return None if math.isnan(value) else round(value, 4)
