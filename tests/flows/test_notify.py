"""Events of drift reach the address in NOTIFY_URL, once each, through one automation of a real Prefect server."""

from collections.abc import Iterator
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.events import emit_event
from prefect.events.schemas.automations import AutomationCore
from prefect.events.worker import EventsWorker
from prefect.exceptions import ObjectNotFound

from flows.notify import (
    AUTOMATION,
    BLOCK,
    EVENTS,
    RESOURCE,
    SHOWN,
    Drifted,
    Notice,
    emit_drift,
    ensure_automation,
    text,
)
from storage.settings import Settings
from tests.flows.conftest import run_python
from tests.receiver import Receiver, receiver

# Apprise imports a module of the standard library that Python 3.13 lacks, and does without it there.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

WINDOW = UUID("5d7c0f6e-0d7a-4c3e-9b57-0f6a5e0c9a11")
REFERENCE = UUID("0c5be1a2-0f5b-4b7e-8f0e-5a6f3f6f7b22")
LOUDER = Drifted("level_dbfs", "ks", 0.61, 1.2e-9, 3.4e-6)
NOISIER = Drifted("noise_dbfs", "ks", 0.42, 5.6e-7, 3.4e-6)
STARTED = Notice(WINDOW, REFERENCE, "first", 2, (LOUDER, NOISIER))
ENDED = Notice(WINDOW, REFERENCE, "first", 2)
PUBLIC = "https://audio.example/calls"


def settings(address: str, on_drift: str = "log,notify") -> Settings:
    return Settings(_env_file=None, NOTIFY_URL=address, ON_DRIFT=on_drift)  # type: ignore[call-arg, arg-type]


def automations() -> list:
    with get_client(sync_client=True) as client:
        return client.read_automations_by_name(AUTOMATION)


def kept_address() -> str | None:
    with get_client(sync_client=True) as client:
        try:
            return client.read_block_document_by_name(BLOCK, "slack-webhook").data["url"]
        except ObjectNotFound:
            return None


def emit_other(event: str, resource: str = RESOURCE) -> None:
    emit_event(event, resource={"prefect.resource.id": resource}, payload={"subject": "other", "text": "other"})
    EventsWorker.instance().drain()


@pytest.fixture
def received(prefect_url: str) -> Iterator[Receiver]:
    with receiver() as receiving:
        yield receiving
    ensure_automation(settings(""))


def test_a_start_and_an_end_are_told_once_each_after_any_number_of_starts_of_the_service(received: Receiver) -> None:
    for _ in range(3):
        ensure_automation(settings(received.address("/drift")))
    assert len(automations()) == 1
    emit_other("audiophile.drift")
    emit_other("audiophile.drift.started.more")
    emit_other("audiophile.other")
    emit_other(EVENTS["started"], resource="somebody.elses")
    emit_drift("started", STARTED, PUBLIC)
    emit_drift("ended", ENDED, PUBLIC)
    received.wait(2)
    told = {body["title"]: (path, body["message"]) for path, body in received.received}
    assert told.keys() == {"Audiophile: drift has started (level_dbfs)", "Audiophile: drift has ended"}
    path, started = told["Audiophile: drift has started (level_dbfs)"]
    assert path == "/drift"
    assert "level_dbfs: ks 0.61, p 1.2e-09, threshold 3.4e-06." in started
    assert started.index("level_dbfs") < started.index("noise_dbfs")
    assert "the baseline first, version 2.\n" in started
    assert started.endswith(f"\n{PUBLIC}/api/drift\n{PUBLIC}/api/drift/{REFERENCE}")
    _, ended = told["Audiophile: drift has ended"]
    assert "do not differ any more" in ended
    assert f"{PUBLIC}/api/drift" in ended
    emit_drift("started", STARTED, PUBLIC)  # what has been sent before this has arrived before it
    assert len(received.wait(3)) == 3


def test_another_address_takes_the_place_of_the_old_one(received: Receiver) -> None:
    ensure_automation(settings(received.address("/old")))
    ensure_automation(settings(received.address("/new")))
    assert len(automations()) == 1
    emit_drift("started", STARTED, PUBLIC)
    assert [path for path, _ in received.wait(1)] == ["/new"]


@pytest.mark.parametrize(("has_address", "on_drift"), [(False, "log,notify"), (True, "log,quarantine")])
def test_without_an_address_or_notify_there_is_no_automation_and_no_address_is_kept(
    received: Receiver, has_address: bool, on_drift: str
) -> None:
    ensure_automation(settings(received.address("/drift")))
    assert kept_address() == received.address("/drift")
    for _ in range(2):
        ensure_automation(settings(received.address("/drift") if has_address else "", on_drift))
        assert automations() == []
        assert kept_address() is None
    emit_drift("started", STARTED, PUBLIC)
    ensure_automation(settings(received.address("/later")))
    emit_drift("ended", ENDED, PUBLIC)
    assert [path for path, _ in received.wait(1)] == ["/later"]


def test_a_second_automation_goes_and_a_pause_stays(received: Receiver) -> None:
    ensure_automation(settings(received.address("/drift")))
    with get_client(sync_client=True) as client:
        (made,) = automations()
        client.create_automation(AutomationCore.model_validate(made.model_dump()))
        assert len(automations()) == 2
        for automation in automations():
            client.pause_automation(automation.id)
    ensure_automation(settings(received.address("/drift")))
    (left,) = automations()
    assert not left.enabled


def test_an_event_at_the_end_of_a_run_arrives_even_if_the_process_ends_at_once(
    received: Receiver, prefect_url: str
) -> None:
    ensure_automation(settings(received.address("/drift")))
    code = """
import os
from uuid import UUID
from prefect import flow
from flows.notify import Notice, emit_drift

@flow
def drift() -> None:
    emit_drift("ended", Notice(UUID(int=1), UUID(int=2), "first", 1), "http://localhost:8000")
    os._exit(7)

drift()
"""
    assert run_python(code, prefect_url).returncode == 7
    ((_, body),) = received.wait(1)
    assert "http://localhost:8000/api/drift" in body["message"]


def test_the_address_is_shown_to_nobody_who_does_not_ask_for_secrets(received: Receiver) -> None:
    ensure_automation(settings(received.address("/secret-token")))
    with get_client(sync_client=True) as client:
        shown = client.request(
            "GET",
            "/block_types/slug/{slug}/block_documents/name/{block_document_name}",
            path_params={"slug": "slack-webhook", "block_document_name": BLOCK},
        ).text
    assert "secret-token" not in shown
    assert "secret-token" not in repr(settings(received.address("/secret-token")))


def test_a_long_list_of_descriptors_is_cut_in_the_message() -> None:
    many = tuple(Drifted(f"d{i}", "ks", 0.5, 1e-9, 1e-6) for i in range(SHOWN + 3))
    lines = text("started", Notice(WINDOW, REFERENCE, "first", 1, many), ["link"]).splitlines()
    assert len(lines) == 1 + SHOWN + 2
    assert lines[-2:] == ["And 3 more.", "link"]
