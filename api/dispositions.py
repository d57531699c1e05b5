"""What a part of a multipart body says of itself: which field it is, and what its file is called.

It must not make a path of a name. python_multipart's own parser of this header drops `filename*` and cuts what looks
like a path; here a name is shown as it is.
"""

import re
from typing import Final
from urllib.parse import unquote

from storage.inbox import readable

NAME_BYTES: Final = 1024
"""Names longer than this, in UTF-8, are cut at a whole character. No file system has longer ones."""

_PARAMETER: Final = re.compile(
    r"""; \s* ([\w!#$&+.^`|~-]+ \*?) \s* = \s*   # its name
        (?: "((?:[^"\\]|\\.)*)" (?=\s*(?:;|$))   # a quoted string
          | "([^"]*)"                            # one that ends in a backslash, as browsers write it
          | ([^;]*) )""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_BY_BROWSERS: Final = {"%22": '"', "%0D": "\r", "%0A": "\n"}
"""All that browsers encode in a name (WHATWG, "multipart/form-data encoding algorithm")."""


def read_disposition(value: bytes) -> tuple[str | None, str | None]:
    """Return field and file name of a header Content-Disposition; None for what it lacks.

    A name in `filename*` (RFC 8187) comes before the one in `filename`, which is UTF-8, or else Latin-1.
    """
    try:
        text = value.decode("utf-8", errors="surrogatepass")
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    found: dict[str, str] = {}
    for match in _PARAMETER.finditer(text):
        key, quoted, ending, plain = match.groups()
        if quoted is not None:
            quoted = re.sub(r'\\(["\\])', r"\1", quoted)
        found.setdefault(
            key.lower(), next(one for one in (quoted, ending, plain.strip() if plain else plain, "") if one is not None)
        )
    field, name = found.get("name"), found.get("filename")
    if name is not None:
        name = re.sub("%22|%0D|%0A", lambda part: _BY_BROWSERS[part[0].upper()], name, flags=re.IGNORECASE)
    return field, _shown(_extended(found.get("filename*", "")) or name)


def _extended(value: str) -> str | None:
    """Return the text of an extended value, `UTF-8''a%20b`; None where it is none."""
    charset, _, rest = value.partition("'")
    if charset.lower() not in ("utf-8", "iso-8859-1"):
        return None
    return unquote(rest.partition("'")[2], encoding=charset.lower()) or None


def _shown(name: str | None) -> str | None:
    if name is None:
        return None
    content = readable(name).encode()
    return content[:NAME_BYTES].decode(errors="ignore") if len(content) > NAME_BYTES else content.decode()
