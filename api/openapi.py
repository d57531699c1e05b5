"""What OpenAPI says beyond the routes' own words: keys, and the errors that any route may answer.

It must not know single routes.
"""

from collections.abc import Callable
from typing import Any, Final

from fastapi import FastAPI
from fastapi.routing import APIRoute

from api.problems import (
    MEDIA_TYPE,
    BusyProblem,
    CrossSiteProblem,
    ForbiddenProblem,
    ForeignHostProblem,
    InvalidProblem,
    KeyRequiredProblem,
    LongAddressProblem,
    LongHeadersProblem,
    MalformedProblem,
    Problem,
    ProblemAnswer,
    SlowProblem,
    StoreProblem,
    TooLargeProblem,
    problems,
)

SCHEMES: Final = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A key of AUDIOPHILE_API_KEYS. GET needs its scope `read`, POST `upload`, DELETE `delete`.",
    },
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key."},
}

TAGS: Final = [
    {"name": "files", "description": "Recordings with the predictions of their latest reference."},
    {"name": "search", "description": "Utterances by the words of their texts."},
    {"name": "uploads", "description": "Recordings in."},
    {
        "name": "references",
        "description": "A reference is one refresh: what the model group said of recordings at one time. None of them "
        "changes, and older ones stay readable for as long as they are kept.",
    },
    {
        "name": "drift",
        "description": "New recordings come in windows, each of which is compared once with a baseline. A new version "
        "of a model is compared with the older one on the same recordings, which is never drift.",
    },
    {"name": "models", "description": "The model group."},
    {"name": "audio", "description": "Recordings to be heard, and their waveforms to be seen."},
    {"name": "events", "description": "What happens, as it happens."},
    {"name": "operations", "description": "For who runs the service."},
]

_ANY: Final = problems(
    MalformedProblem,
    TooLargeProblem,
    LongAddressProblem,
    ForeignHostProblem,
    LongHeadersProblem,
    Problem,
    StoreProblem,
    BusyProblem,
)
_BODY: Final = problems(SlowProblem)
_KEY: Final = problems(KeyRequiredProblem, ForbiddenProblem, CrossSiteProblem)
_INVALID: Final = problems(InvalidProblem)


def operation_id(route: APIRoute) -> str:
    """Return what a generated client calls a route: the name of its handler."""
    return route.name


def describe(app: FastAPI, *, keys: bool, is_open: Callable[[str], bool]) -> None:
    """Complete what `app` says of itself in /openapi.json.

    Args:
        app: The application, whose routes may be added later.
        keys: Whether it needs keys.
        is_open: Says whether a path needs none in any case.
    """
    plain = app.openapi

    def complete() -> dict[str, Any]:
        if app.openapi_schema:
            return app.openapi_schema
        document = plain()
        components = document.setdefault("components", {})
        schemas = components.setdefault("schemas", {})
        schemas["Problem"] = ProblemAnswer.model_json_schema()
        components["securitySchemes"] = SCHEMES
        components["responses"] = {str(status): answer for status, answer in (_ANY | _BODY | _KEY | _INVALID).items()}
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                _complete(operation, method, keys=keys, is_open=is_open(path))
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        return document

    app.openapi = complete  # type: ignore[method-assign]  # as FastAPI's manual has it


def _complete(operation: dict[str, Any], method: str, *, keys: bool, is_open: bool) -> None:
    _without_null(operation)
    answers = operation["responses"]
    invalid = answers.get("422", {}).get("content", {}).get("application/json", {}).get("schema", {})
    if invalid.get("$ref", "").endswith("/HTTPValidationError"):
        answers["422"] = {"$ref": "#/components/responses/422"}
    common = _ANY | ({} if is_open else _KEY) | (_BODY if method == "post" else {})
    for status, known in common.items():
        own = answers.setdefault(str(status), {"$ref": f"#/components/responses/{status}"})
        if "$ref" not in own:
            _join(own, known)
    schemes: list[dict[str, list[str]]] = [{name: []} for name in SCHEMES]
    operation["security"] = [{}] if is_open else schemes if keys else [*schemes, {}]


def _join(own: dict[str, Any], common: dict[str, Any]) -> None:
    """Add to a route's own problems of a status those that every route has with it."""
    if common["description"] in own["description"]:
        return
    own["description"] = f"{own['description']} {common['description']}"
    own["headers"] = common.get("headers", {}) | own.get("headers", {})
    examples = own["content"][MEDIA_TYPE].setdefault("examples", {})
    examples.update(common["content"][MEDIA_TYPE]["examples"] | examples)


def _without_null(operation: dict[str, Any]) -> None:
    """Take `null` from what a parameter may be: one without a value is left out."""
    for parameter in operation.get("parameters", ()):
        schema = parameter["schema"]
        options = [one for one in schema.get("anyOf", ()) if one != {"type": "null"}]
        if len(options) == 1:
            del schema["anyOf"]
            schema.update(options[0])
