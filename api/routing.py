"""How a route that only reads is registered: with and without a slash at its end, and for HEAD as well.

HEAD is answered as GET is; the server leaves the body out. Streams of events are no such route: they have no end.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar

from fastapi import APIRouter

Handler = TypeVar("Handler", bound=Callable[..., Any])
Responses = dict[int | str, dict[str, Any]]

_TEXT: Final = {"schema": {"type": "string"}}
_TAGGED: Final = {
    "ETag": {"description": "For `If-None-Match`: 304 where nothing has changed.", **_TEXT},
    "Cache-Control": {"description": "`private, no-cache`.", **_TEXT},
}
_PAGED: Final = {
    "Link": {
        "description": 'The next page, as `<url>; rel="next"` (RFC 8288). None on the last one.',
        **_TEXT,
    }
}
_UNCHANGED: Final = "The client has the answer already: `If-None-Match` has its ETag."


def reads(
    router: APIRouter, path: str, *, tagged: bool = True, paged: bool = False, **documented: Any
) -> Callable[[Handler], Handler]:
    """Register a handler for GET and HEAD of `path`, documented once.

    Args:
        router: Where.
        path: Without a slash at its end.
        tagged: Answers have an ETag, and 304 is one of them.
        paged: Answers have a header Link.
        documented: What FastAPI takes of a route.
    """
    responses: Responses = documented.pop("responses", {})
    headers = (_TAGGED if tagged else {}) | (_PAGED if paged else {})
    made: Responses = {200: {}, **({304: {"description": _UNCHANGED}} if tagged else {}), **responses}
    for status in (200, 206, 304):
        if headers and status in made:
            made[status] = {**made[status], "headers": headers | made[status].get("headers", {})}

    def register(handler: Handler) -> Handler:
        router.get(path, responses=made, **documented)(handler)
        router.get(f"{path}/", include_in_schema=False)(handler)
        for each in (path, f"{path}/"):
            router.head(each, include_in_schema=False)(handler)
        return handler

    return register
