"""The header `Content-Disposition` for names from anywhere (RFC 6266, RFC 8187). It must not know what is sent."""

import re
import unicodedata
from typing import Final
from urllib.parse import quote

MAX_CHARACTERS: Final = 120  # in bytes up to twelve times as much, and clients bound their headers
MAX_ENDING: Final = 12

_UNSAFE: Final = re.compile(r'[/\\:*?"<>|]')  # what ends folders somewhere, or is not allowed in names
_NOT_PLAIN: Final = re.compile(r"[^A-Za-z0-9 ._-]")
_ATTR_CHARS: Final = "!#$&+-.^_`|~"  # RFC 8187: what need not be escaped, beside letters and digits


def inline(name: str) -> str:
    """Return the header of what may be shown at once, and is kept under `name`, made harmless."""
    safe = harmless(name)
    plain = _NOT_PLAIN.sub("_", safe)
    return f"inline; filename=\"{plain}\"; filename*=UTF-8''{quote(safe, safe=_ATTR_CHARS)}"


def harmless(name: str) -> str:
    """Return a name without folders, and without what cannot be seen: controls, marks of direction."""
    shown = "".join("" if unicodedata.category(each) in ("Cc", "Cf", "Cs", "Co", "Cn") else each for each in name)
    safe = _UNSAFE.sub("_", shown).strip(" .") or "recording"
    if len(safe) <= MAX_CHARACTERS:
        return safe
    start, dot, ending = safe.rpartition(".")
    if not dot or len(ending) > MAX_ENDING:
        return safe[:MAX_CHARACTERS]
    return f"{start[: MAX_CHARACTERS - len(ending) - 1]}.{ending}"
