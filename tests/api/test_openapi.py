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
PROBLEM = {"$ref": "#/components/schemas/Problem"}
VALIDATOR = Draft202012Validator(SCHEMA, format_checker=Draft202012Validator.FORMAT_CHECKER)


def every_operation(test: Any) -> Any:
    return pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())(test)


def parts(schema: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every object in the schema."""
    if isinstance(schema, dict):
        yield schema
    for part in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from parts(part)


def resolved(part: dict[str, Any]) -> dict[str, Any]:
    """Return what a reference to components refers to."""
    if "$ref" not in part:
        return part
    _, *names = part["$ref"].split("/")
    found = SCHEMA
    for name in names:
        found = found[name]
    return found


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
        described = resolved(response)
        assert described["description"], status
        if status >= "400":
            ((content_type, content),) = described["content"].items()
            assert (content_type, content["schema"]) == ("application/problem+json", PROBLEM), status
            assert all(example["value"]["status"] == int(status) for example in content["examples"].values())


def test_each_field_of_an_answer_is_described() -> None:
    for name, schema in SCHEMA["components"]["schemas"].items():
        for field, described in schema.get("properties", {}).items():
            assert described.get("description"), f"{name}.{field}"


def test_errors_of_the_framework_are_nowhere() -> None:
    assert "HTTPValidationError" not in str(SCHEMA)


def test_every_example_is_one() -> None:
    looked_at = 0
    for part in parts(SCHEMA):
        examples = part.get("examples", [])
        values = [one["value"] for one in examples.values()] if isinstance(examples, dict) else examples
        values = [*values, part["example"]] if "example" in part and "schema" in part else values
        schema = {**part.get("schema", part), "components": SCHEMA["components"]}
        for value in values:
            VALIDATOR.evolve(schema=schema).validate(value)
            looked_at += 1
    assert looked_at > 50
