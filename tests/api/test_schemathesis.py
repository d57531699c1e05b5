"""Whatever OpenAPI promises is kept: schemathesis asks every route for what is allowed, and for what is not.

Routes are taken from the schema, so one that is new is asked as well. One that never ends is left out: see
`_is_endless`.
"""

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import CHECKS, load_all_checks

from api.app import create_app
from storage.erasure import erase
from storage.lake import Lake
from storage.log import GroupModel
from storage.settings import Settings
from tests.serving import serving
from tests.storage.conftest import Author
from tests.storage.whole import take_in

MAX_EXAMPLES: Final = 10  # of each operation, beside those that cover every rule of its parameters once

EXCEPTIONS: Final[dict[tuple[str, str], str]] = {
    ("upload", "positive_data_acceptance"): "422 refuses bytes that are no recording: no schema can say what is one",
    ("upload_to_s3", "not_a_server_error"): "501 names the settings that are missing: no bucket is set up here",
}
"""Checks that an operation does not pass, each with the decision behind it."""

NOT_THERE: Final = ["401", "403", "404", "409", "410", "429"]
"""Answers to requests that are valid all the same. 410 is beyond what schemathesis takes for it: as with 404, no schema
can say which recordings were erased and which references have expired."""

ACCEPTED, ERASED, SPARE, REJECTED, PENDING = "accepted", "erased", "to be erased", "no audio", "just arrived"
OLD, NEW = UUID(int=1), UUID(int=2)


def id_of(name: str) -> str:
    """Return the id of the recording whose bytes are `name`."""
    return str(UUID(hashlib.sha256(name.encode()).hexdigest()[:32]))


KNOWN: Final = {
    "file_id": [id_of(name) for name in (ACCEPTED, REJECTED, PENDING, ERASED)],
    "model": ["m"],
    "utterance": ["call"],
} | {name: [str(OLD), str(NEW)] for name in ("reference", "a", "b")}
"""Values of parameters that lead to something; chance would never find them."""

load_all_checks()


def narrowed(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema with what there is among the values of its parameters; what is deleted is a spare recording."""
    for operations in schema["paths"].values():
        for method, operation in operations.items():
            for parameter in operation.get("parameters", []):
                known = [id_of(SPARE)] if method == "delete" else KNOWN.get(parameter["name"])
                if known:
                    parameter["schema"].pop("examples", None)
                    parameter["schema"] = {"anyOf": [{"enum": known}, parameter["schema"]]}
    return schema


def _is_endless(context: Any) -> bool:
    """Say whether an operation answers with a stream of events: it would never end, and has tests of its own."""
    responses = context.operation.definition.raw["responses"].values()
    return any("text/event-stream" in response.get("content", {}) for response in responses)


SCHEMA: Final = schemathesis.openapi.from_dict(
    narrowed(create_app(Settings(_env_file=None)).openapi()),
    config=schemathesis.Config.from_dict(
        {
            "seed": 1,
            "generation": {"deterministic": True},
            "checks": {"positive_data_acceptance": {"expected-statuses": ["2xx", "3xx", "5xx", *NOT_THERE]}},
        }
    ),
).exclude(_is_endless)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, requests.Session]]:
    """A server over a lake with recordings of every status, and two references; and a session of a client."""
    root = tmp_path_factory.mktemp("lake")
    fill(root)
    app = create_app(Settings(_env_file=None, AUDIOPHILE_DATA=root, PREFECT_API_URL="http://127.0.0.1:9/api"))  # type: ignore[call-arg]
    with serving(app) as http, requests.Session() as session:
        session.trust_env = False
        yield str(http.base_url).rstrip("/"), session


def fill(root: Path) -> None:
    lake = Lake.open(root)
    with lake.index() as index:
        author = Author(lake, index)
        ids = take_in(author, ACCEPTED, ERASED, SPARE)
        author.ingest(REJECTED, status="rejected")
        lake.media.add(io.BytesIO(REJECTED.encode()))
        for version, reference, label in (("v1", OLD, "call"), ("v2", NEW, "is")):
            phrases = {"phrases": [label]}
            author.commit("group", group=(GroupModel("m", version, "phrases", True, phrases),))
            row = {"model": "m", "model_version": version, "channel": 0, "utterance": 0, "start_s": 0.25, "end_s": 0.5}
            author.commit(
                "refresh",
                reference=reference,
                counts={"files": len(ids)},
                coverage=[author.coverage_row(id_, "m", version, predictions=1) for id_ in ids],
                utterances=[row | {"file_id": id_, "text": label} for id_ in ids],
                predictions=[row | {"file_id": id_, "label": label, "confidence": 0.95} for id_ in ids],
            )
        author.baseline(ids[:1])
        author.window(ids[1:], "drift", "no_drift")
        author.model_change(NEW)
        erase(lake, index, [UUID(id_of(ERASED))], UUID(int=3))
    lake.inbox.add(lake.media.add(io.BytesIO(PENDING.encode())), "new.wav")


@SCHEMA.parametrize()
@settings(max_examples=MAX_EXAMPLES, derandomize=True, suppress_health_check=list(HealthCheck))
def test_an_operation_keeps_its_promises(case: Any, server: tuple[str, requests.Session]) -> None:
    base_url, session = server
    name = case.operation.definition.raw["operationId"]
    excluded = CHECKS.get_by_names([check for operation, check in EXCEPTIONS if operation == name])
    case.call_and_validate(base_url=base_url, session=session, excluded_checks=excluded, timeout=30)


def test_every_exception_is_of_an_operation_and_a_check_that_there_are() -> None:
    operations = {result.ok().definition.raw["operationId"] for result in SCHEMA.get_all_operations()}
    assert {operation for operation, _ in EXCEPTIONS} <= operations
    assert {check for _, check in EXCEPTIONS} <= set(CHECKS.get_all_names())
