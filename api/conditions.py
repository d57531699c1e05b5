"""Whether a client has already what it asks for (RFC 9110, 13.1.2). It must not know what that is."""

import re
from typing import Final

from fastapi import Request

_TAG: Final = re.compile(r'(?:W/)?("[^"]*")')


def is_known(etag: str, request: Request) -> bool:
    """Say whether the header `If-None-Match` names `etag`; weakly compared, as it is meant to be."""
    named = ", ".join(request.headers.getlist("if-none-match")).strip()
    return named == "*" or etag.removeprefix("W/") in _TAG.findall(named)
