"""The API describes itself whole: what a reader of /docs, or a generator of clients, needs of every route."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from api.app import create_app
from storage.settings import Settings

SCHEMA = create_app(Settings(_env_file=None)).openapi()
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, operations in SCHEMA["paths"].items()
    for method, operation in operations.items()
}
PROBLEM = {"$ref": "#/components/schemas/ProblemAnswer"}
VALIDATOR = Draft202012Validator(SCHEMA, format_checker=Draft202012Validator.FORMAT_CHECKER)


def every_operation(test: Any) -> Any:
    return pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())(test)


def parts(schema: Any, where: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every object in the schema, with its place."""
    if isinstance(schema, dict):
        yield where, schema
        for name, part in schema.items():
            yield from parts(part, f"{where}/{name}")
    elif isinstance(schema, list):
        for number, part in enumerate(schema):
            yield from parts(part, f"{where}/{number}")


def test_it_says_what_it_is() -> None:
    info = SCHEMA["info"]
    assert info["title"] == "Audiophile"
    assert re.fullmatch(r"\d+\.\d+\.\d+", info["version"])
    assert info["description"]
    assert info["license"]["identifier"] == "Apache-2.0"
    assert SCHEMA["servers"] == [{"url": "/"}]


def test_behind_another_address_it_says_which() -> None:
    settings = Settings(_env_file=None, BASE_URL="https://example.org/audio/")  # type: ignore[call-arg]
    assert create_app(settings).openapi()["servers"] == [{"url": "https://example.org/audio"}]


def test_each_operation_has_a_name_of_its_own() -> None:
    names = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z]+(_[a-z0-9]+)*", name) for name in names)


@every_operation
def test_an_operation_says_what_it_does(operation: dict[str, Any]) -> None:
    described = {tag["name"] for tag in SCHEMA["tags"] if tag["description"]}
    assert operation["tags"]
    assert set(operation["tags"]) <= described
    assert operation["summary"]
    assert operation["description"]


@every_operation
def test_each_parameter_is_described_and_is_never_null(operation: dict[str, Any]) -> None:
    for parameter in operation.get("parameters", []):
        assert parameter["description"], parameter["name"]
        assert {"type": "null"} not in parameter["schema"].get("anyOf", []), parameter["name"]


@every_operation
def test_each_answer_is_described_and_each_error_is_a_problem(operation: dict[str, Any]) -> None:
    takes_something = bool(operation.get("parameters")) or "requestBody" in operation
    assert {"500", "503"} <= operation["responses"].keys()
    assert ("422" in operation["responses"]) == takes_something
    for status, response in operation["responses"].items():
        assert response["description"], status
        assert response["description"] != "Successful Response" or status.startswith("2")
        if status >= "400":
            assert response["content"] == {"application/problem+json": {"schema": PROBLEM}}, status


def test_each_field_of_an_answer_is_described() -> None:
    for name, schema in SCHEMA["components"]["schemas"].items():
        for field, described in schema.get("properties", {}).items():
            assert described.get("description"), f"{name}.{field}"


def test_errors_of_the_framework_are_nowhere() -> None:
    assert "HTTPValidationError" not in str(SCHEMA)


def test_every_example_is_one() -> None:
    looked_at = 0
    for where, part in parts(SCHEMA):
        for example in part.get("examples", []) if "properties" not in part else ():
            schema = part.get("schema", part)
            VALIDATOR.evolve(schema={**schema, "components": SCHEMA["components"]}).validate(example)
            looked_at += 1
        if "example" in part:
            pytest.fail(f"{where}: OpenAPI 3.1 has examples")
    assert looked_at > 50
