"""Every error that a client can get, and the one place where it becomes an answer (RFC 9457).

Problem                       500
├── MalformedProblem          400
├── KeyRequiredProblem        401
├── ForbiddenProblem          403
├── CrossSiteProblem          403
├── NotFoundProblem           404
├── MethodProblem             405
├── NotAcceptableProblem      406
├── SlowProblem               408
├── GoneProblem               410
├── TooLargeProblem           413
├── LongAddressProblem        414
├── MediaTypeProblem          415
├── RangeProblem              416
├── ForeignHostProblem        421
├── InvalidProblem            422
├── UnusableUploadProblem     422
├── LongHeadersProblem        431
├── NotConfiguredProblem      501
├── StoreProblem              503
├── BehindProblem             503
├── BusyProblem               503
└── StreamsProblem            503
"""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, ClassVar, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.answers import JSON
from storage.errors import ExpiredReferenceError, StorageError, UnknownReferenceError

log = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = 5
SHOWN_CHARACTERS: Final = 100


class Problem(Exception):  # noqa: N818  RFC 9457's own word
    """Something failed that no client can do anything about; the server's log says what."""

    status: ClassVar[HTTPStatus] = HTTPStatus.INTERNAL_SERVER_ERROR
    kind: ClassVar[str] = "internal"
    title: ClassVar[str] = "Something failed on the server"
    example: ClassVar[str] = "The server's log says what."
    headers: ClassVar[Mapping[str, str]] = {}

    def __init__(self, detail: str, **members: Any) -> None:
        super().__init__(detail)
        self.detail, self.members = detail, members


class MalformedProblem(Problem):
    """The request cannot be read as HTTP or as what its headers say that it is."""

    status = HTTPStatus.BAD_REQUEST
    kind = "malformed"
    title = "The request cannot be read"
    example = "The body ends before its closing boundary: nothing was stored, send it again"


class KeyRequiredProblem(Problem):
    """The request came with no key, or with one that this server does not know (AUDIOPHILE_API_KEYS)."""

    status = HTTPStatus.UNAUTHORIZED
    kind = "key-required"
    title = "A key is needed"
    example = "This needs a key: send one as `Authorization: Bearer <key>` or `X-API-Key: <key>`"
    headers: ClassVar[Mapping[str, str]] = {"WWW-Authenticate": 'Bearer realm="audiophile"'}


class ForbiddenProblem(Problem):
    """The key is known, and lacks the scope that the request needs: read (GET), upload (POST) or delete (DELETE)."""

    status = HTTPStatus.FORBIDDEN
    kind = "forbidden"
    title = "The key may not do this"
    example = "DELETE needs the scope `delete`, and this key has `read`: add it to the key in AUDIOPHILE_API_KEYS"


class CrossSiteProblem(Problem):
    """A web page of another origin asked a server without keys to change something; API_CORS_ORIGINS lets it."""

    status = HTTPStatus.FORBIDDEN
    kind = "cross-site"
    title = "Another site may not do this"
    example = (
        "A page of 'https://elsewhere.example' may not POST here: add its origin to API_CORS_ORIGINS, or ask without a "
        "browser"
    )


class NotFoundProblem(Problem):
    """There is no such route, file, model or reference."""

    status = HTTPStatus.NOT_FOUND
    kind = "not-found"
    title = "Not found"
    example = "No file '42'; 17 files are known, listed at http://localhost:8000/api/files"


class MethodProblem(Problem):
    """The route exists and does not know the method; `Allow` names those that it knows."""

    status = HTTPStatus.METHOD_NOT_ALLOWED
    kind = "method-not-allowed"
    title = "The method is not allowed"
    example = "Method Not Allowed"


class NotAcceptableProblem(Problem):
    """`Accept` allows nothing that there is; `available` has what there is."""

    status = HTTPStatus.NOT_ACCEPTABLE
    kind = "not-acceptable"
    title = "Not acceptable"
    example = "Accept: 'text/csv' allows none of application/json, application/vnd.apache.parquet"


class SlowProblem(Problem):
    """The body of the request did not arrive in time."""

    status = HTTPStatus.REQUEST_TIMEOUT
    kind = "too-slow"
    title = "The request takes too long"
    example = (
        "1024 bytes of the body arrived within 31 s. The limit is a pause of 30 s, and 1000 bytes/s on average: "
        "send it again"
    )


class GoneProblem(Problem):
    """There was one, and it is not kept any more."""

    status = HTTPStatus.GONE
    kind = "gone"
    title = "Not kept any more"
    example = "The file e5a26b3d-29e5-b0bc-8dbd-72c11d16a380 was erased"


class TooLargeProblem(Problem):
    """The body of the request is larger than the limit that the detail names."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    kind = "too-large"
    title = "The request is too large"
    example = "The body has more than 65536 bytes, the limit of this route: send less"


class LongAddressProblem(Problem):
    """Path and query are longer than the limit that the detail names."""

    status = HTTPStatus.REQUEST_URI_TOO_LONG
    kind = "address-too-long"
    title = "The address is too long"
    example = "Path and query have 9001 bytes, and the limit is 8192"


class MediaTypeProblem(Problem):
    """The body is of another type than the route takes, or has none; the detail shows how to send it."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    kind = "unsupported-media-type"
    title = "The body is of another type"
    example = "The body has no Content-Type: send it as multipart/form-data with the recording in the field `file`"
    headers: ClassVar[Mapping[str, str]] = {"Accept": "multipart/form-data"}


class RangeProblem(Problem):
    """Every range that `Range` asks for lies beyond the end of the file, whose size `Content-Range` has."""

    status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
    kind = "range-not-satisfiable"
    title = "The file is shorter"
    example = "The file has 318764 bytes: ask for some of them, or leave `Range` out"


class ForeignHostProblem(Problem):
    """A server without keys was asked under a name that is not its own: a page may have had that name point here."""

    status = HTTPStatus.MISDIRECTED_REQUEST
    kind = "foreign-host"
    title = "Asked under another name"
    example = (
        "Without keys this server answers under localhost and the host of BASE_URL only, not under "
        "'elsewhere.example': set BASE_URL or AUDIOPHILE_API_KEYS"
    )


class InvalidProblem(Problem):
    """A parameter or field is missing or out of its bounds; `errors` names each with its value and limit."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    kind = "invalid-request"
    title = "The request is not valid"
    example = "query.min_confidence: Input should be less than or equal to 1, and is '1.5'"


class UnusableUploadProblem(Problem):
    """The upload cannot be a recording; nothing of it was stored."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    kind = "unusable-upload"
    title = "The upload cannot be used"
    example = "'a.wav' is empty: send the bytes of a recording in the field `file`"


class LongHeadersProblem(Problem):
    """The headers of the request are longer than the limit that the detail names."""

    status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    kind = "headers-too-long"
    title = "The headers are too long"
    example = "The headers have 40000 bytes, and the limit is 32768"


class NotConfiguredProblem(Problem):
    """The server has not been set up for this; the detail names the settings that are missing."""

    status = HTTPStatus.NOT_IMPLEMENTED
    kind = "not-configured"
    title = "Not configured"
    example = "Uploads to S3 need settings that are missing: AWS_S3_BUCKET."


class StoreProblem(Problem):
    """The disk or bucket failed; nothing was done, and the same request may succeed later."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    kind = "storage-unavailable"
    title = "The store cannot be used"
    example = "s3://lake at http://localhost:9000: cannot be listed"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": str(RETRY_AFTER_S)}


class BehindProblem(Problem):
    """The index cannot follow the log: answers may be old."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    kind = "behind"
    title = "The index is behind the log"
    example = "The log was last read 31.2 s ago, and the limit is 30 s"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": str(RETRY_AFTER_S)}


class BusyProblem(Problem):
    """More requests are under way than API_MAX_REQUESTS."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    kind = "busy"
    title = "Too many requests at once"
    example = "1000 requests are under way, the limit (API_MAX_REQUESTS): try again"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "1"}


class StreamsProblem(Problem):
    """As many streams of events are open as this server allows."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    kind = "too-many-streams"
    title = "Too many streams are open"
    example = "200 streams of events are open, the limit: close one, or try again later"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": str(RETRY_AFTER_S)}


class ProblemAnswer(BaseModel):
    """An error as clients get it (RFC 9457); some have members of their own."""

    model_config = ConfigDict(title="Problem", extra="allow")

    type: str = Field(description="Says what kind it is, and where that is explained.", examples=["/problems/gone"])
    title: str = Field(description="The kind in words.", examples=["Not kept any more"])
    status: int = Field(description="The HTTP status.", examples=[410])
    detail: str = Field(description="What happened, and what to do.", examples=[GoneProblem.example])
    instance: str = Field(description="The path that was asked for.", examples=["/api/files"])


def problem_kinds() -> dict[str, type[Problem]]:
    """Return every kind of problem by its name in `type`."""
    kinds: list[type[Problem]] = [Problem, *Problem.__subclasses__()]
    return {each.kind: each for each in kinds}


def problems(*kinds: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI says of the problems of a route: `responses=problems(NotFoundProblem, GoneProblem)`."""
    responses: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        answer = responses.setdefault(
            int(kind.status),
            {
                "description": "",
                "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}},
            },
        )
        meaning = (kind.__doc__ or "").strip()
        answer["description"] = f"{answer['description']} {meaning}".strip()
        answer["content"][MEDIA_TYPE]["examples"][kind.kind] = {
            "summary": kind.title,
            "value": body_of(kind(kind.example), "/api/files"),
        }
        if kind.headers:
            answer["headers"] = {
                name: {"schema": {"type": "string"}, "example": value} for name, value in kind.headers.items()
            }
    return responses


def body_of(problem: Problem, path: str) -> dict[str, Any]:
    """Return a problem as clients get it."""
    return {
        "type": f"/problems/{problem.kind}",
        "title": problem.title,
        "status": int(problem.status),
        "detail": problem.detail,
        "instance": path,
        **problem.members,
    }


def shown(value: object) -> str:
    """Return a value that came from outside as text that is safe to show: escaped, and not long."""
    text = repr(value)
    if len(text) <= SHOWN_CHARACTERS:
        return text
    return f"{text[:SHOWN_CHARACTERS]}… ({len(text)} characters)"


def answer_to(scope: Scope, error: Exception) -> Response:
    """Return the answer to an error, whatever it is. Bugs and errors of the store are logged."""
    headers: dict[str, str] = {}
    if isinstance(error, HTTPException):
        headers, error = dict(error.headers or {}), _of_http(error)
        if "Allow" in headers:
            headers["Allow"] = _allowed(scope, headers["Allow"])
    elif isinstance(error, RequestValidationError):
        error = _of_validation(error)
    elif isinstance(error, UnknownReferenceError):
        error = NotFoundProblem(str(error))
    elif isinstance(error, ExpiredReferenceError):
        error = GoneProblem(str(error))
    elif isinstance(error, StorageError):
        log.error("%s %s: %s", scope["method"], shown(scope["path"]), error)
        error = StoreProblem(str(error))
    elif not isinstance(error, Problem):
        log.error("%s %s failed", scope["method"], shown(scope["path"]), exc_info=error)
        error = Problem(Problem.example)
    return JSON(
        body_of(error, scope["path"]),
        status_code=int(error.status),
        media_type=MEDIA_TYPE,
        headers=dict(error.headers) | headers,
    )


def answer_problems(app: FastAPI) -> None:
    """Answer every error of `app`'s routes as application/problem+json."""

    async def answer(request: Request, error: Exception) -> Response:
        return answer_to(request.scope, error)

    for kind in (Problem, HTTPException, RequestValidationError, StorageError, Exception):
        app.add_exception_handler(kind, answer)


class AnswerProblems:
    """Middleware: answers what is raised before a route is reached, or by a bug, where it still can be answered."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        started = False

        async def note(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, note)
        except Exception as error:
            if started or scope["type"] != "http":
                raise  # the connection is cut, and so the client knows
            await answer_to(scope, error)(scope, receive, send)


def _allowed(scope: Scope, methods: str) -> str:
    """Return all methods that a path knows; Starlette names only those of the first route that has the path."""
    path = getattr(scope.get("route"), "path", "").rstrip("/")
    documented = scope["app"].openapi()["paths"].get(path, {})
    known = {*methods.split(", "), *map(str.upper, documented)}
    streams = "text/event-stream" in str(documented)
    return ", ".join(sorted(known | ({"HEAD"} if "GET" in known and not streams else set())))


def _of_http(error: HTTPException) -> Problem:
    """Return what Starlette and FastAPI say as a problem of ours."""
    of_status: dict[int, type[Problem]] = {
        int(each.status): each for each in (MethodProblem, NotFoundProblem, TooLargeProblem)
    }
    unknown = MalformedProblem if error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR else Problem
    return of_status.get(error.status_code, unknown)(str(error.detail))


def _of_validation(error: RequestValidationError) -> Problem:
    fields: list[dict[str, Any]] = []
    for item in error.errors():
        field = {"field": ".".join(str(part) for part in item["loc"]), "message": item["msg"]}
        if item["type"] != "missing":
            field["value"] = shown(item.get("input"))
        limits = {name: str(limit) for name, limit in item.get("ctx", {}).items() if name != "error"}
        fields.append(field | ({"limit": limits} if limits else {}))
    detail = "; ".join(
        f"{field['field']}: {field['message']}" + (f", and is {field['value']}" if "value" in field else "")
        for field in fields
    )
    return InvalidProblem(detail, errors=fields)
