"""Every error that a client can get, and the one place where it becomes an answer (RFC 9457).

Problem
├── NotFoundProblem         404
├── GoneProblem             410
├── NotConfiguredProblem    501
└── UnusableUploadProblem   422
"""

import logging
from http import HTTPStatus
from typing import Any, ClassVar

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from api.answers import JSON
from storage.errors import ExpiredReferenceError, StorageError, UnknownReferenceError

log = logging.getLogger(__name__)


class Problem(Exception):  # noqa: N818  RFC 9457's own word
    """An error that a client can do something about."""

    status: ClassVar[HTTPStatus] = HTTPStatus.INTERNAL_SERVER_ERROR
    kind: ClassVar[str] = "internal"
    title: ClassVar[str] = "Something failed on the server"

    def __init__(self, detail: str, **members: Any) -> None:
        super().__init__(detail)
        self.detail, self.members = detail, members


class NotFoundProblem(Problem):
    """There is no such file or model."""

    status = HTTPStatus.NOT_FOUND
    kind = "not-found"
    title = "Not found"


class GoneProblem(Problem):
    """There was one, and it is not kept any more."""

    status = HTTPStatus.GONE
    kind = "gone"
    title = "Not kept any more"


class NotConfiguredProblem(Problem):
    """The server has not been set up for this."""

    status = HTTPStatus.NOT_IMPLEMENTED
    kind = "not-configured"
    title = "Not configured"


class UnusableUploadProblem(Problem):
    """The upload cannot be a recording."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    kind = "unusable-upload"
    title = "The upload cannot be used"


def answer_problems(app: FastAPI) -> None:
    """Answer every error of `app` as application/problem+json."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(UnknownReferenceError, _unknown_reference)
    app.add_exception_handler(ExpiredReferenceError, _expired_reference)
    app.add_exception_handler(StorageError, _storage)
    app.add_exception_handler(Exception, _unexpected)


def _answer(
    request: Request,
    status: int,
    kind: str,
    title: str,
    detail: str,
    headers: dict[str, str] | None = None,
    **members: Any,
) -> Response:
    body = {
        "type": f"/problems/{kind}",
        "title": title,
        "status": int(status),
        "detail": detail,
        "instance": request.url.path,
        **members,
    }
    return JSON(body, status_code=int(status), media_type="application/problem+json", headers=headers)


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101  for the type checker; Starlette dispatches by class
    return _answer(request, error.status, error.kind, error.title, error.detail, **error.members)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    phrase = HTTPStatus(error.status_code).phrase
    kind = phrase.lower().replace(" ", "-")
    headers = dict(error.headers) if error.headers else None
    return _answer(request, error.status_code, kind, phrase, str(error.detail), headers)


async def _validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    fields = [{"field": ".".join(str(part) for part in item["loc"]), "message": item["msg"]} for item in error.errors()]
    detail = "; ".join(f"{item['field']}: {item['message']}" for item in fields)
    return _answer(request, 422, "invalid-request", "The request is not valid", detail, errors=fields)


async def _unknown_reference(request: Request, error: Exception) -> Response:
    return await _problem(request, NotFoundProblem(str(error)))


async def _expired_reference(request: Request, error: Exception) -> Response:
    return await _problem(request, GoneProblem(str(error)))


async def _storage(request: Request, error: Exception) -> Response:
    log.error("%s %s: %s", request.method, request.url.path, error)
    return _answer(request, 503, "storage-unavailable", "The store cannot be used", str(error))


async def _unexpected(request: Request, error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _answer(request, 500, "internal", "Something failed on the server", "The server's log says what.")
