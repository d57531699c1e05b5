"""How a route that only reads is registered: with and without a slash at its end, and for HEAD as well.

HEAD is answered as GET is; the server leaves the body out.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar

from fastapi import APIRouter

Handler = TypeVar("Handler", bound=Callable[..., Any])

_HEADERS: Final = {
    "ETag": {"description": "For `If-None-Match`: 304 where nothing has changed.", "schema": {"type": "string"}},
    "Cache-Control": {"description": "`private, no-cache`.", "schema": {"type": "string"}},
}
_LINK: Final = {
    "Link": {
        "description": 'With `limit`: the next page, as `<url>; rel="next"` (RFC 8288). None on the last page.',
        "schema": {"type": "string"},
    }
}


def reads(router: APIRouter, path: str, *, paged: bool = False, **documented: Any) -> Callable[[Handler], Handler]:
    """Register a handler for GET and HEAD of `path`, documented once; `paged` says that it has a header Link."""
    responses: dict[int | str, dict[str, Any]] = {
        200: {"headers": _HEADERS | (_LINK if paged else {})},
        304: {"description": "The client has the answer already: `If-None-Match` has its ETag.", "headers": _HEADERS},
    }
    documented["responses"] = responses | documented.get("responses", {})

    def register(handler: Handler) -> Handler:
        router.get(path, **documented)(handler)
        router.get(f"{path}/", include_in_schema=False)(handler)
        for each in (path, f"{path}/"):
            router.head(each, include_in_schema=False)(handler)
        return handler

    return register
